"""The upper half of the dock by itself: what it offers, remembers and says. No viewer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from napari_sparseseg.catalog import Choice, tasks
from napari_sparseseg.methods import METHODS, controls
from napari_sparseseg.plugin.controls import Controls
from napari_sparseseg.weights import ModelInfo, models

from .conftest import METHOD_SETTINGS


@pytest.fixture
def panel(weights: Path, qtbot: Any) -> Controls:
    panel = Controls()
    qtbot.addWidget(panel)
    panel.set_models(models())
    return panel


@pytest.fixture
def signals(panel: Controls) -> list[str]:
    """Record what the panel tells the dock."""
    told: list[str] = []
    panel.choice_changed.connect(lambda: told.append("choice"))
    panel.setup_changed.connect(lambda: told.append("setup"))
    panel.setting_changed.connect(lambda value: told.append(f"{value:g}"))
    return told


def test_models_are_grouped_by_task_and_the_default_is_chosen(panel: Controls):
    chooser = panel.chooser

    assert [panel.task.itemText(i) for i in range(panel.task.count())] == ["Tiny", "Tiny again"]
    assert list(chooser.methods.buttons) == list(METHOD_SETTINGS)
    assert [b.text() for b in chooser.methods.buttons.values()] == [
        METHODS[name].title for name in METHOD_SETTINGS
    ]
    assert list(chooser.controls.buttons) == ["", *controls()]
    assert panel.choice().model.name == "brain-mr-stp"
    assert panel.choice().sparsifier == ""
    for name, button in chooser.methods.buttons.items():
        assert METHODS[name].about in button.toolTip()
        assert METHODS[name].source in button.toolTip()


def test_slider_is_what_the_method_declares(panel: Controls, signals: list[str]):
    setting, slider = panel.setting, panel.setting.slider
    for name, default in METHOD_SETTINGS.items():
        panel.chooser.methods.buttons[name].click()
        control = METHODS[name].control
        if control is None:
            assert not setting.isEnabled()
            assert "Dense has no setting" in setting.toolTip()
            assert setting.value() is None
            continue
        assert setting.isEnabled()
        assert setting.label.text() == control.name.capitalize()
        assert (slider.minimum(), slider.maximum()) == (control.low, 1)
        assert slider.singleStep() == pytest.approx(control.step)
        assert control.about in setting.toolTip()
        assert METHODS[name].source in setting.toolTip()
        assert setting.value() == pytest.approx(default)
    assert set(signals) == {"choice"}


def test_a_default_between_two_steps_is_in_force_until_the_slider_moves(
    panel: Controls, signals: list[str]
):
    control = METHODS["apformer"].control
    assert control is not None
    panel.setting.offer(control, 0.6104, "")
    assert panel.setting.value() == 0.6104
    assert panel.setting.slider.value() == pytest.approx(0.6104, abs=0.005)

    panel.setting.slider.setValue(0.6)
    assert panel.setting.value() == 0.6
    panel.setting.slider.setValue(0.66)
    assert panel.setting.value() == 0.65
    panel.setting.slider.setValue(0.66)
    assert panel.setting.slider.value() == pytest.approx(0.65)
    assert signals == ["0.6", "0.65"]


def test_value_is_remembered_for_each_method(panel: Controls, signals: list[str]):
    buttons = panel.chooser.methods.buttons
    panel.setting.slider.setValue(0.312)  # between two steps
    buttons["dtop"].click()
    panel.setting.slider.setValue(0.87)

    buttons["stp"].click()
    assert panel.setting.value() == 0.3
    buttons["dense"].click()
    buttons["dtop"].click()
    assert panel.setting.value() == 0.87
    panel.setting.slider.setValue(1.0)
    assert panel.setting.value() == 1
    assert signals == ["0.3", "choice", "0.87", "choice", "choice", "choice", "1"]


def test_control_has_the_setting_of_the_method_or_none(panel: Controls):
    panel.chooser.methods.buttons["dtop"].click()
    panel.setting.slider.setValue(0.8)
    for name in controls():
        panel.chooser.controls.buttons[name].click()
        assert panel.choice().rule is METHODS[name]
        follows = METHODS[name].mimics
        assert panel.setting.isEnabled() == follows
        assert panel.setting.value() == (0.8 if follows else None)


def test_control_that_would_change_nothing_is_switched_off(panel: Controls):
    rows = panel.chooser
    rows.controls.buttons["random"].click()

    rows.methods.buttons["dense"].click()

    assert not rows.controls.buttons["random"].isEnabled()
    assert "leaves out no token" in rows.controls.buttons["random"].toolTip()
    assert rows.controls.buttons["truncated"].isEnabled()
    assert panel.choice().sparsifier == ""
    rows.methods.buttons["svit"].click()
    assert rows.controls.buttons["random"].isEnabled()


def test_second_click_on_the_same_button_changes_nothing(panel: Controls, signals: list[str]):
    panel.chooser.methods.buttons["stp"].click()
    panel.chooser.controls.buttons[""].click()

    assert signals == []


def test_another_task_keeps_the_method_where_it_has_it(panel: Controls, signals: list[str]):
    panel.chooser.methods.buttons["dtop"].click()
    panel.task.setCurrentIndex(1)
    assert list(panel.chooser.methods.buttons) == ["dense", "dtop"]
    assert panel.choice().model.name == "other-mr-dtop"

    panel.task.setCurrentIndex(0)
    panel.chooser.methods.buttons["svit"].click()
    panel.task.setCurrentIndex(1)
    assert panel.choice().model.name == "other-mr-dense"
    assert signals == ["choice", "setup", "setup", "choice", "setup"]


def test_shown_choice_tells_nobody(panel: Controls, signals: list[str]):
    other = next(info for info in models() if info.name == "other-mr-dtop")

    panel.show_choice(Choice(other, "random"), 0.77)

    assert signals == []
    assert panel.choice() == Choice(other, "random")
    assert panel.setting.value() == 0.77
    assert panel.task.currentText() == "Tiny again"


def info(name: str, title: str) -> ModelInfo:
    return ModelInfo(
        name, title, name.split("-")[-1], "", 1.0, (), (), 1.0, {}, "", Path(f"{name}.safetensors")
    )


def test_tasks_of_one_title_can_be_told_apart():
    found = tasks([info("a-mr-stp", "Brain, one"), info("b-mr-dtop", "Brain, two"),
                   info("a-mr-dense", "Brain, three"), info("c-mr-stp", "Heart")])  # fmt: skip

    assert [task.title for task in found] == ["Brain (a-mr)", "Brain (b-mr)", "Heart"]
    assert [m.method for m in found[0].models] == ["dense", "stp"]


def test_opened_file_is_a_choice_of_its_own(panel: Controls, signals: list[str]):
    mine = replace(info("brain-mr-stp", "Tiny, mine"), path=Path("/tmp/mine.safetensors"))

    panel.add_model(mine)
    panel.add_model(mine)

    assert [panel.task.itemText(i) for i in range(panel.task.count())] == [
        "Tiny", "Tiny again", "Tiny (mine.safetensors)",
    ]  # fmt: skip
    assert panel.choice() == Choice(mine)
    assert list(panel.chooser.methods.buttons) == ["stp"]
