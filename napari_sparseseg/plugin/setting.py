"""The slider for the one setting of a method: name, range and step are what the method says."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QWidget
from superqt import QLabeledDoubleSlider

from napari_sparseseg.methods import Control

_STILL = 0.005  # the slider shows two digits: within half of the last it was not moved
_NO_SETTING = "Setting"


class SettingSlider(QWidget):
    """A named slider over the values of a ``Control``.

    Attributes
    ----------
    moved : Signal(float)
        The user moved it to another value.
    label : QLabel
        Name of the setting.
    slider : QLabeledDoubleSlider
        The slider itself.
    """

    moved = Signal(float)

    def __init__(self) -> None:
        super().__init__()
        self.label = QLabel(_NO_SETTING)
        self.slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.slider.setDecimals(2)
        self._control: Control | None = None
        self._value = 1.0
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.label)
        layout.addWidget(self.slider, 1)
        self.slider.valueChanged.connect(self._on_slider)

    def offer(self, control: Control | None, value: float, tip: str) -> None:
        """Take name, range and step from a control; ``moved`` is not emitted.

        Parameters
        ----------
        control : Control or None
            The setting in force, None if there is none.
        value : float
            Where to put the slider.
        tip : str
            Tooltip: what the setting does, or why there is none.
        """
        self._control, self._value = control, value
        self.slider.blockSignals(True)
        if control is not None:
            self.slider.setRange(control.low, 1.0)
            self.slider.setSingleStep(control.step)  # type: ignore[arg-type]
            self.slider.setPageStep(2 * control.step)  # type: ignore[arg-type]
        self.slider.setValue(1.0 if control is None else value)
        self.slider.blockSignals(False)
        self.setEnabled(control is not None)
        self.setToolTip(tip)
        self.label.setText(_NO_SETTING if control is None else control.name.capitalize())

    def value(self) -> float | None:
        """Return the value: as it was offered, or on the control's steps once it was moved.

        None where there is no setting. A recommended default may lie between two steps.
        """
        if self._control is None:
            return None
        if abs(self.slider.value() - self._value) < _STILL:
            return self._value
        # Steps are counted from 1, which every slider reaches.
        steps = round((1.0 - self.slider.value()) / self._control.step)
        return round(1.0 - steps * self._control.step, 6)

    def _on_slider(self) -> None:
        value = self.value()
        if value is None:
            return
        if abs(self.slider.value() - value) >= _STILL:
            self.slider.setValue(value)  # comes back here, on a step
        elif value != self._value:
            self._value = value
            self.moved.emit(value)
