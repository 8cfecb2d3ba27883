"""The panel's results: maps, 3D, Dice, regions, what is kept, and how the engine is installed."""

from __future__ import annotations

import json

import pytest

from tests.slicer.panel.nodes import nodes_of, overlaid, results


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
