"""Which map is shown, and what its colours mean: all of it as the trace declares it."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QGridLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QRadioButton,
    QVBoxLayout,
)

from napari_sparseseg import maps
from napari_sparseseg.methods import View
from napari_sparseseg.plugin.panels import Legend
from napari_sparseseg.tokens import TokenTrace
from napari_sparseseg.words import dependency_note, stage_choices

_COLUMNS = 2


class MapPanel(QGroupBox):
    """One map at a time, by radio buttons, with the legend of the chosen one.

    Attributes
    ----------
    chosen : Signal(str, int)
        Another map (one of ``maps.KINDS`` or ``maps.NONE``) or stage (from 1).
    preferred : str
        The map that the first result is shown with, if it has it.
    """

    chosen = Signal(str, int)

    def __init__(self) -> None:
        super().__init__("Map")
        self.preferred = "kept"
        self.buttons: dict[str, QRadioButton] = {}
        self.stage = QComboBox()
        self.stage.setToolTip("Where in the encoder the scores were given")
        self.legend = Legend()
        self.note = QLabel()
        self.note.setWordWrap(True)
        self._views: tuple[View, ...] = ()
        self._group = QButtonGroup(self)
        self._grid = QGridLayout()
        self._grid.setColumnStretch(_COLUMNS - 1, 1)
        chosen_stage = QHBoxLayout()
        self._stage_label = QLabel("Stage")
        chosen_stage.addWidget(self._stage_label)
        chosen_stage.addWidget(self.stage, 1)
        layout = QVBoxLayout(self)
        layout.addLayout(self._grid)
        layout.addLayout(chosen_stage)
        layout.addWidget(self.legend)
        layout.addWidget(self.note)
        self.stage.currentIndexChanged.connect(lambda _: self._emit())
        self._show_stage()

    def current(self) -> str:
        """Return the chosen map."""
        checked = (kind for kind, button in self.buttons.items() if button.isChecked())
        return next(checked, maps.NONE)

    def choose(self, kind: str) -> None:
        """Choose a map."""
        self.buttons[kind].setChecked(True)

    def current_stage(self) -> int:
        """Return the chosen stage, from 1."""
        return max(0, self.stage.currentIndex()) + 1

    def offer(self, trace: TokenTrace) -> None:
        """Offer the maps and stages of a trace; keep the choice where it has the same.

        ``chosen`` is not emitted.
        """
        if trace.views != self._views:
            self._offer_views(trace.views)
        before = self.stage.currentIndex()
        self.stage.blockSignals(True)
        self.stage.clear()
        self.stage.addItems(stage_choices(trace))
        self.stage.setCurrentIndex(before if 0 <= before < len(trace.stages) else 0)
        self.stage.blockSignals(False)
        self._show_stage()

    def explain(self, trace: TokenTrace, token: int, remark: str = "") -> None:
        """Explain the colours of the chosen map.

        Parameters
        ----------
        trace : TokenTrace
            What is shown.
        token : int
            Token whose dependencies are shown.
        remark : str
            What else to know of the result.
        """
        kind = self.current()
        view = maps.view_of(trace, kind)
        notes = [dependency_note(trace, token)] if kind == "dependencies" else []
        about = view.about if view is not None else ""
        self._set(maps.legend_of(trace, kind), [remark, *notes, about])

    def explain_preview(self, entries: list[maps.Entry]) -> None:
        """Explain the colours of a preview."""
        self._set(entries, [maps.PREVIEW_NOTE])

    def _offer_views(self, views: tuple[View, ...]) -> None:
        before = self.current() if self._views else self.preferred
        for button in self.buttons.values():
            self._group.removeButton(button)
            button.setParent(None)
            button.deleteLater()
        self._views = views
        titles = {view.kind: view.title for view in views}
        self.buttons = {
            kind: QRadioButton(title) for kind, title in [*titles.items(), (maps.NONE, "none")]
        }
        for number, (kind, button) in enumerate(self.buttons.items()):
            self._group.addButton(button)
            self._grid.addWidget(button, number // _COLUMNS, number % _COLUMNS)
            view = next((view for view in views if view.kind == kind), None)
            button.setToolTip(view.about if view is not None else "The segmentation alone")
        self.choose(before if before in self.buttons else views[0].kind)
        for button in self.buttons.values():
            button.toggled.connect(self._on_button)

    def _set(self, entries: list[maps.Entry], notes: list[str]) -> None:
        self.legend.set_rows(
            (e.color, e.text, "" if e.count is None else f"{e.count:,} tokens") for e in entries
        )
        self.note.setText("\n".join(filter(None, notes)))
        self.note.setVisible(bool(self.note.text()))
        self.legend.setVisible(bool(entries))  # an empty one would keep its height

    def _on_button(self, checked: bool) -> None:
        if checked:  # the button that lost the choice says so too
            self._emit()

    def _emit(self) -> None:
        self._show_stage()
        self.chosen.emit(self.current(), self.current_stage())

    def _show_stage(self) -> None:
        useful = self.current() == "importance" and self.stage.count() > 0
        self.stage.setVisible(useful)
        self._stage_label.setVisible(useful)
