"""The upper half of the dock: what to segment, with what, and the buttons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible, QLabeledDoubleSlider

from napari_sparseseg.weights import DEFAULT_MODEL, ModelInfo

AUTO_DEVICE = ("auto", "automatic")
PRECISIONS = {
    "auto": "automatic",
    "float32": "float32",
    "bfloat16": "bfloat16",
}
_STEPS = 20  # positions of the keep-ratio slider: 0.05 to 1.00


class Controls(QWidget):
    """Choices and buttons; it knows nothing of napari or the engine.

    Attributes
    ----------
    image_changed, setup_changed : Signal()
        Another image; another model, device or precision.
    ratio_changed : Signal(float)
        The slider was moved, by the user or by :meth:`set_ratio`.
    segment, cancel, find_devices : Signal()
        A button was pressed.
    """

    image_changed = Signal()
    setup_changed = Signal()
    ratio_changed = Signal(float)
    segment = Signal()
    cancel = Signal()
    find_devices = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.image = _combo("The scan to segment: any 3-D image layer.")
        self.model = _combo("")
        self.device = _combo("Where to compute; press the arrow to list this computer's cards.")
        self.precision = _combo("bfloat16 is faster where the processor has it.")
        self.ratio = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.settings = QCollapsible("Settings")
        self.segment_button = QPushButton("Segment")
        self.cancel_button = QPushButton("Cancel")
        self.progress = QProgressBar()
        self._refresh = QToolButton()
        self._last_ratio = 0.0
        self._fill()
        self._lay_out()
        self._connect()
        self.set_busy(False)

    def _fill(self) -> None:
        self.set_devices([])
        for value, text in PRECISIONS.items():
            self.precision.addItem(text, value)
        self.ratio.setRange(1 / _STEPS, 1.0)
        self.ratio.setSingleStep(1 / _STEPS)  # type: ignore[arg-type]
        self.ratio.setPageStep(2 / _STEPS)  # type: ignore[arg-type]
        self.ratio.setDecimals(2)
        self._refresh.setText("↻")
        self._refresh.setToolTip("List the graphics cards (loads torch, takes some seconds)")
        self.segment_button.setMinimumHeight(36)
        self.segment_button.setStyleSheet("font-weight: bold; font-size: 14px;")
        self.segment_button.setToolTip("Segment the scan with these choices")
        self.cancel_button.setMinimumHeight(36)
        self.cancel_button.setToolTip("Stop; the viewer stays as it is")
        self.progress.setAlignment(Qt.AlignmentFlag.AlignCenter)

    def _lay_out(self) -> None:
        device = QHBoxLayout()
        device.addWidget(self.device, 1)
        device.addWidget(self._refresh)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow("Image", self.image)
        form.addRow("Model", self.model)
        form.addRow("Device", device)
        form.addRow("Keep ratio", self.ratio)
        precision = QWidget()
        inner = QFormLayout(precision)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.addRow("Precision", self.precision)
        self.settings.addWidget(precision)
        self.settings.setContentsMargins(0, 0, 0, 0)
        buttons = QHBoxLayout()
        buttons.addWidget(self.segment_button, 2)
        buttons.addWidget(self.cancel_button, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self.settings)
        layout.addLayout(buttons)
        layout.addWidget(self.progress)

    def _connect(self) -> None:
        self.image.currentIndexChanged.connect(lambda _: self.image_changed.emit())
        self.model.currentIndexChanged.connect(self._on_model)
        for combo in (self.device, self.precision):
            combo.currentIndexChanged.connect(lambda _: self.setup_changed.emit())
        self.ratio.valueChanged.connect(self._on_ratio)
        self.segment_button.clicked.connect(lambda: self.segment.emit())
        self.cancel_button.clicked.connect(lambda: self.cancel.emit())
        self._refresh.clicked.connect(lambda: self.find_devices.emit())

    def set_images(self, names: Iterable[tuple[object, str]]) -> None:
        """Offer these image layers, as (identifier, name); keep the choice if it is among them."""
        _offer(self.image, names, self.image_changed.emit)

    def set_models(self, models: Sequence[ModelInfo]) -> None:
        """Offer these models; the default one is chosen."""
        for info in models:
            self.model.addItem(info.title, info)
            tip = f"{info.title}\n{info.modality}\nMethod: {info.method}, at {info.spacing:g} mm"
            self.model.setItemData(self.model.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
        names = [info.name for info in models]
        if DEFAULT_MODEL in names:
            self.model.setCurrentIndex(names.index(DEFAULT_MODEL))

    def set_devices(self, devices: Iterable[tuple[str, str]]) -> None:
        """Offer these devices after "auto"; the choice stays, even if its device has gone."""
        offered = dict([AUTO_DEVICE, *devices])
        if self.device.currentData() is not None:
            offered.setdefault(self.device.currentData(), self.device.currentText())
        _offer(self.device, offered.items(), self.setup_changed.emit)

    def set_ratio(self, ratio: float) -> None:
        """Move the slider."""
        self.ratio.setValue(ratio)

    def keep_ratio(self) -> float:
        """Return the keep ratio, on the slider's steps."""
        return round(self.ratio.value() * _STEPS) / _STEPS

    def chosen_model(self) -> ModelInfo | None:
        """Return the chosen model, None if there is none."""
        info: ModelInfo | None = self.model.currentData()
        return info

    def set_busy(self, busy: bool, summary: str = "") -> None:
        """Show that a run goes on, or not and what the last one did."""
        self.segment_button.setEnabled(not busy)
        self.cancel_button.setEnabled(busy)
        if not busy:
            self.show_progress(0, 0, summary)

    def show_progress(self, done: int, total: int, what: str) -> None:
        """Show how far a run is; a total of 0 means that nobody knows."""
        self.progress.setRange(0, max(1, total))
        self.progress.setValue(done)
        self.progress.setFormat(f"{what} ({done} of {total})" if total > 1 else what)

    def _on_model(self) -> None:
        info = self.chosen_model()
        if info is None:
            return
        self.model.setToolTip(self.model.currentData(Qt.ItemDataRole.ToolTipRole))
        self.ratio.setEnabled(not is_dense(info))
        self.ratio.setToolTip(
            "This model runs every token through every block."
            if is_dense(info)
            else "Fraction of the tokens that run through every block"
        )
        self.blockSignals(True)  # it is the model that changes, not the user's wish
        self.set_ratio(info.default_keep_ratio)
        self.blockSignals(False)
        self.setup_changed.emit()

    def _on_ratio(self) -> None:
        ratio = self.keep_ratio()
        if abs(self.ratio.value() - ratio) > 1e-9:
            self.ratio.setValue(ratio)  # comes back here, on a step
        elif ratio != self._last_ratio:
            self._last_ratio = ratio
            self.ratio_changed.emit(ratio)


def is_dense(info: ModelInfo) -> bool:
    """Tell whether a model prunes nothing, so that a keep ratio means nothing to it."""
    return info.method == "dense"


def _combo(tip: str) -> QComboBox:
    combo = QComboBox()
    combo.setToolTip(tip)
    # A long name must not widen the dock.
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(12)
    combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return combo


def _offer(
    combo: QComboBox, items: Iterable[tuple[object, str]], changed: Callable[[], None]
) -> None:
    """Replace the items of a combo; call ``changed`` only if the choice is another one then."""
    before = combo.currentData()
    combo.blockSignals(True)
    combo.clear()
    for value, text in items:
        combo.addItem(text, value)
    at = next((i for i in range(combo.count()) if combo.itemData(i) == before), 0)
    combo.setCurrentIndex(at if combo.count() else -1)
    combo.blockSignals(False)
    if combo.currentData() != before:
        changed()
