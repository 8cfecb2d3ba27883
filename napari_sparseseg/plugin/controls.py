"""The upper half of the dock: what to segment, with what, and the buttons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QShortcut,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_sparseseg.catalog import Choice, Task, task_of_file, tasks
from napari_sparseseg.plugin.chooser import OWN_RULE, MethodChooser
from napari_sparseseg.plugin.setting import SettingSlider
from napari_sparseseg.weights import DEFAULT_MODEL, ModelInfo

if TYPE_CHECKING:
    from napari_sparseseg.plugin.preferences import Preferences

AUTO_DEVICE = ("auto", "automatic")
PRECISIONS = {
    "auto": "automatic",
    "float32": "float32",
    "bfloat16": "bfloat16",
}

MOST_MEMORY_GB = 4096.0

KEYS = {"Segment": "Alt+Return", "Inspect": "Alt+I", "Keep": "Alt+K", "Undo": "Alt+Z"}
"""Shortcuts of buttons, by their text; napari and its menus use none of them."""


class Controls(QWidget):
    """Choices and buttons; it knows nothing of napari or the engine.

    Attributes
    ----------
    image_changed, setup_changed : Signal()
        Another image; another task, device, precision or memory.
    choice_changed : Signal()
        The user clicked on another method or control.
    setting_changed : Signal(float)
        The user moved the slider.
    segment, segment_all, cancel, keep, undo, inspect, find_devices : Signal()
        A button was pressed.
    device_gone : Signal(str)
        The device of last time is not there any more; another one is chosen.
    open_model : Signal(str)
        The user chose a model file.
    prefix : str
        What stands before the progress.
    """

    image_changed = Signal()
    setup_changed = Signal()
    choice_changed = Signal()
    setting_changed = Signal(float)
    segment = Signal()
    segment_all = Signal()
    cancel = Signal()
    keep = Signal()
    undo = Signal()
    inspect = Signal()
    find_devices = Signal()
    device_gone = Signal(str)
    open_model = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.image = _combo("The scan to segment: any 3-D image layer.")
        self.task = _combo("What the network was trained to segment.")
        self.chooser = MethodChooser()
        self.device = _combo("Where to compute; press the arrow to list this computer's cards.")
        self.precision = _combo("bfloat16 is faster where the processor has it.")
        self.memory = QDoubleSpinBox()
        self.setting = SettingSlider()
        self.follow = QCheckBox("Follow the slider")
        self.all_button = QPushButton("Segment all open scans")
        self.choices = QWidget()
        self.settings = QCollapsible("Settings")
        self.segment_button = _button("Segment")
        self.cancel_button = QPushButton("Cancel")
        self.keep_button = _button("Keep")
        self.undo_button = _button("Undo")
        self.after = QWidget()
        self.inspect_button = _button("Inspect")
        self.open_button = QToolButton()
        self.progress = QProgressBar()
        self._refresh = QToolButton()
        self.prefix = ""
        self._restored_device = ""
        self._values: dict[str, float] = {}  # where the user left the slider, by model file
        self._fill()
        self._lay_out()
        self._connect()
        self.set_busy(False)

    def _fill(self) -> None:
        self.set_devices([])
        for value, text in PRECISIONS.items():
            self.precision.addItem(text, value)
        self.open_button.setText("Open…")
        self.open_button.setToolTip("Open model file: your own checkpoint (.safetensors)")
        self.memory.setRange(0.0, MOST_MEMORY_GB)
        self.memory.setDecimals(1)
        self.memory.setSuffix(" GB")
        self.memory.setSpecialValueText("automatic")
        self.memory.setKeyboardTracking(False)  # the number counts when it is written to its end
        self.memory.setToolTip(
            "The most memory that a run may take, of the computer and of the graphics card; "
            "automatic takes most of what is free"
        )
        self._refresh.setText("↻")
        self._refresh.setToolTip("List the graphics cards (loads torch, takes some seconds)")
        self.follow.setChecked(True)
        self.follow.setToolTip("Segment again when the slider rests, without Segment")
        self.all_button.setToolTip("Every open image, one after the other, with these choices")
        self.segment_button.setMinimumHeight(36)
        self.segment_button.setStyleSheet("font-weight: bold; font-size: 14px;")
        self.segment_button.setToolTip("Segment the scan with these choices")
        self.cancel_button.setMinimumHeight(36)
        self.cancel_button.setToolTip("Stop; the viewer stays as it is")
        self.keep_button.setToolTip(
            "Leave this result in the viewer under its own name; the next run makes new layers"
        )
        self.inspect_button.setToolTip(
            "Look at single tokens, compare with the dense twin, see where pruning may be unsafe"
        )
        self.undo_button.setToolTip("Show the result before this one again")
        self.progress.setAlignment(Qt.AlignmentFlag.AlignCenter)

    def _lay_out(self) -> None:
        form = QFormLayout(self.choices)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow("Image", self.image)
        form.addRow("Model", _beside(self.task, self.open_button))
        self.chooser.add_to(form)
        form.addRow(self.setting)  # its name may be longer than those of the rows above
        computing = QWidget()
        inner = QFormLayout(computing)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.addRow("Device", _beside(self.device, self._refresh))
        inner.addRow("Precision", self.precision)
        inner.addRow("Memory", self.memory)
        inner.addRow(self.follow)
        inner.addRow(self.all_button)
        self.settings.addWidget(computing)
        self.settings.layout().setContentsMargins(0, 0, 0, 0)  # type: ignore[union-attr]
        buttons = QHBoxLayout()
        buttons.addWidget(self.segment_button, 2)
        buttons.addWidget(self.cancel_button, 1)
        after = QHBoxLayout(self.after)
        after.setContentsMargins(0, 0, 0, 0)
        for button in (self.keep_button, self.undo_button):
            after.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.choices)
        layout.addWidget(self.settings)
        layout.addLayout(buttons)
        layout.addWidget(self.progress)
        layout.addWidget(self.inspect_button)
        layout.addWidget(self.after)

    def _connect(self) -> None:
        self.image.currentIndexChanged.connect(lambda _: self.image_changed.emit())
        self.task.currentIndexChanged.connect(lambda _: self._on_task())
        for row in (self.chooser.methods, self.chooser.controls):
            row.clicked.connect(self._on_choice)
        for combo in (self.device, self.precision):
            combo.currentIndexChanged.connect(lambda _: self.setup_changed.emit())
        self.memory.valueChanged.connect(lambda _: self.setup_changed.emit())
        self.setting.moved.connect(self._on_setting)
        for button, signal in (
            (self.segment_button, self.segment), (self.cancel_button, self.cancel),
            (self.inspect_button, self.inspect), (self.keep_button, self.keep),
            (self.undo_button, self.undo), (self.all_button, self.segment_all),
            (self._refresh, self.find_devices),
        ):  # fmt: skip
            button.clicked.connect(lambda _, signal=signal: signal.emit())
        self.open_button.clicked.connect(lambda _: self._on_open())

    # What there is to choose from

    def set_images(self, names: Iterable[tuple[object, str]]) -> None:
        """Offer these image layers, as (identifier, name); keep the choice if it is among them."""
        _offer(self.image, names, self.image_changed.emit)

    def set_models(self, models: Sequence[ModelInfo]) -> None:
        """Offer these models; the default one is chosen."""
        for task in tasks(models):
            self._add_task(task)
        first = next((info for info in models if info.name == DEFAULT_MODEL), None)
        if first is not None or models:
            self.show_choice(Choice(first or models[0]))

    def add_model(self, info: ModelInfo) -> None:
        """Offer a model that the user opened, and choose it."""
        task = task_of_file(info)
        known = [self.task.itemData(i).key for i in range(self.task.count())]
        if task.key not in known:
            self._add_task(task)
            self.task.setCurrentIndex(self.task.count() - 1)
            return
        self.task.setItemData(known.index(task.key), task)  # the file may have changed
        self.task.setCurrentIndex(known.index(task.key))
        self._on_task()

    def set_devices(self, devices: Iterable[tuple[str, str]]) -> None:
        """Offer these devices after "auto".

        The choice stays even if its device has gone, unless it was :meth:`restore` that chose it.
        """
        offered, chosen = dict([AUTO_DEVICE, *devices]), self.device.currentData()
        gone = chosen == self._restored_device and chosen not in offered
        self._restored_device = ""
        if gone:
            _offer(self.device, offered.items(), lambda: self.device_gone.emit(chosen))
            return
        if chosen is not None:
            offered.setdefault(chosen, self.device.currentText())
        _offer(self.device, offered.items(), self.setup_changed.emit)

    def restore(self, last: Preferences) -> None:
        """Choose what was chosen last, as far as it is there; no signal is emitted."""
        keys = [self.task.itemData(i).key for i in range(self.task.count())]
        self.blockSignals(True)
        if last.task in keys:
            self.task.setCurrentIndex(keys.index(last.task))
        if last.method in self.chooser.methods.buttons:
            self.chooser.choose(last.method, OWN_RULE)
            self._offer_setting()
        if last.device != AUTO_DEVICE[0]:  # whether it is there is known once torch is
            self._restored_device = last.device
            self.device.addItem(last.device, last.device)
            self.device.setCurrentIndex(self.device.count() - 1)
        self.precision.setCurrentIndex(max(0, self.precision.findData(last.precision)))
        self.memory.setValue(last.memory_gb)
        self.follow.setChecked(last.follow)
        self.blockSignals(False)

    # What is chosen

    def choice(self) -> Choice | None:
        """Return the chosen model and rule, None if there is no model."""
        task: Task | None = self.task.currentData()
        if task is None:
            return None
        chooser = self.chooser
        return Choice(task.model(chooser.methods.current()), chooser.controls.current())

    def show_choice(self, choice: Choice, setting: float | None = None) -> None:
        """Choose a model, rule and setting; no signal is emitted."""
        holding = [
            i for i in range(self.task.count()) if choice.model in self.task.itemData(i).models
        ]
        self.blockSignals(True)
        if holding:  # else the user has opened a newer file in its place
            self.task.setCurrentIndex(holding[0])
        self.chooser.choose(choice.model.method, choice.sparsifier)
        self.blockSignals(False)
        if setting is not None:
            self._values[str(choice.model.path)] = setting
        self._offer_setting()

    def set_busy(self, busy: bool, summary: str = "", locked: bool = False) -> None:
        """Show that a run goes on, or not and what the last one did.

        Parameters
        ----------
        busy : bool
            Whether something runs.
        summary : str
            What the last run did.
        locked : bool
            Whether the choices, and what else would end it, wait too: a slider moved by chance
            must not end longer work.
        """
        for button in (self.segment_button, self.all_button):
            button.setEnabled(not busy)
        self.cancel_button.setEnabled(busy)
        for waiting in (self.choices, self.settings, self.after):
            waiting.setEnabled(not locked)
        if not busy:
            self.show_progress(0, 0, summary)

    def offer_results(self, keep: bool, undo: bool, visible: bool) -> None:
        """Offer what can be done with a result, where there is one."""
        for button, useful in ((self.keep_button, keep), (self.undo_button, undo)):
            button.setVisible(visible)
            button.setEnabled(useful)
        self.inspect_button.setVisible(visible)

    def show_progress(self, done: int, total: int, what: str) -> None:
        """Show how far a run is; a total of 0 means that nobody knows."""
        self.progress.setRange(0, max(1, total))
        self.progress.setValue(done)
        what = f"{what} ({done} of {total})" if total > 1 else what
        self.progress.setFormat(f"{self.prefix}{what}")

    def _add_task(self, task: Task) -> None:
        self.task.addItem(task.title, task)
        self.task.setItemData(self.task.count() - 1, task.about, Qt.ItemDataRole.ToolTipRole)

    def _on_open(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Open model file", "", "Models (*.safetensors);;All files (*)"
        )
        if path:
            self.open_model.emit(path)

    def _on_task(self) -> None:
        task: Task | None = self.task.currentData()
        if task is None:
            return
        self.task.setToolTip(task.about)
        before = self.chooser.methods.current()
        self.chooser.offer(info.method for info in task.models)
        self.chooser.choose(task.model(before).method, self.chooser.controls.current())
        self._offer_setting()
        self.setup_changed.emit()

    def _on_choice(self) -> None:
        self._offer_setting()
        self.choice_changed.emit()

    def _on_setting(self, value: float) -> None:
        choice = self.choice()
        if choice is not None:
            self._values[str(choice.model.path)] = value
        self.setting_changed.emit(value)

    def _offer_setting(self) -> None:
        choice = self.choice()
        if choice is None:
            return
        value = self._values.get(str(choice.model.path), choice.model.default_setting)
        self.setting.offer(choice.control, value, choice.about_setting)


def _button(text: str) -> QPushButton:
    """Make a button that shows its shortcut, which works wherever the focus is in the window."""
    button = QPushButton(f"{text} ({KEYS[text]})")
    QShortcut(QKeySequence(KEYS[text]), button).activated.connect(button.click)
    return button


def _beside(wide: QWidget, button: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.addWidget(wide, 1)
    row.addWidget(button)
    return row


def _combo(tip: str) -> QComboBox:
    combo = QComboBox()
    combo.setToolTip(tip)
    # A long name must not widen the dock.
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(10)
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
