"""The lower half of the dock: which map, what its colours mean, and the figures of the run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QFrame,
    QGridLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QRadioButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_sparseseg.plugin import maps

_TITLES = {
    maps.NONE: "none",
    maps.IMPORTANCE: "importance",
    maps.KEPT: "kept / pruned",
    maps.DEPTH: "depth",
}
_BAR_MARGIN = 4  # style sheets give scroll bars a margin that their size hint leaves out
_TISSUE = 160  # grey value on which the legend shows colours that are not opaque
_IMPORTANCE_NOTE = (
    "Rank of each token among those scored at this stage: 0 least, 1 most important. "
    "Tokens without a colour were not scored."
)


class ScrollingColumn(QScrollArea):
    """A column that scrolls up and down and is never narrower than its content.

    Parameters
    ----------
    content : QWidget
        What scrolls.
    """

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setWidget(content)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

        self._settled = QTimer(self)
        self._settled.setSingleShot(True)
        self._settled.setInterval(50)
        self._settled.timeout.connect(self._fit_width)
        self._settled.start()

    def fit(self) -> None:
        """Follow the content's least width, once what it shows is laid out and styled."""
        self._settled.start()

    def _fit_width(self) -> None:
        content, bar = self.widget(), self.verticalScrollBar()
        if content is not None and bar is not None:
            beside = bar.sizeHint().width() + _BAR_MARGIN
            self.setMinimumWidth(content.minimumSizeHint().width() + beside)


class Message(QLabel):
    """A sentence to the user that stays until the next action."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.hide()

    def show_error(self, text: str) -> None:
        """Show what went wrong."""
        self._show(text, "background: #7d1f1f; color: white;")

    def show_note(self, text: str) -> None:
        """Show something worth knowing."""
        self._show(text, "background: #1f4a7d; color: white;")

    def dismiss(self) -> None:
        """Take the sentence away."""
        self.clear()
        self.hide()

    def _show(self, text: str, style: str) -> None:
        self.setStyleSheet(f"{style} padding: 6px; border-radius: 3px;")
        self.setText(text)
        self.show()


class Legend(QWidget):
    """Rows of a coloured square, a name and a figure.

    Attributes
    ----------
    rows : list of (str, str, str)
        What is shown: colour, name, figure.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[str, str, str]] = []
        self._cells: list[tuple[QLabel, QLabel, QLabel]] = []
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setVerticalSpacing(0)
        self._grid.setColumnStretch(1, 1)

    def set_rows(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Show these rows: colour, name, figure."""
        self.rows = list(rows)
        while len(self._cells) < len(self.rows):
            self._add_cells()
        for number, cells in enumerate(self._cells):
            for cell in cells:
                cell.setVisible(number < len(self.rows))
        for (square, name, figure), row in zip(self._cells, self.rows, strict=False):
            style = f"background: {over_grey(row[0])}; border: 1px solid #808080;"
            if square.styleSheet() != style:  # costly, and the slider asks for it at every step
                square.setStyleSheet(style)
            name.setText(row[1])
            figure.setText(row[2])

    def _add_cells(self) -> None:
        square, name, figure = QLabel(), QLabel(), QLabel()
        square.setFixedSize(12, 12)
        figure.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        for column, cell in enumerate((square, name, figure)):
            self._grid.addWidget(cell, len(self._cells), column)
        self._cells.append((square, name, figure))


class MapPanel(QGroupBox):
    """One map at a time, by radio buttons, with the legend of the chosen one.

    Attributes
    ----------
    chosen : Signal(str, int)
        Another map (one of ``maps.MAPS``) or stage (from 1).
    """

    chosen = Signal(str, int)

    def __init__(self) -> None:
        super().__init__("Map")
        self.buttons = {name: QRadioButton(title) for name, title in _TITLES.items()}
        self.stage = QComboBox()
        self.stage.setToolTip("Stage whose scores are shown")
        self.legend = Legend()
        self.note = QLabel()
        self.note.setWordWrap(True)
        group = QButtonGroup(self)
        grid = QGridLayout()
        grid.setColumnStretch(1, 1)
        for number, button in enumerate(self.buttons.values()):
            group.addButton(button)
            grid.addWidget(button, number % 2, number // 2)
        chosen_stage = QHBoxLayout()
        self._stage_label = QLabel("Stage")
        chosen_stage.addWidget(self._stage_label)
        chosen_stage.addWidget(self.stage, 1)
        layout = QVBoxLayout(self)
        layout.addLayout(grid)
        layout.addLayout(chosen_stage)
        layout.addWidget(self.legend)
        layout.addWidget(self.note)
        self.buttons[maps.KEPT].setChecked(True)
        for button in self.buttons.values():
            button.toggled.connect(self._on_button)
        self.stage.currentIndexChanged.connect(lambda _: self._emit())
        self._show_stage()

    def current(self) -> str:
        """Return the chosen map."""
        return next(name for name, button in self.buttons.items() if button.isChecked())

    def choose(self, name: str) -> None:
        """Choose a map."""
        self.buttons[name].setChecked(True)

    def current_stage(self) -> int:
        """Return the chosen stage, from 1."""
        return max(0, self.stage.currentIndex()) + 1

    def set_stages(self, blocks: tuple[int, ...]) -> None:
        """Offer the stages, each told by the number of blocks before it; keep the choice."""
        before = self.stage.currentIndex()
        self.stage.blockSignals(True)
        self.stage.clear()
        for number, after in enumerate(blocks, start=1):
            self.stage.addItem(f"{number}, after {after} blocks")
        self.stage.setCurrentIndex(before if 0 <= before < len(blocks) else 0)
        self.stage.blockSignals(False)
        self._show_stage()

    def set_legend(self, entries: Iterable[maps.Entry], note: str = "") -> None:
        """Explain the colours of the chosen map."""
        self.legend.set_rows(
            (e.color, e.text, "" if e.count is None else f"{e.count:,} tokens") for e in entries
        )
        self.note.setText(_IMPORTANCE_NOTE if self.current() == maps.IMPORTANCE else note)
        self.note.setVisible(bool(self.note.text()))

    def _on_button(self, checked: bool) -> None:
        if checked:  # the button that lost the choice says so too
            self._emit()

    def _emit(self) -> None:
        self._show_stage()
        self.chosen.emit(self.current(), self.current_stage())

    def _show_stage(self) -> None:
        useful = self.current() == maps.IMPORTANCE and self.stage.count() > 0
        self.stage.setVisible(useful)
        self._stage_label.setVisible(useful)


class Structures(QGroupBox):
    """The classes with their colours and volumes."""

    def __init__(self) -> None:
        super().__init__("Structures")
        self.legend = Legend()
        QVBoxLayout(self).addWidget(self.legend)

    def show_report(self, report: dict[str, Any], colors: tuple[str, ...]) -> None:
        """Show the classes of a report; ``colors`` begins with background."""
        self.legend.set_rows(
            (color, name, f"{facts['millilitres']:,.1f} ml")
            for color, (name, facts) in zip(colors[1:], report["classes"].items(), strict=True)
        )


class Results(QGroupBox):
    """What a run did, in numbers with units.

    Attributes
    ----------
    figures : dict of str
        What is shown, by name.
    """

    def __init__(self) -> None:
        super().__init__("This run")
        self.figures: dict[str, str] = {}
        self._grid = QGridLayout(self)
        self._grid.setColumnStretch(1, 1)
        self._grid.setVerticalSpacing(0)

    def show_report(self, report: dict[str, Any], saved: float) -> None:
        """Show a report, and the share of blocks that was saved."""
        self.figures = figures(report, saved)
        while (item := self._grid.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.deleteLater()
        for number, (name, value) in enumerate(self.figures.items()):
            self._grid.addWidget(QLabel(name), number, 0)
            self._grid.addWidget(QLabel(value), number, 1)


def figures(report: dict[str, Any], saved: float) -> dict[str, str]:
    """Put a report into words.

    Parameters
    ----------
    report : dict
        See :func:`napari_sparseseg.report.make_report`.
    saved : float
        See :func:`maps.blocks_saved`.

    Returns
    -------
    dict of str
        Values with their units, by name.
    """
    tokens, gmacs, seconds = report["tokens"], report["gmacs"], report["seconds"]
    inside = max(1, tokens["total"] - tokens["air"])
    parts = {
        f"    {name.replace('_', ' ')}": f"{value:.2f} s"
        for name, value in seconds.items()
        if name != "total" and value > 0
    }
    return {
        "Keep ratio": f"{report['keep_ratio']:.2f}",
        "Tokens": f"{tokens['total']:,} ({tokens['air']:,} air)",
        "Kept": f"{tokens['kept']:,} ({tokens['kept'] / inside:.0%} of non-air)",
        "Pruned": f"{tokens['pruned']:,} ({tokens['pruned'] / inside:.0%} of non-air)",
        "Blocks saved": f"{saved:.0%} of the encoder's",
        "Compute": f"{gmacs['run']:,.1f} GMACs (dense {gmacs['dense']:,.1f})",
        "Time": f"{seconds['total']:.1f} s",
        **parts,
        "Memory": f"{report['peak_memory_mb']:,.0f} MB at most",
        "Computed": f"on {report['device']} in {report['precision']}",
    }


def summary(report: dict[str, Any], saved: float) -> str:
    """Put a report into one short line; arguments as for :func:`figures`."""
    tokens = report["tokens"]
    inside = max(1, tokens["total"] - tokens["air"])
    return (
        f"{report['seconds']['total']:.1f} s, {tokens['kept'] / inside:.0%} of tokens kept, "
        f"{saved:.0%} of blocks saved"
    )


def over_grey(color: str) -> str:
    """Return what a colour "#rrggbb" or "#rrggbbaa" looks like on tissue, as "#rrggbb"."""
    red, green, blue, alpha = bytes.fromhex(color[1:].ljust(8, "f"))
    mixed = (round((c * alpha + _TISSUE * (255 - alpha)) / 255) for c in (red, green, blue))
    return f"#{bytes(mixed).hex()}"
