"""The tab "Curve": one scan at many settings, and the setting that is small enough."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_sparseseg.analysis.swept import Sweep, SweepPoint
from napari_sparseseg.errors import SparseSegError
from napari_sparseseg.plugin import preferences
from napari_sparseseg.plugin.inspector.curve_data import Curve, Packed, in_words
from napari_sparseseg.plugin.inspector.curve_plot import CurvePlot, is_dark
from napari_sparseseg.plugin.inspector.references import Reference, reference_layers
from napari_sparseseg.plugin.inspector.tab import Tab
from napari_sparseseg.plugin.preferences import POINTS
from napari_sparseseg.plugin.runner import Answer
from napari_sparseseg.plugin.shown import twin_of

if TYPE_CHECKING:
    from napari_sparseseg.methods import Control
    from napari_sparseseg.plugin.inspector.panel import Inspector
    from napari_sparseseg.plugin.shown import Shown
    from napari_sparseseg.progress import CancelToken, Progress
    from napari_sparseseg.session import Segmentation, Session

_LOOK_SECONDS = 0.05  # between two looks at whether a sweep was cancelled
_NOTHING_SHOWN = "Segment a scan first."
_PRESS = (
    "Press Run the curve: it segments this scan at each setting, and shows what Dice, time and "
    "compute lose or gain."
)
_STALE = "The curve was of another scan or model; press Run the curve again."
_OWN_RULE_ONLY = (
    "Choose the method's own rule to run its curve; random pruning can be shown beside it."
)
_SIDE_WIDTH = 250


class CurveTab(Tab):
    """Sweeps the setting of the shown result, and proposes the smallest one that is good enough.

    Attributes
    ----------
    swept : Signal(Sweep)
        A sweep is done.
    sweep : Sweep or None
        The curve that holds for the shown scan and model.
    """

    title = "Curve"
    about = "What Dice, time and compute lose or gain at each setting, and the setting to choose."
    swept = Signal(object)
    _began = Signal(object)
    _found = Signal(object, object, object)
    _ended = Signal()

    def __init__(self, inspector: Inspector) -> None:
        super().__init__(inspector)
        self._curve: Curve | None = None
        self._growing: Curve | None = None
        self._control: Control | None = None
        self.settings = QLineEdit()
        self.reference = QComboBox()
        self.random = QCheckBox("with random")
        self.run_button = QPushButton("Run the curve")
        self.plot = CurvePlot()
        self.tolerance = QDoubleSpinBox()
        self.proposal = QLabel()
        self.load_button = QPushButton("Load the proposed")
        self.save_button = QPushButton("Save…")
        self._fill()
        self._lay_out()
        self._connect()
        self._offer_references()

    @property
    def sweep(self) -> Sweep | None:
        """The curve that holds for the shown scan and model."""
        return None if self._curve is None else self._curve.sweep

    @property
    def loss(self) -> float:
        """Mean Dice that the proposed setting may lose."""
        return self.tolerance.value() / POINTS

    # What it looks like

    def _fill(self) -> None:
        self.settings.setToolTip("Settings to run, in (0, 1]; 1 leaves nothing out and always runs")
        self.reference.setToolTip(
            "True labels: Dice is then to them, else to the dense twin (the same network with "
            "nothing pruned)"
        )
        self.reference.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.reference.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.random.setChecked(True)
        self.random.setToolTip(
            "Also draw as many tokens at random: what an informed rule must beat (about twice "
            "the time)"
        )
        self.tolerance.setRange(0.0, 100.0)
        self.tolerance.setDecimals(2)
        self.tolerance.setSingleStep(0.1)
        self.tolerance.setValue(preferences.load().tolerance)
        self.tolerance.setSuffix(" Dice points")
        self.tolerance.setToolTip(
            "Mean Dice that the proposed setting may lose; a point is a hundredth"
        )
        self.proposal.setWordWrap(True)
        self.load_button.setToolTip("Show the result at the proposed setting, without running it")
        self.save_button.setToolTip("Write sweep.json, sweep.csv and sweep.png into a folder")

    def _lay_out(self) -> None:
        self._name = QLabel("Settings")
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow(self._name, self.settings)
        form.addRow("Reference", self.reference)
        form.addRow("", self.random)
        left = _column(form, self.run_button)
        loss = QFormLayout()
        loss.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        loss.addRow("May lose", self.tolerance)
        right = _column(loss, self.proposal, self.load_button, self.save_button)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 2)
        layout.addWidget(left)
        layout.addWidget(self.plot, 1)
        layout.addWidget(right)

    def _connect(self) -> None:
        self.run_button.clicked.connect(lambda _: self.run())
        self.plot.picked.connect(self.load)
        self.tolerance.valueChanged.connect(self._on_tolerance)
        self.load_button.clicked.connect(lambda _: self._load_proposed())
        self.save_button.clicked.connect(lambda _: self._choose_folder())
        self._began.connect(self._on_began)
        self._found.connect(self._on_found)
        self._ended.connect(self._on_ended)
        events = self.inspector.viewer.layers.events
        self._events = (events.inserted, events.removed, events.renamed)
        for event in self._events:
            event.connect(self._offer_references)
        self.inspector.viewer.events.theme.connect(self._on_theme)
        self.inspector.closing.connect(self._release)

    def _offer_references(self, event: Any = None) -> None:
        before = self.reference.currentData()
        self.reference.clear()
        self.reference.addItem("none", None)
        for layer in reference_layers(self.inspector.viewer):
            self.reference.addItem(layer.name, layer.unique_id)
        self.reference.setCurrentIndex(max(0, self.reference.findData(before)))

    def _on_theme(self, event: Any = None) -> None:
        self._show()

    def _on_tolerance(self, points: float) -> None:
        preferences.keep(tolerance=points)
        self._show()

    def _release(self) -> None:
        """Follow the viewer, which goes on without the inspector, no more."""
        for event in self._events:
            event.disconnect(self._offer_references)
        self.inspector.viewer.events.theme.disconnect(self._on_theme)

    # What the user does

    def run(self) -> None:
        """Sweep the settings of the line, as the button does."""
        shown = self.inspector.shown
        if shown is None or self._why_not(shown):
            return
        try:
            settings = self._asked(shown)
            reference = self._reference(shown)
        except SparseSegError as error:
            self.inspector.dock.refuse(str(error))
            return
        random, growing = self.random.isChecked(), Curve(shown.request)

        def work(session: Session, progress: Progress, cancel: CancelToken) -> Sweep:
            from napari_sparseseg.analysis.sweep import sweep

            def found(point: SweepPoint, result: Segmentation) -> None:
                drawn = threading.Event()
                self._found.emit(point, Packed.of(result), drawn)
                # the next run is timed: the window must not draw the curve beside it
                while not (drawn.wait(_LOOK_SECONDS) or cancel.cancelled):
                    pass

            self._began.emit(growing)
            try:
                return sweep(
                    session,
                    settings,
                    reference=None if reference is None else reference.volume(),
                    random=random,
                    on_result=found,
                    progress=progress,
                    cancel=cancel,
                )
            finally:
                self._ended.emit()  # arrives before the sweep itself, and also where there is none

        self.inspector.perform(work, lambda sweep: self._on_done(growing, sweep))

    def load(self, setting: float) -> None:
        """Show the result at a setting of the curve; undo leads back."""
        curve, shown = self._curve, self.inspector.shown
        if curve is None or shown is None or not self.inspector.is_ready():
            return
        request = replace(curve.request, setting=setting)
        if not request.same_as(shown.request):
            self.inspector.dock.show_answer(Answer(request, curve.results[setting].unpacked()))

    def save(self, folder: Path, overwrite: bool = False) -> None:
        """Write the curve into a folder, and say so.

        Parameters
        ----------
        folder : Path
            Made where it does not exist.
        overwrite : bool
            Replace files that exist.
        """
        from napari_sparseseg.analysis.sweep import SWEEP_FILES, write_sweep

        if self.sweep is None:
            return
        dock = self.inspector.dock
        try:
            write_sweep(self.sweep, folder, proposed=self._proposed(), overwrite=overwrite)
        except SparseSegError as error:
            dock.refuse(str(error))
            return
        dock.message.show_note(f"Saved {', '.join(SWEEP_FILES)} in {folder}.")

    def _load_proposed(self) -> None:
        proposed = self._proposed()
        if proposed is not None:
            self.load(proposed)

    def _choose_folder(self) -> None:
        from napari_sparseseg.analysis.sweep import SWEEP_FILES

        chosen = QFileDialog.getExistingDirectory(self, "Save the curve in a folder")
        if not chosen:
            return
        folder = Path(chosen)
        there = [name for name in SWEEP_FILES if (folder / name).exists()]
        # the dialog asks about a folder, and not about what lies in it
        if not there or self._may_replace(there, folder):
            self.save(folder, overwrite=bool(there))

    def _may_replace(self, files: list[str], folder: Path) -> bool:
        question = f"Replace {', '.join(files)} in {folder}?"
        answer = QMessageBox.question(self, "Save the curve", question)
        return bool(answer == QMessageBox.StandardButton.Yes)

    def _asked(self, shown: Shown) -> tuple[float, ...]:
        from napari_sparseseg.analysis.sweep import planned_settings, read_settings

        return planned_settings(shown.request.choice.control, read_settings(self.settings.text()))

    def _reference(self, shown: Shown) -> Reference | None:
        layers = reference_layers(self.inspector.viewer)
        chosen = self.reference.currentData()
        layer = next((x for x in layers if x.unique_id == chosen), None)
        image = self.inspector.dock.image()
        if layer is None or image is None:
            return None
        return Reference.of(layer, image, shown.request.scan)

    # What the engine found

    def _on_began(self, curve: Curve) -> None:
        self._growing = curve
        self._show()

    def _on_found(self, point: SweepPoint, result: Packed, drawn: threading.Event) -> None:
        try:
            if self._growing is not None:
                self._growing.add(point, result)
                self._show()
        finally:
            drawn.set()

    def _on_ended(self) -> None:
        self._growing = None
        self._show()

    def _on_done(self, curve: Curve, sweep: Sweep) -> None:
        curve.sweep = sweep
        self._curve = curve
        shown = self.inspector.shown
        if shown is not None and shown.dense_twin() is None:
            twin = twin_of(curve.request)
            shown.remember_dense(Answer(twin, curve.results[1.0].unpacked()))
        self._show()
        self.swept.emit(sweep)

    # What is shown

    def show_result(self, shown: Shown | None) -> None:
        """Follow the dock; a curve of another scan or model goes."""
        stale = False
        if self._curve is not None:
            stale = shown is None or not self._curve.holds_for(shown.request)
        if stale:
            self._curve = None
        choice = None if shown is None else shown.request.choice
        control = None if choice is None else choice.control
        if choice is not None and control is not None and control != self._control:
            from napari_sparseseg.analysis.sweep import default_settings

            self._control = control
            self._name.setText(f"{control.name.capitalize()}s")
            self._name.setToolTip(choice.about_setting)
            self.settings.setText(", ".join(f"{x:g}" for x in default_settings(control)))
        self._show(_STALE if stale and shown is not None else _PRESS)

    def _show(self, hint: str = _PRESS) -> None:
        """Bring all that is shown to the present curve."""
        shown = self.inspector.shown
        why_not = _NOTHING_SHOWN if shown is None else self._why_not(shown)
        self.run_button.setEnabled(not why_not and self._growing is None)
        self.run_button.setToolTip(why_not or "Segment the scan at each of these settings")
        done = self._growing is None and self.sweep is not None
        self.save_button.setEnabled(done)
        proposed = self._proposed() if done else None
        self.load_button.setEnabled(proposed is not None and proposed != self._chosen())
        self.proposal.setText(in_words(self.sweep, self.loss) if done and self.sweep else "")
        sweep = self.sweep if self._growing is None else self._growing.sweep
        if sweep is None:
            self.plot.say("Running" if self._growing else why_not or hint)
        else:
            dark = is_dark(self.inspector.viewer.theme)
            self.plot.draw(sweep, dark=dark, chosen=self._chosen(), proposed=proposed)

    def _why_not(self, shown: Shown) -> str:
        """Say why no curve can be run, "" where one can."""
        choice = shown.request.choice
        if choice.control is None:
            return f"{choice.rule.title} has no setting to sweep: {choice.rule.about}"
        return _OWN_RULE_ONLY if choice.sparsifier else ""

    def _proposed(self) -> float | None:
        if self.sweep is None:
            return None
        return self.sweep.propose(self.loss).setting

    def _chosen(self) -> float | None:
        """Return the setting of the curve that is shown in the viewer, if one is."""
        curve, shown = self._growing or self._curve, self.inspector.shown
        if curve is None or shown is None or not curve.request.shares_session(shown.request):
            return None
        return shown.request.setting


def _column(*parts: QWidget | QFormLayout) -> QWidget:
    column = QWidget()
    column.setFixedWidth(_SIDE_WIDTH)
    layout = QVBoxLayout(column)
    layout.setContentsMargins(0, 0, 0, 0)
    for part in parts:
        if isinstance(part, QWidget):
            layout.addWidget(part)
        else:
            layout.addLayout(part)
    layout.addStretch(1)
    layout.setAlignment(Qt.AlignmentFlag.AlignTop)
    return column
