"""What a result looks like in the scene, and what stays of it: nothing that nobody wants."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("slicer_core", reason="needs Slicer's scene: run `make test-slicer`")

import slicer
from vtk.util.numpy_support import vtk_to_numpy

from SparseSegLib.errors import SceneError
from SparseSegLib.scene import ResultWriter, fingerprint, read_volume
from tests.slicer.mrml import scenes

AFFINE = scenes.affine_with(scenes.orientations()[13])
GRID = scenes.grid_over(AFFINE)
KEPT, DEPTH = ("kept", None), ("depth", None)


@pytest.fixture
def volume(scene):
    return scenes.add_volume(scene, AFFINE)


@pytest.fixture
def source(volume):
    return read_volume(volume)


def test_what_the_engine_gets_are_the_voxels_of_the_node(volume, source):
    i, j, k = 3, 7, 2
    assert source.array_ijk[i, j, k] == volume.GetImageData().GetScalarComponentAsDouble(i, j, k, 0)
    assert source.array_ijk.shape == source.shape == scenes.SHAPE
    assert source.array_ijk.dtype == np.int16
    assert source.array_ijk.flags.f_contiguous
    with pytest.raises(ValueError, match="read-only"):
        source.array_ijk[0, 0, 0] = 1


def test_segments_have_names_colours_and_codes(scene, writer, volume, source):
    nodes = writer.show(volume, source, scenes.answer_with(GRID))
    segmentation = scene.GetNodeByID(nodes.segmentation).GetSegmentation()
    segments = [segmentation.GetNthSegment(n) for n in range(segmentation.GetNumberOfSegments())]
    assert [segment.GetName() for segment in segments] == [s.name for s in scenes.STRUCTURES]
    assert [segment.GetLabelValue() for segment in segments] == [1, 2, 3]
    colors = [tuple(round(255 * c) for c in segment.GetColor()) for segment in segments]
    assert colors == [(0xFF, 0xD9, 0x2E), (0x1F, 0xA3, 0x5C), (0x46, 0x53, 0xC4)]
    entries = [slicer.vtkSlicerTerminologyEntry() for _ in segments]
    logic = slicer.vtkSlicerTerminologiesModuleLogic()
    for segment, entry in zip(segments, entries, strict=True):
        logic.DeserializeTerminologyEntry(segment.GetTerminology(), entry)
    codes = [entry.GetTypeObject().GetCodeValue() for entry in entries]
    assert codes[:2] == ["5366008", "45289007"]
    assert entries[1].GetTypeModifierObject().GetCodeMeaning() == "Left"


def test_a_structure_that_was_not_found_is_an_empty_segment(scene, writer, volume, source):
    nodes = writer.show(volume, source, scenes.answer_with(GRID))
    segmentation = scene.GetNodeByID(nodes.segmentation)
    assert scenes.segment_in_world(segmentation, "left parotid") == set()
    assert segmentation.GetSegmentation().GetNumberOfLayers() == 1


def test_segments_are_outlined_so_that_the_map_below_can_be_seen(scene, writer, volume, source):
    nodes = writer.show(volume, source, scenes.answer_with(GRID))
    display = scene.GetNodeByID(nodes.segmentation).GetDisplayNode()
    assert display.GetVisibility2DOutline()
    assert not display.GetVisibility2DFill()


def test_a_map_has_its_words_and_colours(scene, writer, volume, source):
    answer = scenes.answer_with(GRID)
    nodes = writer.show(volume, source, answer)
    node = scene.GetNodeByID(nodes.maps[KEPT])
    assert node.GetName() == "scan kept / pruned"
    assert node.GetDescription() == "Where."
    colors = node.GetDisplayNode().GetColorNode()
    counts = [entry.count for entry in answer.maps[0].legend]
    expected = [f"state {n} ({count})" for n, count in enumerate(counts, start=1)]
    assert [colors.GetColorName(n) for n in (1, 2, 3)] == expected
    rgba = [0.0] * 4
    colors.GetColor(2, rgba)
    assert [round(255 * c) for c in rgba] == [0xD3, 0x43, 0x6E, 0x90]


def test_a_label_of_0_is_air_and_values_without_a_meaning_are_not_in_the_legend(
    scene, writer, volume, source
):
    answer = scenes.answer_with(GRID)
    nodes = writer.show(volume, source, answer)
    node = scene.GetNodeByID(nodes.maps[DEPTH])
    labels = vtk_to_numpy(node.GetImageData().GetPointData().GetScalars())
    assert (labels == answer.maps[-1].data.ravel(order="F") + 1).all()
    colors = node.GetDisplayNode().GetColorNode()
    defined = {n: colors.GetColorName(n) for n in range(8) if colors.GetColorDefined(n)}
    assert defined == {1: "0 of 6 blocks", 4: "3 of 6 blocks", 7: "6 of 6 blocks"}


def test_the_table_tells_what_ran(scene, writer, volume, source):
    nodes = writer.show(volume, source, scenes.answer_with(GRID))
    table = scene.GetNodeByID(nodes.table)
    rows = {
        table.GetCellText(n, 0): (table.GetCellText(n, 1), table.GetCellText(n, 2))
        for n in range(table.GetNumberOfRows())
    }
    assert rows["keep ratio"] == ("0.5", "")
    assert rows["tokens, pruned"] == ("10", "tokens")
    assert rows["time, total"] == ("1.50", "s")
    assert rows["peak memory"] == ("512", "MB")
    assert rows["volume, hippocampus"] == ("0.006", "ml")
    assert rows["Dice to dense, hippocampus"] == ("0.8750", "")
    assert "Dice to dense, left parotid" not in rows
    assert rows["notice"][0] == "Research use only, not for diagnosis."


def test_memory_and_setting_that_nobody_knows_are_left_out(scene, writer, volume, source):
    report = scenes.REPORT | {"peak_memory_mb": None, "setting": None}
    answer = replace(scenes.answer_with(GRID), report=report)
    table = scene.GetNodeByID(writer.show(volume, source, answer).table)
    names = {table.GetCellText(n, 0) for n in range(table.GetNumberOfRows())}
    assert "notice" in names
    assert not names & {"peak memory", "keep ratio"}


# Again


def test_runs_fill_the_same_nodes(scene, writer, volume, source):
    nodes = writer.show(volume, source, scenes.answer_with(GRID))
    writer.show_map(nodes, KEPT)
    writer.show_3d(nodes, True)
    before = scenes.count_nodes(scene)
    for seed in range(20):
        answer = scenes.answer_with(GRID, np.roll(scenes.labels_of(), seed % 3, axis=0), seed)
        assert writer.show(volume, source, answer, nodes) == nodes
        writer.show_map(nodes, answer.maps[seed % 4].key)
    assert scenes.count_nodes(scene) == before
    shown = scenes.segment_in_world(scene.GetNodeByID(nodes.segmentation), "hippocampus")
    assert shown == scenes.expected_voxels(answer.labels, 1, AFFINE)
    kept = scenes.values_in_world(scene.GetNodeByID(nodes.maps[KEPT]))
    assert kept == scenes.expected_values(answer.maps[0].data, GRID.affine)


def test_maps_that_a_new_answer_lacks_go_and_new_ones_come(scene, writer, volume, source):
    start = scenes.count_nodes(scene)
    few = writer.show(volume, source, scenes.answer_with(GRID, stages=1))
    expected = scenes.count_nodes(scene)
    many = writer.show(volume, source, scenes.answer_with(GRID, stages=3), few)
    writer.show_map(many, ("importance", 3))
    assert set(many.maps) == {KEPT, DEPTH, *(("importance", n) for n in (1, 2, 3))}
    assert writer.show(volume, source, scenes.answer_with(GRID, stages=1), many) == few
    assert scenes.count_nodes(scene) == expected
    writer.remove(few)
    assert scenes.count_nodes(scene) == start


def test_other_structures_take_the_place_of_the_old(scene, writer, volume, source):
    nodes = writer.show(volume, source, scenes.answer_with(GRID))
    other = (replace(scenes.STRUCTURES[0], value=3, name="thalamus"), scenes.STRUCTURES[0])
    answer = replace(scenes.answer_with(GRID), structures=other)
    segmentation = scene.GetNodeByID(writer.show(volume, source, answer, nodes).segmentation)
    names = {segmentation.GetSegmentation().GetNthSegment(n).GetName() for n in range(2)}
    assert segmentation.GetSegmentation().GetNumberOfSegments() == 2
    assert names == {"thalamus", "hippocampus"}
    found = scenes.segment_in_world(segmentation, "thalamus")
    assert found == scenes.expected_voxels(answer.labels, 3, AFFINE)


def test_what_the_user_chose_stays(scene, writer, volume, source):
    nodes = writer.show(volume, source, scenes.answer_with(GRID))
    segmentation = scene.GetNodeByID(nodes.segmentation)
    segmentation.SetName("my name")
    segmentation.GetDisplayNode().SetSegmentVisibility("hippocampus", False)
    shades = scene.GetNodeByID(nodes.maps["importance", 1]).GetDisplayNode()
    chosen = scene.AddNewNodeByClass("vtkMRMLColorTableNode", "chosen")
    chosen.SetTypeToRainbow()
    before = chosen.GetLookupTable().GetNumberOfTableValues(), chosen.GetColorName(0)
    shades.SetAndObserveColorNodeID(chosen.GetID())
    writer.show(volume, source, scenes.answer_with(GRID, seed=1), nodes)
    assert segmentation.GetName() == "my name"
    assert not segmentation.GetDisplayNode().GetSegmentVisibility("hippocampus")
    assert shades.GetColorNode() is chosen
    after = chosen.GetLookupTable().GetNumberOfTableValues(), chosen.GetColorName(0)
    assert after == before
    writer.remove(nodes)
    assert scene.GetNodeByID(chosen.GetID()) is chosen


def test_what_the_user_removed_is_made_again(rig, scene, writer, volume, source):
    answer = scenes.answer_with(GRID)
    nodes = writer.show(volume, source, answer)
    expected = scenes.count_nodes(scene)
    kept = scene.GetNodeByID(nodes.maps[KEPT])
    scene.RemoveNode(rig.Colors.GetColorLegendDisplayNode(kept))
    scene.RemoveNode(kept.GetNodeReference("SparseSeg.Colors"))
    scene.RemoveNode(scene.GetNodeByID(nodes.table))
    scene.GetNodeByID(nodes.segmentation).GetSegmentation().RemoveSegment("hippocampus")
    nodes = writer.show(volume, source, answer, nodes)
    assert scenes.count_nodes(scene) == expected
    assert kept.GetDisplayNode().GetColorNode().GetColorName(1).startswith("state 1")
    found = scenes.segment_in_world(scene.GetNodeByID(nodes.segmentation), "hippocampus")
    assert found == scenes.expected_voxels(answer.labels, 1, AFFINE)


def test_surfaces_are_made_on_demand_and_follow_the_next_run(scene, writer, volume, source):
    nodes = writer.show(volume, source, scenes.answer_with(GRID))
    segmentation = scene.GetNodeByID(nodes.segmentation)

    def height():
        surface = segmentation.GetClosedSurfaceInternalRepresentation("hippocampus")
        return None if surface is None else surface.GetBounds()

    assert height() is None
    writer.show_3d(nodes, True)
    first = height()
    moved = scenes.answer_with(GRID, np.roll(scenes.labels_of(), 4, axis=0))
    writer.show(volume, source, moved, nodes)
    # this orientation has voxel axis I along S: four voxels of 1.5 mm
    axis = int(np.abs(AFFINE[:3, 0]).argmax())
    assert abs(height()[2 * axis] - first[2 * axis]) == pytest.approx(6.0, abs=1e-3)
    writer.show_3d(nodes, False)
    assert height() is None


def test_a_preview_fills_its_map_and_nothing_else(scene, writer, volume, source):
    nodes = writer.show(volume, source, scenes.answer_with(GRID))
    before = scenes.count_nodes(scene)
    depth = scenes.values_in_world(scene.GetNodeByID(nodes.maps[DEPTH]))
    ahead = scenes.kept_map(GRID.shape, seed=9)
    nodes = writer.preview(volume, source, GRID, ahead, nodes)
    kept = scenes.values_in_world(scene.GetNodeByID(nodes.maps[KEPT]))
    assert kept == scenes.expected_values(ahead.data, GRID.affine)
    assert scenes.values_in_world(scene.GetNodeByID(nodes.maps[DEPTH])) == depth
    assert scenes.count_nodes(scene) == before


def test_a_preview_before_the_first_run_is_taken_over_by_it(scene, writer, volume, source):
    nodes = writer.preview(volume, source, GRID, scenes.kept_map(GRID.shape))
    assert nodes.segmentation == nodes.table == ""
    kept = nodes.maps[KEPT]
    assert writer.show(volume, source, scenes.answer_with(GRID), nodes).maps[KEPT] == kept


def test_two_volumes_have_results_of_their_own(scene, writer, volume, source):
    other = scenes.add_volume(scene, np.eye(4))
    first = writer.show(volume, source, scenes.answer_with(GRID))
    second = writer.show(other, read_volume(other), scenes.answer_with(scenes.grid_over(np.eye(4))))
    assert not set(first.maps.values()) & set(second.maps.values())
    assert writer.find(volume) == first
    assert writer.find(other) == second
    writer.remove(second)
    assert writer.find(volume) == first
    assert writer.find(other) is None


def test_results_stand_beside_their_volume_in_the_tree(scene, writer, volume, source):
    tree = scene.GetSubjectHierarchyNode()
    study = tree.CreateStudyItem(tree.GetSceneItemID(), "study")
    tree.CreateItem(study, volume)

    # Slicer's application makes an item of each node; here nobody else does
    def add_item(*_):
        newest = scene.GetNthNode(scene.GetNumberOfNodes() - 1)
        tree.CreateItem(tree.GetSceneItemID(), newest)

    scene.AddObserver(scene.NodeAddedEvent, add_item)
    nodes = writer.show(volume, source, scenes.answer_with(GRID))
    for node_id in (nodes.segmentation, nodes.table, *nodes.maps.values()):
        item = tree.GetItemByDataNode(scene.GetNodeByID(node_id))
        assert tree.GetItemParent(item) == study


# When it goes wrong


def refuse(writer, volume, source, answer, match, nodes=None):
    scene = volume.GetScene()
    before = None if scene is None else scenes.count_nodes(scene)
    with pytest.raises(SceneError, match=match):
        writer.show(volume, source, answer, nodes)
    assert scene is None or scenes.count_nodes(scene) == before


def test_an_answer_of_another_size_is_refused(writer, volume, source):
    answer = scenes.answer_with(GRID, np.zeros((3, 3, 3), np.uint8))
    refuse(writer, volume, source, answer, "does not fit scan; segment it again")
    grid = replace(GRID, shape=(9, 9, 9))
    answer = replace(scenes.answer_with(GRID), grid=grid)
    refuse(writer, volume, source, answer, "does not fit scan; segment it again")


def test_a_volume_that_was_removed_meanwhile_is_named(scene, writer, volume, source):
    start = scenes.count_nodes(scene)
    scene.RemoveNode(volume)
    without = scenes.count_nodes(scene)
    refuse(writer, volume, source, scenes.answer_with(GRID), "scan was removed from the scene")
    assert scenes.count_nodes(scene) == without != start


def test_a_volume_that_changed_its_size_meanwhile_is_named(writer, volume, source):
    scenes.fill_volume(volume, np.zeros((4, 4, 4), np.int16), AFFINE)
    refuse(writer, volume, source, scenes.answer_with(GRID), "scan has another size")


def test_a_failure_halfway_leaves_nothing_behind(scene, writer, volume, source):
    answer = scenes.answer_with(GRID)
    broken = replace(answer.maps[-1], legend=(replace(answer.maps[-1].legend[0], color="red"),))
    before = scenes.count_nodes(scene)
    with pytest.raises(ValueError, match="red"):
        writer.show(volume, source, replace(answer, maps=(*answer.maps[:-1], broken)))
    assert scenes.count_nodes(scene) == before
    assert writer.find(volume) is None


def test_a_scene_that_was_closed_takes_its_results_along(scene, writer, volume, source):
    nodes = writer.show(volume, source, scenes.answer_with(GRID))
    writer.show_map(nodes, KEPT)
    scene.Clear(False)
    empty = scenes.count_nodes(scene)
    writer.show_map(nodes, KEPT)
    writer.show_map(nodes, None)
    writer.show_3d(nodes, True)
    writer.remove(nodes)
    assert scenes.count_nodes(scene) == empty
    refuse(writer, volume, source, scenes.answer_with(GRID), "removed from the scene", nodes)
    again = scenes.add_volume(scene, AFFINE)
    fresh = writer.show(again, read_volume(again), scenes.answer_with(GRID), nodes)
    assert writer.find(again) == fresh


def test_results_outlive_their_volume_and_can_be_removed(scene, writer, volume, source):
    start = scenes.count_nodes(scene)
    nodes = writer.show(volume, source, scenes.answer_with(GRID))
    writer.show_map(nodes, KEPT)
    scene.RemoveNode(volume)
    writer.show_map(nodes, DEPTH)
    writer.remove(nodes)
    left = scenes.count_nodes(scene)
    assert start - left == {"vtkMRMLScalarVolumeNode": 1}
    assert not left - start


def test_nodes_that_cannot_be_read_are_named(scene):
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    with pytest.raises(SceneError, match="empty holds no voxels"):
        read_volume(empty)
    colored = scenes.add_volume(scene, np.eye(4))
    colored.GetImageData().AllocateScalars(3, 3)
    with pytest.raises(SceneError, match="scan holds 3 numbers a voxel"):
        read_volume(colored)


def test_the_fingerprint_tells_when_the_engine_needs_the_volume_again(scene, volume, source):
    assert fingerprint(volume) == source.fingerprint == read_volume(volume).fingerprint
    volume.SetName("another name")
    assert fingerprint(volume) == source.fingerprint
    transform = scenes.add_transform(scene, scenes.rigid(1))
    volume.SetAndObserveTransformNodeID(transform.GetID())
    assert fingerprint(volume) != source.fingerprint
    volume.SetAndObserveTransformNodeID(None)
    assert fingerprint(volume) == source.fingerprint
    volume.GetImageData().SetScalarComponentFromDouble(0, 0, 0, 0, 7)
    volume.GetImageData().Modified()
    assert fingerprint(volume) != source.fingerprint


def test_the_display_is_held_still_while_nodes_change(rig, scene, volume, source):
    events = []

    class Blocker:
        def __enter__(self):
            events.append(scenes.count_nodes(scene).total())

        def __exit__(self, *_):
            events.append(scenes.count_nodes(scene).total())

    writer = ResultWriter(scene, rig.Colors, Blocker)
    before = scenes.count_nodes(scene).total()
    writer.show(volume, source, scenes.answer_with(GRID))
    assert events == [before, scenes.count_nodes(scene).total()]
    assert events[0] < events[1]
