"""Results that are saved, loaded, and then segmented again."""

from __future__ import annotations

from collections import Counter

import pytest

pytest.importorskip("slicer_core", reason="needs Slicer's scene: run `make test-slicer`")

import slicer

from SparseSegLib.scene import ResultWriter, read_volume
from tests.slicer.mrml import scenes

MOVE = scenes.rigid(1)
KEPT, DEPTH, IMPORTANCE = ("kept", None), ("depth", None), ("importance", 1)


def read_back(scene, node, file_name):
    """Write a node with its own kind of storage, and read the file into a new one."""
    writer = node.CreateDefaultStorageNode()
    scene.AddNode(writer)
    writer.SetFileName(file_name)
    assert writer.WriteData(node)
    reader = node.CreateDefaultStorageNode()
    scene.AddNode(reader)
    reader.SetFileName(file_name)
    again = scene.AddNewNodeByClass(node.GetClassName(), "again")
    assert reader.ReadData(again)
    return again


@pytest.mark.parametrize("ending", ["nrrd", "nii.gz", "mha"])
@pytest.mark.parametrize("axes", [scenes.orientations()[n] for n in (0, 13, 30)])
def test_maps_lie_where_they_were_when_read_from_a_file(scene, writer, tmp_path, axes, ending):
    """A left-handed grid comes back right-handed with its voxels flipped: equal in RAS."""
    affine = scenes.affine_with(axes)
    volume = scenes.add_volume(scene, affine)
    grid = scenes.grid_over(affine)
    nodes = writer.show(volume, read_volume(volume), scenes.answer_with(grid))
    for key in (KEPT, DEPTH, IMPORTANCE):
        node = scene.GetNodeByID(nodes.maps[key])
        again = read_back(scene, node, str(tmp_path / f"{key[0]}.{ending}"))
        assert scenes.values_in_world(again) == scenes.values_in_world(node)


def test_segments_lie_where_they_were_when_read_from_a_file(scene, writer, tmp_path):
    affine = scenes.affine_with(scenes.orientations()[13])
    volume = scenes.add_volume(scene, affine)
    answer = scenes.answer_with(scenes.grid_over(affine))
    nodes = writer.show(volume, read_volume(volume), answer)
    again = read_back(scene, scene.GetNodeByID(nodes.segmentation), str(tmp_path / "a.seg.nrrd"))
    for structure in scenes.STRUCTURES:
        expected = scenes.expected_voxels(answer.labels, structure.value, affine)
        assert scenes.segment_in_world(again, structure.name) == expected
        segment = again.GetSegmentation().GetSegment(structure.name)
        assert segment.GetLabelValue() == structure.value


@pytest.fixture
def loaded(scene, writer, tmp_path):
    """Save a scene with a result under a transform as MRB, and load it into another."""
    affine = scenes.affine_with(scenes.orientations()[13])
    volume = scenes.add_volume(scene, affine)
    volume.SetAndObserveTransformNodeID(scenes.add_transform(scene, MOVE).GetID())
    answer = scenes.answer_with(scenes.grid_over(MOVE @ affine))
    nodes = writer.show(volume, read_volume(volume), answer)
    writer.show_3d(nodes, True)
    bundle = tmp_path / "scene.mrb"
    assert scene.WriteToMRB(str(bundle))
    other = scenes.rig()
    cache = slicer.vtkCacheManager()
    cache.SetRemoteCacheDirectory(str(tmp_path))
    manager = slicer.vtkDataIOManager()
    manager.SetCacheManager(cache)
    other.scene.SetDataIOManager(manager)
    assert other.scene.ReadFromMRB(str(bundle))
    other.writer = ResultWriter(other.scene, other.Colors)
    other.volume = other.scene.GetFirstNodeByName("scan")
    other.answer, other.affine = answer, MOVE @ affine
    return other


def test_a_result_is_found_again_in_a_loaded_scene(loaded):
    nodes = loaded.writer.find(loaded.volume)
    assert set(nodes.maps) == {KEPT, DEPTH, IMPORTANCE, ("importance", 2)}
    segmentation = loaded.scene.GetNodeByID(nodes.segmentation)
    for structure in scenes.STRUCTURES:
        expected = scenes.expected_voxels(loaded.answer.labels, structure.value, loaded.affine)
        assert scenes.segment_in_world(segmentation, structure.name) == expected
    kept = scenes.values_in_world(loaded.scene.GetNodeByID(nodes.maps[KEPT]))
    expected = scenes.expected_values(loaded.answer.maps[0].data, loaded.answer.grid.affine)
    assert kept == expected
    table = loaded.scene.GetNodeByID(nodes.table)
    assert table.GetCellText(1, 1) == "brain-mr-stp"


def test_colours_and_legends_are_those_that_were_saved(loaded):
    nodes = loaded.writer.find(loaded.volume)
    depth = loaded.scene.GetNodeByID(nodes.maps[DEPTH])
    colors = depth.GetDisplayNode().GetColorNode()
    names = {n: colors.GetColorName(n) for n in range(8) if colors.GetColorDefined(n)}
    assert names == {1: "0 of 6 blocks", 4: "3 of 6 blocks", 7: "6 of 6 blocks"}
    rgba = [0.0] * 4
    colors.GetColor(4, rgba)
    assert [round(255 * c) for c in rgba] == [0x21, 0x91, 0x8C, 0x80]
    colors.GetColor(0, rgba)
    assert rgba[3] == 0
    legend = loaded.Colors.GetColorLegendDisplayNode(depth)
    assert legend.GetTitleText() == "depth"
    shades = loaded.scene.GetNodeByID(nodes.maps[IMPORTANCE]).GetDisplayNode()
    assert (shades.GetWindowLevelMin(), shades.GetWindowLevelMax()) == (0, 1)
    assert not shades.GetInterpolate()
    assert shades.GetApplyThreshold()


def test_a_run_in_a_loaded_scene_fills_what_was_loaded(loaded):
    nodes = loaded.writer.find(loaded.volume)
    before = scenes.count_nodes(loaded.scene)
    source = read_volume(loaded.volume)
    answer = scenes.answer_with(scenes.grid_over(source.affine), seed=5)
    assert loaded.writer.show(loaded.volume, source, answer, nodes) == nodes
    assert scenes.count_nodes(loaded.scene) == before
    kept = scenes.values_in_world(loaded.scene.GetNodeByID(nodes.maps[KEPT]))
    assert kept == scenes.expected_values(answer.maps[0].data, answer.grid.affine)


def test_a_loaded_result_is_removed_whole(loaded):
    loaded.writer.remove(loaded.writer.find(loaded.volume))
    assert loaded.writer.find(loaded.volume) is None
    left = scenes.count_nodes(loaded.scene)
    # the default colour nodes of the scene that was loaded into are there twice
    ours = Counter({name: count for name, count in left.items() if "Color" not in name})
    fresh = scenes.count_nodes(scenes.rig().scene)
    assert ours - fresh == {
        "vtkMRMLScalarVolumeNode": 1,
        "vtkMRMLScalarVolumeDisplayNode": 1,
        "vtkMRMLVolumeArchetypeStorageNode": 1,
        "vtkMRMLLinearTransformNode": 1,
        "vtkMRMLTransformStorageNode": 1,
    }
    assert left["vtkMRMLColorLegendDisplayNode"] == left["vtkMRMLColorTableStorageNode"] == 0
    assert loaded.scene.GetFirstNodeByName("scan kept / pruned colors") is None
