"""The panel: what a user clicks, and what is seen then."""

from __future__ import annotations

import json

import pytest


def nodes_of(kind: str) -> list:
    import slicer

    scene = slicer.mrmlScene
    found = [scene.GetNthNodeByClass(n, kind) for n in range(scene.GetNumberOfNodesByClass(kind))]
    return [node for node in found if node.GetClassName() == kind]


def results() -> list[str]:
    """Name the nodes that results are made of."""
    import slicer

    scene = slicer.mrmlScene
    nodes = (scene.GetNthNode(number) for number in range(scene.GetNumberOfNodes()))
    return sorted(node.GetID() for node in nodes if node.GetAttribute("SparseSeg.Role"))


def overlaid() -> str | None:
    """Return what lies over the scan: categories in the label layer, shades in the foreground."""
    (view,) = nodes_of("vtkMRMLSliceCompositeNode")
    return view.GetLabelVolumeID() or view.GetForegroundVolumeID()


def test_volume_of_the_scene_is_chosen_and_apply_is_offered(bench):
    assert not bench.ui.applyButton.enabled
    volume = bench.volume()
    bench.process_events()

    assert bench.parameters.inputVolume is volume
    assert bench.ui.applyButton.enabled
    assert bench.ui.applyButton.text == "Apply"


def test_apply_shows_structures_map_and_figures(bench):
    volume = bench.volume()
    bench.apply()

    (segmentation,) = nodes_of("vtkMRMLSegmentationNode")
    assert segmentation.GetSegmentation().GetNthSegment(0).GetName() == "bright"
    assert overlaid() == bench.runs.shown[volume.GetID()].nodes.maps["kept", None]
    assert "pruned at stage 1" in bench.ui.legend.text
    assert "bright" in bench.ui.structures.text
    assert "7 (88% of non-air)" in bench.ui.figures.text
    assert "Pruned" in bench.ui.figures.text
    assert bench.ui.progress.format == "0.5 s, 88% of tokens kept"
    assert bench.ui.notice.text == "<i>Research use only, not for diagnosis.</i>"
    assert not bench.ui.message.text


def test_sections_of_a_result_are_hidden_until_there_is_one(bench):
    bench.widget.parent.show()
    bench.volume()
    assert not bench.ui.mapButton.visible and not bench.ui.resultsButton.visible
    bench.apply()

    assert bench.ui.mapButton.visible and bench.ui.resultsButton.visible


def test_second_run_fills_the_nodes_of_the_first(bench):
    bench.volume()
    bench.apply()
    first = results()
    bench.ui.setting.setValue(0.3)
    bench.wait(lambda: bench.runs.busy)
    bench.wait(lambda: not bench.runs.busy)

    assert results() == first
    assert "0.3" in bench.ui.figures.text


def test_slider_that_rests_runs_the_last_value_only(bench):
    volume = bench.volume()
    bench.apply()
    orders = []
    start = bench.runs.start
    bench.runs.start = lambda order, heard: (orders.append(order.setting), start(order, heard))
    for value in (0.45, 0.4, 0.35):
        bench.ui.setting.setValue(value)
        bench.process_events()
    bench.wait(lambda: bool(orders))
    bench.wait(lambda: not bench.runs.busy)

    assert orders == [0.35]
    assert bench.runs.shown[volume.GetID()].order.setting == 0.35
    assert bench.parameters.setting == 0.35


def test_slider_shows_what_the_first_stage_lets_go_on_before_the_run(bench):
    volume = bench.volume()
    bench.apply()
    bench.ui.followSlider.setChecked(False)
    bench.ui.setting.setValue(0.3)
    shown = bench.runs.shown[volume.GetID()]
    bench.wait(lambda: bool(shown.previewed))

    assert not bench.runs.busy
    assert bench.ui.mapAbout.text == "What goes on."
    assert bench.ui.message.text == "Press Apply to segment with this keep ratio."
    assert shown.order.setting == 0.5


def test_slider_moves_in_the_steps_of_the_setting(bench):
    bench.volume()
    bench.ui.setting.setValue(0.33)

    assert bench.ui.setting.value == pytest.approx(0.35)
    assert bench.parameters.setting == pytest.approx(0.35)


def test_apply_becomes_cancel_and_cancel_leaves_the_scene_as_it_was(make_bench):
    bench = make_bench("run:slow")
    bench.volume()
    before = results()
    bench.ui.applyButton.click()
    assert bench.ui.applyButton.text == "Cancel"
    bench.wait(lambda: "Encoding" in bench.ui.progress.format)
    bench.ui.applyButton.click()
    assert bench.ui.applyButton.text == "Cancelling..."
    assert not bench.ui.applyButton.enabled
    bench.wait(lambda: not bench.runs.busy)

    assert bench.ui.message.text == "Cancelled; nothing was changed."
    assert bench.ui.applyButton.text == "Apply" and bench.ui.applyButton.enabled
    assert results() == before
    assert bench.ui.progress.format == ""


def test_slider_that_rests_while_a_run_is_cancelled_runs_after_it(make_bench):
    bench = make_bench()
    volume = bench.volume()
    bench.apply()
    bench.runs.engine.stop()
    bench.faults.append("run:late")
    bench.ui.applyButton.click()
    bench.wait(lambda: bench.runs.engine._open is not None)
    bench.ui.applyButton.click()
    bench.ui.setting.setValue(0.3)
    bench.panel._run()
    assert bench.runs.busy
    bench.wait(lambda: not bench.runs.engine.cancelling)
    bench.process_events()
    assert bench.runs.busy and "Cancelled" not in bench.ui.message.text

    bench.ui.applyButton.click()
    bench.wait(lambda: not bench.runs.busy)
    assert "Cancelled" in bench.ui.message.text
    assert bench.runs.shown[volume.GetID()].order.setting == 0.5


def test_hundred_rounds_of_apply_and_cancel_leave_no_node(make_bench):
    import slicer

    bench = make_bench("run:slow")
    bench.volume()
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    for _ in range(100):
        bench.ui.applyButton.click()
        bench.process_events()
        bench.ui.applyButton.click()
        bench.wait(lambda: not bench.runs.busy)

    assert slicer.mrmlScene.GetNumberOfNodes() == nodes


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("run:crash", "The engine stopped unexpectedly (exit code 3); press Apply to start it"),
        ("run:garbage", "The engine sent something that nobody understands; press Apply"),
        ("run:memory", "The card is full."),
        ("open:killed", "if memory ran out"),
    ],
)
def test_what_goes_wrong_is_shown_and_the_next_apply_works(make_bench, fault, sentence):
    bench = make_bench(fault)
    bench.volume()
    bench.apply()

    assert sentence in bench.ui.message.text
    assert sentence in bench.ui.log.plainText
    assert results() == []
    bench.faults.append("")
    bench.runs.engine.stop()
    bench.apply()
    assert len(nodes_of("vtkMRMLSegmentationNode")) == 1
    assert bench.ui.message.text == ""


def test_volume_deleted_during_the_run_stops_it_with_a_sentence(make_bench):
    import slicer

    bench = make_bench("run:slow")
    volume = bench.volume("head")
    bench.ui.applyButton.click()
    bench.wait(lambda: "Encoding" in bench.ui.progress.format)
    slicer.mrmlScene.RemoveNode(volume)
    bench.process_events()

    assert not bench.runs.busy
    assert bench.ui.message.text.startswith("head was removed from the scene")
    assert results() == []
    assert not bench.ui.applyButton.enabled


def test_scene_closed_during_the_run_stops_it_and_the_next_scene_works(make_bench):
    import slicer

    bench = make_bench("run:slow")
    bench.volume()
    bench.ui.applyButton.click()
    bench.wait(lambda: "Encoding" in bench.ui.progress.format)
    slicer.mrmlScene.Clear()
    bench.process_events()
    assert not bench.runs.busy
    assert results() == []

    bench.faults.append("")
    bench.runs.engine.stop()
    bench.volume("another")
    bench.wait(lambda: bench.ui.applyButton.enabled)
    bench.apply()
    assert len(nodes_of("vtkMRMLSegmentationNode")) == 1


def test_module_left_during_a_run_lets_it_finish(make_bench):
    bench = make_bench()
    bench.volume()
    bench.ui.applyButton.click()
    bench.widget.exit()
    bench.wait(lambda: not bench.runs.busy)

    assert len(nodes_of("vtkMRMLSegmentationNode")) == 1


def test_cleanup_during_a_run_ends_the_engine(make_bench):
    bench = make_bench("run:slow")
    bench.volume()
    bench.ui.applyButton.click()
    bench.wait(lambda: "Encoding" in bench.ui.progress.format)
    runs = bench.runs
    bench.widget.cleanup()

    assert not runs.engine.worker.alive
    assert not runs.busy


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


def test_maps_are_shown_one_at_a_time_with_their_opacity(bench):
    volume = bench.volume()
    bench.apply()
    (view,) = nodes_of("vtkMRMLSliceCompositeNode")
    bench.ui.opacity.setValue(0.25)
    assert view.GetLabelOpacity() == pytest.approx(0.25)
    bench.ui.map.setCurrentIndex(bench.ui.map.findData("none"))
    assert overlaid() is None
    assert bench.ui.legend.text == "" and not bench.ui.opacity.enabled
    bench.ui.map.setCurrentIndex(bench.ui.map.findData("kept"))

    assert overlaid() == bench.runs.shown[volume.GetID()].nodes.maps["kept", None]


def test_shades_are_explained_by_a_bar(bench):
    volume = bench.volume()
    bench.apply()
    bench.ui.map.setCurrentIndex(bench.ui.map.findData("importance 1"))

    assert overlaid() == bench.runs.shown[volume.GetID()].nodes.maps["importance", 1]
    assert bench.ui.mapAbout.text == "Rank of each token."
    assert 'bgcolor="#0000ff"' in bench.ui.legend.text
    assert 'bgcolor="#ff0000"' in bench.ui.legend.text
    assert bench.parameters.map == "importance 1"
    bench.apply()
    assert overlaid() == bench.runs.shown[volume.GetID()].nodes.maps["importance", 1]


def test_engine_that_does_not_tell_its_models_can_be_asked_again(make_bench):
    bench = make_bench("models:crash", shown=False)
    bench.volume()
    bench.widget.enter()
    bench.wait(lambda: bool(bench.ui.message.text))
    assert bench.ui.message.text.startswith("The engine stopped unexpectedly")
    assert bench.ui.applyButton.text == "Start engine" and bench.ui.applyButton.enabled
    bench.faults.append("")
    bench.ui.applyButton.click()
    bench.wait(lambda: bench.ui.model.count > 0)

    assert bench.ui.applyButton.text == "Apply" and bench.ui.applyButton.enabled


def test_3d_is_made_on_demand(bench):
    bench.volume()
    bench.apply()
    (segmentation,) = nodes_of("vtkMRMLSegmentationNode")
    surface = "Closed surface"
    assert not segmentation.GetSegmentation().ContainsRepresentation(surface)
    bench.ui.show3D.setChecked(True)
    assert segmentation.GetSegmentation().ContainsRepresentation(surface)
    bench.ui.show3D.setChecked(False)

    assert not segmentation.GetSegmentation().ContainsRepresentation(surface)


def test_dice_to_dense_is_shown_when_asked_for(bench):
    bench.volume()
    bench.apply()
    assert "Dice to dense" not in bench.ui.structures.text
    bench.ui.compareDense.setChecked(True)
    bench.apply()

    assert "0.900" in bench.ui.structures.text
    assert "0.900 (mean of 1 structures)" in bench.ui.figures.text


def test_kept_result_stays_under_its_own_name_and_the_next_run_makes_another(bench):
    bench.volume("head")
    bench.apply()
    bench.ui.keepButton.click()
    assert overlaid() is None
    assert not bench.ui.keepButton.enabled
    bench.apply()

    names = [node.GetName() for node in nodes_of("vtkMRMLSegmentationNode")]
    assert len(names) == 2
    assert "(brain-stp, keep ratio 0.5)" in names[0]
    assert "(" not in names[1]


def test_region_limits_what_is_sent_and_none_sends_all(bench):
    import slicer

    volume = bench.volume()
    region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    region.SetXYZ(4, 8, 8)
    region.SetSize(8, 16, 16)
    bench.ui.region.setCurrentNode(region)
    assert bench.parameters.region is region
    bench.apply()
    assert bench.runs.shown[volume.GetID()].answer.labels.shape == (9, 16, 16)
    bench.ui.region.setCurrentNode(None)
    bench.apply()

    assert bench.runs.shown[volume.GetID()].answer.labels.shape == (16, 16, 16)


def test_region_beside_the_volume_is_told(bench):
    import slicer

    bench.volume()
    region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    region.SetXYZ(400, 0, 0)
    region.SetSize(8, 8, 8)
    bench.ui.region.setCurrentNode(region)
    bench.apply()

    assert bench.ui.message.text.startswith("The region lies outside of the volume")
    assert results() == []


def test_edited_volume_is_sent_again(bench):
    import numpy as np

    volume = bench.volume()
    bench.apply()
    from SparseSegLib.volumes import fill_volume

    fill_volume(volume, np.ones((16, 16, 16), np.float32), np.eye(4))
    bench.apply()

    assert bench.runs.shown[volume.GetID()].answer.labels.all()


def test_each_volume_shows_its_own_result(bench):
    first, second = bench.volume("first"), bench.volume("second")
    bench.parameters.inputVolume = first
    bench.apply()
    bench.parameters.inputVolume = second
    assert overlaid() is None
    assert not bench.ui.keepButton.enabled
    bench.parameters.inputVolume = first

    assert overlaid() == bench.runs.shown[first.GetID()].nodes.maps["kept", None]


def test_parameters_come_back_with_a_saved_scene(bench, tmp_path):
    import slicer

    bench.volume("head")
    bench.ui.model.setCurrentIndex(bench.ui.model.findData("brain-dtop"))
    bench.ui.setting.setValue(0.7)
    path = tmp_path / "scene.mrml"
    slicer.mrmlScene.SetURL(str(path))
    slicer.mrmlScene.Commit()
    slicer.mrmlScene.Clear()
    assert bench.parameters.model == ""
    slicer.mrmlScene.SetURL(str(path))
    slicer.mrmlScene.Import()
    bench.process_events()

    assert bench.parameters.model == "brain-dtop"
    assert bench.ui.model.itemData(bench.ui.model.currentIndex) == "brain-dtop"
    assert bench.ui.setting.value == pytest.approx(0.7)
    assert bench.parameters.inputVolume.GetName() == "head"


def test_engine_that_is_missing_is_offered_for_installation(make_bench, monkeypatch):
    bench = make_bench(shown=False)
    missing = ["napari-sparseseg>=0.1.0"]
    installer = bench.runs.installer
    monkeypatch.setattr(installer, "missing", lambda: list(missing))
    monkeypatch.setattr(installer, "ensure", missing.clear)
    bench.volume()
    bench.widget.enter()
    assert bench.ui.applyButton.text == "Install engine"
    assert bench.ui.message.text.startswith("The engine is not installed yet")
    assert bench.ui.model.count == 0
    bench.ui.applyButton.click()
    bench.wait(lambda: bench.ui.model.count > 0)

    assert bench.ui.applyButton.text == "Apply" and bench.ui.applyButton.enabled
    assert bench.ui.message.text == ""


def test_refused_installation_is_told(make_bench, monkeypatch):
    from SparseSegLib.install import InstallError

    def refuse() -> None:
        raise InstallError("Nothing was installed.")

    bench = make_bench(shown=False)
    monkeypatch.setattr(bench.runs.installer, "missing", lambda: ["x"])
    monkeypatch.setattr(bench.runs.installer, "ensure", refuse)
    bench.widget.enter()
    bench.ui.applyButton.click()

    assert bench.ui.message.text == "Nothing was installed."
    assert bench.ui.applyButton.text == "Install engine"


def test_removed_engine_leaves_nothing_to_choose(bench, monkeypatch):
    monkeypatch.setattr(bench.runs.installer, "remove", lambda: True)
    monkeypatch.setattr(bench.runs.installer, "missing", lambda: ["x"])
    bench.volume()
    bench.ui.removeEngine.click()

    assert not bench.runs.engine.worker.alive
    assert bench.ui.model.count == 0
    assert bench.ui.applyButton.text == "Install engine"


def test_parameter_node_holds_plain_text(bench):
    bench.ui.setting.setValue(0.4)
    node = bench.parameters.parameterNode

    assert json.loads(node.GetParameter("setting")) == pytest.approx(0.4)
