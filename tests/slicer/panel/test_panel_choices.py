"""The panel's choices: parameters both ways, settings, models, devices."""

from __future__ import annotations

import pytest


def test_choices_travel_to_the_parameter_node_and_back(bench):
    volume = bench.volume()
    ui, parameters = bench.ui, bench.parameters
    ui.followSlider.setChecked(False)
    ui.compareDense.setChecked(True)
    ui.opacity.setValue(0.35)
    ui.controlRandom.click()
    ui.model.setCurrentIndex(ui.model.findData("brain-dtop"))
    assert (parameters.followSlider, parameters.compareDense) == (False, True)
    assert parameters.opacity == 0.35
    assert (parameters.model, parameters.sparsifier) == ("brain-dtop", "random")

    parameters.compareDense = False
    parameters.model, parameters.sparsifier, parameters.setting = "neck-stp", "", 0.25
    parameters.device = "cuda:3"
    assert not ui.compareDense.checked
    assert ui.model.itemData(ui.model.currentIndex) == "neck-stp"
    assert ui.controlOwn.checked
    assert ui.setting.value == pytest.approx(0.25)
    assert ui.device.itemData(ui.device.currentIndex) == "cuda:3"
    assert parameters.inputVolume is volume


def test_slider_takes_name_range_and_default_of_the_model(bench):
    ui = bench.ui
    assert (ui.settingLabel.text, ui.setting.minimum, ui.setting.value) == ("Keep ratio", 0.05, 0.5)
    ui.model.setCurrentIndex(ui.model.findData("brain-dtop"))
    assert ui.settingLabel.text == "Exit threshold"
    assert (ui.setting.minimum, ui.setting.value) == (0.5, 0.9)
    ui.setting.setValue(0.8)
    ui.model.setCurrentIndex(ui.model.findData("brain-dense"))
    assert not ui.setting.enabled and not ui.controlRandom.enabled
    ui.model.setCurrentIndex(ui.model.findData("brain-dtop"))

    assert ui.setting.enabled and ui.controlRandom.enabled
    assert ui.setting.value == pytest.approx(0.8)


def test_default_between_two_steps_is_what_runs_until_the_slider_moves(bench):
    volume, ui = bench.volume(), bench.ui
    ui.model.setCurrentIndex(ui.model.findData("neck-stp"))
    bench.apply()
    assert bench.runs.shown[volume.GetID()].order.setting == 0.42
    ui.setting.setValue(0.47)

    assert bench.parameters.setting == pytest.approx(0.45)


def test_panel_is_narrow_enough_for_slicers_module_panel(bench):
    bench.widget.parent.resize(100, 100)
    bench.widget.parent.show()
    bench.process_events()

    assert bench.widget.parent.width <= 420


def test_controls_that_have_no_setting_switch_the_slider_off(bench):
    bench.ui.controlTruncated.click()
    assert not bench.ui.setting.enabled
    bench.ui.controlRandom.click()
    assert bench.ui.setting.enabled
    assert bench.ui.setting.value == 0.5


def test_control_is_run_at_once_where_there_is_something_to_compare(bench):
    volume = bench.volume()
    bench.ui.controlRandom.click()
    assert not bench.runs.busy
    bench.ui.controlOwn.click()
    bench.apply()
    bench.ui.controlRandom.click()
    assert bench.runs.busy
    bench.wait(lambda: not bench.runs.busy)

    assert bench.runs.shown[volume.GetID()].order.setup.sparsifier == "random"
    assert "Control" in bench.ui.figures.text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("parotid", ["neck-stp"]),
        ("head dtop", ["brain-dtop"]),
        ("stp", ["brain-stp", "neck-stp"]),
        ("", ["brain-stp", "brain-dtop", "brain-dense", "neck-stp"]),
    ],
)
def test_models_are_found_by_structure_scan_and_method(bench, query, found):
    ui = bench.ui
    ui.modelFilter.setText(query)

    offered = [ui.model.itemData(n) for n in range(ui.model.count)]
    assert [name for name in found if name in offered] == found
    assert ui.model.itemData(ui.model.currentIndex) in found


def test_query_that_finds_nothing_keeps_the_model(bench):
    bench.ui.modelFilter.setText("kidney")

    assert bench.ui.model.itemData(bench.ui.model.currentIndex) == "brain-stp"
    assert bench.ui.modelFilter.styleSheet


def test_model_tells_its_size_and_time(bench):
    assert bench.ui.modelFacts.text == "MR of the head, at 2 mm; 23 MB; about 0.4 s on a CPU"
    bench.volume()
    bench.apply()
    assert bench.ui.modelFacts.text == "MR of the head, at 2 mm; 23 MB; last run here 0.5 s"


def test_devices_are_listed_with_their_memory(bench):
    bench.ui.refreshDevices.click()
    bench.wait(lambda: bench.ui.device.count > 1)

    offered = [bench.ui.device.itemText(n) for n in range(bench.ui.device.count)]
    assert offered == ["automatic", "A card (24 GiB), 2.0 GiB free", "CPU (2 threads)"]
    assert bench.parameters.device == "auto"
