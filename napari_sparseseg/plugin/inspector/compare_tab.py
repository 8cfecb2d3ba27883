"""The tab "Compare" of the inspector: what differs, from what, and whose fault it is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QShortcut,
    QStackedWidget,
    QVBoxLayout,
)

from napari_sparseseg.errors import SparseSegError
from napari_sparseseg.plugin.aside import Aside
from napari_sparseseg.plugin.inspector.comparing import Compared, Comparing
from napari_sparseseg.plugin.inspector.difference import DifferenceLayer, largest_difference
from napari_sparseseg.plugin.inspector.findings import Findings
from napari_sparseseg.plugin.inspector.references import Reference, reference_layers
from napari_sparseseg.plugin.inspector.tab import Tab
from napari_sparseseg.plugin.inspector.targets import (
    DENSE_KEY,
    SETTING_KEY,
    Key,
    Target,
    targets,
)
from napari_sparseseg.plugin.setting import SettingSlider
from napari_sparseseg.report import NOTICE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_sparseseg.analysis.inspection import Inspection
    from napari_sparseseg.methods import Control
    from napari_sparseseg.plugin.inspector.panel import Inspector
    from napari_sparseseg.plugin.shown import Shown

SHORTCUT = "Alt+M"  # Alt+C copies a screenshot in napari
_NOTHING = "Segment a scan first."
_READY = "Choose what to compare the result with, and press Compare."
_SLIDER = 220  # pixels


class CompareTab(Tab):
    """Compares the shown result with another one, or with labels of the user.

    Attributes
    ----------
    target : QComboBox
        What to compare with; its data are :class:`Target`.
    setting : SettingSlider
        For another setting of the same method: which.
    resample, follow, button
        The other choices, and the button.
    findings : Findings
        What a comparison found.
    difference : DifferenceLayer
        Where.

    Parameters
    ----------
    inspector : Inspector
        What it belongs to.
    """

    title = "Compare"
    about = "Where the result differs from the dense twin, another run or a reference, and why"

    def __init__(self, inspector: Inspector) -> None:
        super().__init__(inspector)
        self.target = QComboBox()
        self.setting = SettingSlider()
        self.resample = QCheckBox("Allow resampling")
        self.button = QPushButton(f"Compare ({SHORTCUT})")
        self.follow = QCheckBox("Follow the slider")
        self.findings = Findings()
        self.difference = DifferenceLayer(inspector.viewer)
        self._hint = QLabel(_NOTHING)
        self._pages = QStackedWidget()
        self._shown: Shown | None = None
        self._control: Control | None = None
        self._key = DENSE_KEY
        self._aside = Aside()
        self._lay_out()
        self._connect()
        self._offer()

    def _lay_out(self) -> None:
        self.target.setMinimumContentsLength(26)
        self.target.setToolTip("What to compare the shown result with")
        self.setting.setFixedWidth(_SLIDER)
        self.resample.setToolTip(
            "Bring a reference of another grid to that of the scan, by the nearest voxel"
        )
        self.button.setToolTip("Compare the shown result with what is chosen")
        self.follow.setToolTip("Compare anew whenever another result is shown")
        self.follow.setEnabled(False)  # there is nothing to repeat yet
        notice = QLabel(NOTICE)
        notice.setStyleSheet("font-style: italic;")
        row = QHBoxLayout()
        row.addWidget(QLabel("Compare with"))
        for widget in (self.target, self.setting, self.resample, self.button, self.follow):
            row.addWidget(widget)
        row.addStretch(1)
        row.addWidget(notice)
        self._hint.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._hint.setWordWrap(True)
        self._pages.addWidget(self._hint)
        self._pages.addWidget(self.findings)
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 4, 4, 0)
        column.setSpacing(4)
        column.addLayout(row)
        column.addWidget(self._pages, 1)

    def _connect(self) -> None:
        layers, inspector = self.inspector.viewer.layers, self.inspector
        self._events = (layers.events.inserted, layers.events.removed, layers.events.renamed)
        for event in self._events:
            event.connect(self._offer)
        self.target.currentIndexChanged.connect(lambda _: self._on_target())
        self.button.clicked.connect(lambda _: self.compare())
        QShortcut(QKeySequence(SHORTCUT), inspector).activated.connect(self.compare)
        self.findings.structure_opened.connect(self._go_to_largest)
        self.findings.visible.toggled.connect(self.difference.set_visible)
        self.difference.visibility.connect(self.findings.visible.setChecked)
        inspector.closing.connect(self._release)

    # What the inspector tells

    def show_result(self, shown: Shown | None) -> None:
        """Offer what this result can be compared with; compare anew if asked to follow."""
        self._shown = shown
        self._aside.drop()
        self._offer()
        if shown is not None and self.follow.isChecked() and not self.inspector.dock.busy:
            self._compare(locked=False)

    def show_inspection(self, inspection: Inspection | None) -> None:
        """Show what a comparison found, or ask for one."""
        if inspection is None:
            self.difference.remove()
            self._pages.setCurrentWidget(self._hint)
            return
        self.findings.show_inspection(inspection)
        self._pages.setCurrentWidget(self.findings)

    # What the user does

    def compare(self) -> None:
        """Compare the shown result with what is chosen, as the button does."""
        if self._shown is None:
            self.inspector.dock.message.show_note(_NOTHING)
        else:
            self._compare()

    def compare_with_dense(self) -> None:
        """Choose the dense twin, and compare."""
        self._choose(DENSE_KEY)
        self.compare()

    def chosen(self) -> Target | None:
        """Return what the result is to be compared with, None where there is no result."""
        target: Target | None = self.target.currentData()
        if target is not None and target.key == SETTING_KEY:
            return target.at(self.setting.value())
        return target

    def _compare(self, locked: bool = True) -> None:
        shown, target = self._shown, self.chosen()
        image = self.inspector.dock.image()
        if shown is None or target is None or image is None:
            return
        reference = None
        try:
            if target.layer is not None:
                reference = Reference.of(target.layer, image, shown.request.scan)
        except SparseSegError as error:
            self.inspector.dock.refuse(str(error))
            return
        resample, low = self.resample.isChecked(), self.inspector.notes.low.value()
        work = Comparing(shown.answer, shown.runs, target, reference, resample, low)
        self.inspector.perform(
            work, lambda compared: self._on_compared(compared, target, shown), locked
        )

    def _on_compared(self, compared: Compared, target: Target, shown: Shown) -> None:
        shown.remember_dense(compared.dense)
        layer = target.layer
        if layer is not None:
            if layer not in self.inspector.viewer.layers:
                self.inspector.dock.refuse(
                    f"{layer.name} was removed before the comparison was done; choose something "
                    "else to compare with."
                )
                return
            named = replace(compared.inspection, other_title=f"reference: {layer.name}")
            compared = replace(compared, inspection=named)
        self.follow.setEnabled(True)
        self.inspector.show_compared(compared)

    def _go_to_largest(self, structure: int) -> None:
        inspection = self.inspector.inspection
        if inspection is not None:
            self._aside.ask(lambda: largest_difference(inspection, structure), self._go_to)

    def _go_to(self, found: tuple[int, NDArray[np.float64]] | None) -> None:
        if found is not None:
            token, point = found
            self.inspector.choose_token(token)
            self.inspector.go_to(point)

    # What there is to choose from

    def _offer(self, event: Any = None) -> None:
        """Offer the targets of the shown result; keep the choice, or end the following."""
        shown = self._shown
        offered = [] if shown is None else targets(shown, reference_layers(self.inspector.viewer))
        self.target.blockSignals(True)
        self.target.clear()
        for place, target in enumerate(offered):
            self.target.addItem(target.title, target)
            self.target.setItemData(place, target.about, Qt.ItemDataRole.ToolTipRole)
        self.target.blockSignals(False)
        if offered and not self._choose(self._key):
            self.follow.setChecked(False)
        self._offer_setting()
        self._on_target()
        for widget in (self.target, self.button):
            widget.setEnabled(shown is not None)
        self._hint.setText(_NOTHING if shown is None else _READY)

    def _choose(self, key: Key) -> bool:
        """Choose a target; tell whether it is offered."""
        for place in range(self.target.count()):
            if self.target.itemData(place).key == key:
                self.target.setCurrentIndex(place)
                return True
        return False

    def _offer_setting(self) -> None:
        """Fit the slider to the method in force; it stays where it can."""
        choice = self._shown.request.choice if self._shown is not None else None
        control = choice.control if choice is not None else None
        if choice is None or control is None or self._shown is None or control == self._control:
            return
        self._control = control
        now = self._shown.request.setting or 1.0
        other = (1 + now) / 2 if now < 1 else (1 + control.low) / 2
        self.setting.offer(control, other, choice.about_setting)

    def _on_target(self) -> None:
        target: Target | None = self.target.currentData()
        if target is not None:
            self._key = target.key
        self.setting.setVisible(target is not None and target.key == SETTING_KEY)
        self.resample.setVisible(target is not None and target.layer is not None)
        self.target.setToolTip(target.about if target is not None else "")

    def _release(self) -> None:
        """Leave nothing in the viewer, and follow no more."""
        self.follow.setChecked(False)
        for event in self._events:
            event.disconnect(self._offer)
        self.difference.release()
        self._aside.close()
        self._shown = None
