"""Which model, which rule, which setting: the upper rows of the panel, and nothing else.

Choices are told by callbacks, only when the user made them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from SparseSegLib import words
from SparseSegLib.catalogue import OWN_RULE, Catalogue, Control, Model

CONTROL_BUTTONS = {
    OWN_RULE: "controlOwn",
    "random": "controlRandom",
    "truncated": "controlTruncated",
    "none": "controlNone",
}
"""Name of the button of each control, and of the model's own rule."""

_OWN_ABOUT = "The method decides as it was trained to"
# Amber when a control is in force: what is shown then is not what the method would do.
_PRESSED = "QPushButton:checked { background: %s; color: %s; }"
_OWN_STYLE, _CONTROL_STYLE = _PRESSED % ("#5a626c", "white"), _PRESSED % ("#f0a830", "#201400")
_NO_SETTING = "Setting"
_SHOWN_DIGITS = 0.0051  # half of the last digit beside the slider


@dataclass(frozen=True)
class Choice:
    """What is chosen.

    Attributes
    ----------
    model : str
        Name of the model.
    sparsifier : str
        Name of a control, "" for the model's own rule.
    setting : float
        Value of the setting, 0 where there is none.
    """

    model: str
    sparsifier: str
    setting: float


class ModelChooser:
    """The rows for model, control and setting.

    Parameters
    ----------
    ui : object
        The widgets by name.
    on_model, on_control, on_setting : callable
        The user chose another one; each gets a :class:`Choice`.
    """

    def __init__(
        self,
        ui: Any,
        on_model: Callable[[Choice], None],
        on_control: Callable[[Choice], None],
        on_setting: Callable[[Choice], None],
    ) -> None:
        self._ui = ui
        self._on_model, self._on_control, self._on_setting = on_model, on_control, on_setting
        self._catalogue = Catalogue()
        self._model: Model | None = None
        self._values: dict[str, float] = {}  # where the user left the slider, by model
        self._seconds: dict[str, float] = {}
        self._filling = False
        self._buttons = {key: getattr(ui, name) for key, name in CONTROL_BUTTONS.items()}
        for key, button in self._buttons.items():
            button.setStyleSheet(_OWN_STYLE if key == OWN_RULE else _CONTROL_STYLE)
            button.connect("clicked(bool)", lambda _=False: self._control_clicked())
        ui.modelFilter.connect("textChanged(QString)", lambda _: self._filter())
        ui.model.connect("currentIndexChanged(int)", lambda _: self._model_chosen())
        ui.setting.connect("valueChanged(double)", lambda _: self._setting_moved())
        self._show_model(None)

    @property
    def model(self) -> Model | None:
        """The chosen model, None if there is none."""
        return self._model

    @property
    def control(self) -> Control | None:
        """The setting in force, None if there is none."""
        if self._model is None:
            return None
        return self._catalogue.setting_of(self._model, self._sparsifier())

    def offer(self, catalogue: Catalogue, choice: Choice) -> None:
        """Offer these models; no callback is called."""
        self._catalogue = catalogue
        for rule in catalogue.controls:
            if rule.name in self._buttons:
                self._buttons[rule.name].setToolTip(rule.about)
        self._buttons[OWN_RULE].setToolTip(_OWN_ABOUT)
        self.show(choice)

    def show(self, choice: Choice) -> None:
        """Choose something; no callback is called."""
        model = self._catalogue.model(choice.model)
        if model is not None and choice.setting > 0:
            self._values[model.name] = choice.setting
        self._fill([model] if model is not None else [])
        self._show_model(model)
        self._press(choice.sparsifier)

    def choice(self) -> Choice:
        """Return what is chosen."""
        if self._model is None:
            return Choice("", self._sparsifier(), 0.0)
        return Choice(self._model.name, self._sparsifier(), self._value(self._model))

    def remember_seconds(self, model: str, seconds: float) -> None:
        """Tell how long a run of a model took on this computer."""
        self._seconds[model] = seconds
        self._show_facts()

    # What the user does

    def _filter(self) -> None:
        before = self._model
        self._fill([before] if before is not None else [])
        found = self._catalogue.search(self._ui.modelFilter.text)
        if found and before not in found:
            self._choose(found[0])

    def _model_chosen(self) -> None:
        if not self._filling:
            name = self._ui.model.itemData(self._ui.model.currentIndex)
            self._choose(self._catalogue.model(name))

    def _choose(self, model: Model | None) -> None:
        self._show_model(model)
        self._fill([model] if model is not None else [])
        self._on_model(self.choice())

    def _control_clicked(self) -> None:
        self._show_setting()
        self._on_control(self.choice())

    def _setting_moved(self) -> None:
        if self._filling or self._model is None:
            return
        choice = self.choice()
        if abs(self._ui.setting.value - choice.setting) > 1e-9:  # between two steps
            self._quietly(self._ui.setting.setValue, choice.setting)
        if choice.setting != self._left_at(self._model):
            self._values[self._model.name] = choice.setting
            self._on_setting(choice)

    # What is shown

    def _value(self, model: Model) -> float:
        """Return what the slider says, 0 where there is no setting."""
        control, shown = self.control, self._ui.setting.value
        if control is None:
            return 0.0
        before = self._left_at(model)  # a default may lie between two steps
        return before if abs(shown - before) < _SHOWN_DIGITS else control.rounded(shown)

    def _left_at(self, model: Model) -> float:
        return self._values.get(model.name, model.default_setting)

    def _sparsifier(self) -> str:
        return next((key for key, button in self._buttons.items() if button.checked), OWN_RULE)

    def _press(self, sparsifier: str) -> None:
        self._quietly(self._buttons.get(sparsifier, self._buttons[OWN_RULE]).setChecked, True)
        self._show_setting()

    def _fill(self, always: list[Model]) -> None:
        """Offer the models that match the filter, and the chosen one."""
        query, combo = self._ui.modelFilter.text, self._ui.model
        offered = self._catalogue.search(query)
        nothing = not offered and bool(query) and bool(self._catalogue.models)
        offered += [model for model in always if model not in offered]

        def fill() -> None:
            combo.clear()
            for model in offered:
                combo.addItem(model.title, model.name)
            if self._model in offered:
                combo.setCurrentIndex(offered.index(self._model))

        self._quietly(fill)
        self._ui.modelFilter.setStyleSheet("background: #f0d0d0; color: black;" if nothing else "")

    def _show_model(self, model: Model | None) -> None:
        self._model = model
        combo = self._ui.model
        if model is not None:
            self._quietly(combo.setCurrentIndex, combo.findData(model.name))
            combo.setToolTip(f"{model.about} Segments: {', '.join(model.structures)}.")
        for key, button in self._buttons.items():
            idle = key == "random" and model is not None and model.control is None
            button.setEnabled(model is not None and not idle)
            if idle and button.checked:
                self._quietly(self._buttons[OWN_RULE].setChecked, True)
        self._show_facts()
        self._show_setting()

    def _show_facts(self) -> None:
        model = self._model
        text = "" if model is None else words.facts(model, self._seconds.get(model.name))
        self._ui.modelFacts.setText(text)

    def _show_setting(self) -> None:
        """Give the slider the name, range and step of the setting in force."""
        control, slider = self.control, self._ui.setting
        slider.setEnabled(control is not None)
        self._ui.settingLabel.setText(control.name.capitalize() if control else _NO_SETTING)
        if control is None or self._model is None:
            slider.setToolTip("There is no setting: nothing is left out by a threshold or ratio")
            self._quietly(slider.setValue, 1.0)
            return
        value = self._left_at(self._model)

        def fill() -> None:
            slider.setMinimum(control.low)
            slider.setMaximum(1.0)
            slider.setSingleStep(control.step)
            slider.setPageStep(2 * control.step)
            slider.setValue(value)

        self._quietly(fill)
        slider.setToolTip(control.about)

    def _quietly(self, change: Callable[..., object], *args: object) -> None:
        """Change widgets without taking that for the user's doing."""
        before, self._filling = self._filling, True
        try:
            change(*args)
        finally:
            self._filling = before
