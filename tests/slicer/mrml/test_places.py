"""Labels and token maps lie where their voxels lie in RAS, whatever the volume and its transforms.

What is expected is arithmetic on arrays; where nodes lie is read from the nodes.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("slicer_core", reason="needs Slicer's scene: run `make test-slicer`")

import slicer
import vtk

from SparseSegLib.scene import read_volume
from tests.slicer.mrml import scenes

MOVES = {"nothing": np.eye(4), "rigid": scenes.rigid(1), "shift": scenes.rigid(2)}
ELSEWHERE = scenes.rigid(7)


def show(writer, volume, source=None, nodes=None, grid=None):
    """Show an answer whose token grid lies as the voxels do, as it was sent."""
    source = source or read_volume(volume)
    grid = grid or scenes.grid_over(source.affine, source.array_ijk.shape)
    answer = scenes.answer_with(grid, scenes.labels_of(source.shape)[source.slices])
    return answer, writer.show(volume, source, answer, nodes)


def check(scene, nodes, answer, voxel_to_world, grid_to_world):
    """See that all lies where arithmetic says."""
    segmentation = scene.GetNodeByID(nodes.segmentation)
    for structure in answer.structures:
        found = scenes.segment_in_world(segmentation, structure.name)
        assert found == scenes.expected_voxels(answer.labels, structure.value, voxel_to_world)
    for token_map in answer.maps:
        found = scenes.values_in_world(scene.GetNodeByID(nodes.maps[token_map.key]))
        stored = np.nan_to_num(token_map.data, nan=-1.0) + (token_map.kind == "depth")
        assert found == scenes.expected_values(stored, grid_to_world)


@pytest.mark.parametrize("axes", [*scenes.orientations(), scenes.turned(3), scenes.turned(4)])
def test_in_all_orientations_and_oblique(scene, writer, axes):
    affine = scenes.affine_with(axes)
    volume = scenes.add_volume(scene, affine)
    answer, nodes = show(writer, volume)
    check(scene, nodes, answer, affine, answer.grid.affine)


@pytest.mark.parametrize("number", range(48))
def test_in_all_orientations_under_a_transform(scene, writer, number):
    affine, move = scenes.affine_with(scenes.orientations()[number]), scenes.rigid(number)
    volume = scenes.add_volume(scene, affine)
    volume.SetAndObserveTransformNodeID(scenes.add_transform(scene, move).GetID())
    source = read_volume(volume)
    assert np.allclose(source.affine, move @ affine)
    answer, nodes = show(writer, volume, source)
    check(scene, nodes, answer, move @ affine, scenes.grid_over(move @ affine).affine)


def test_a_token_grid_lies_where_the_engine_says_even_across_the_voxels(scene, writer):
    """The engine lays its grid along the patient's axes, not those of the volume."""
    volume = scenes.add_volume(scene, scenes.affine_with(scenes.turned(5)))
    move = scenes.rigid(5)
    volume.SetAndObserveTransformNodeID(scenes.add_transform(scene, move).GetID())
    grid = scenes.grid_over(np.diag([2.0, 2.0, 2.0, 1.0]), (16, 12, 8), patch=8)
    answer, nodes = show(writer, volume, grid=grid)
    check(scene, nodes, answer, read_volume(volume).affine, grid.affine)


def test_under_nested_transforms(scene, writer):
    outer = scenes.add_transform(scene, MOVES["rigid"])
    inner = scenes.add_transform(scene, MOVES["shift"], parent=outer)
    affine = scenes.affine_with(scenes.turned(6))
    volume = scenes.add_volume(scene, affine)
    volume.SetAndObserveTransformNodeID(inner.GetID())
    answer, nodes = show(writer, volume)
    world = MOVES["rigid"] @ MOVES["shift"] @ affine
    check(scene, nodes, answer, world, scenes.grid_over(world).affine)


@pytest.fixture
def moved_volume(scene):
    """Give a volume under a transform, the transform, and the volume's own affine."""
    affine = scenes.affine_with(scenes.orientations()[13])
    volume = scenes.add_volume(scene, affine)
    transform = scenes.add_transform(scene, MOVES["rigid"])
    volume.SetAndObserveTransformNodeID(transform.GetID())
    return volume, transform, affine


def test_results_move_with_the_transform(scene, writer, moved_volume):
    volume, transform, affine = moved_volume
    answer, nodes = show(writer, volume)
    scenes.move(transform, ELSEWHERE)
    world = ELSEWHERE @ affine
    check(scene, nodes, answer, world, scenes.grid_over(world).affine)


def test_the_transform_moves_while_the_engine_works(scene, writer, moved_volume):
    volume, transform, affine = moved_volume
    source = read_volume(volume)
    scenes.move(transform, ELSEWHERE)
    answer, nodes = show(writer, volume, source)
    world = ELSEWHERE @ affine
    check(scene, nodes, answer, world, scenes.grid_over(world).affine)


@pytest.mark.parametrize("how", ["hardened", "taken away"])
def test_the_transform_goes_while_the_engine_works(scene, writer, moved_volume, how):
    volume, _, affine = moved_volume
    source = read_volume(volume)
    if how == "hardened":
        volume.HardenTransform()
    else:
        volume.SetAndObserveTransformNodeID(None)
    answer, nodes = show(writer, volume, source)
    world = MOVES["rigid"] @ affine if how == "hardened" else affine
    check(scene, nodes, answer, world, scenes.grid_over(world).affine)


def test_the_transform_is_hardened_on_volume_and_results(scene, writer, moved_volume):
    volume, transform, affine = moved_volume
    answer, nodes = show(writer, volume)
    for node_id in (volume.GetID(), nodes.segmentation, *nodes.maps.values()):
        scene.GetNodeByID(node_id).HardenTransform()
    scene.RemoveNode(transform)
    world = MOVES["rigid"] @ affine
    check(scene, nodes, answer, world, scenes.grid_over(world).affine)


def test_the_next_run_follows_a_volume_that_was_hardened_alone(scene, writer, moved_volume):
    volume, transform, affine = moved_volume
    answer, nodes = show(writer, volume)
    volume.HardenTransform()
    world = MOVES["rigid"] @ affine
    check(scene, nodes, answer, world, scenes.grid_over(world).affine)
    scenes.move(transform, ELSEWHERE)
    answer, nodes = show(writer, volume, nodes=nodes)
    check(scene, nodes, answer, world, scenes.grid_over(world).affine)


def test_an_edit_of_a_segment_does_not_move_it_twice(scene, writer, moved_volume, monkeypatch, rig):
    """Slicer takes the labels of an edit in the space of the volume, under the transform of the
    segmentation: without the volume's transform on it, they land at twice the shift."""
    volume, _, affine = moved_volume
    _, nodes = show(writer, volume)
    modules = SimpleNamespace(
        volumes=SimpleNamespace(logic=lambda: rig.Volumes),
        segmentations=SimpleNamespace(logic=lambda: rig.Segmentations),
    )
    monkeypatch.setattr(slicer, "modules", modules, raising=False)
    monkeypatch.setattr(slicer, "mrmlScene", scene, raising=False)
    edit = np.zeros(scenes.SHAPE, dtype=np.uint8)
    edit[2, 3, 4:9] = 1
    segmentation = scene.GetNodeByID(nodes.segmentation)
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        edit.transpose(2, 1, 0).copy(), segmentation, "hippocampus", volume
    )
    expected = scenes.expected_voxels(edit, 1, MOVES["rigid"] @ affine)
    assert scenes.segment_in_world(segmentation, "hippocampus") == expected


def test_the_geometry_of_the_segmentation_is_that_of_the_volume(scene, writer, moved_volume):
    volume, _, affine = moved_volume
    _, nodes = show(writer, volume)
    segmentation = scene.GetNodeByID(nodes.segmentation)
    role = segmentation.GetReferenceImageGeometryReferenceRole()
    assert segmentation.GetNodeReferenceID(role) == volume.GetID()
    export = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "export")
    slicer.vtkSlicerSegmentationsModuleLogic.ExportAllSegmentsToLabelmapNode(
        segmentation, export, slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY
    )
    assert export.GetImageData().GetDimensions() == scenes.SHAPE
    values = scenes.values_in_world(export)
    labelled = {place for place, value in values.items() if value}
    world, labels = MOVES["rigid"] @ affine, scenes.labels_of()
    assert labelled == scenes.expected_voxels((labels > 0).astype(int), 1, world)


def test_a_transform_that_bends_leaves_the_volume_as_it_lies_below(scene, writer):
    affine = scenes.affine_with(scenes.turned(8))
    volume = scenes.add_volume(scene, affine)
    bend = scene.AddNewNodeByClass("vtkMRMLTransformNode", "bend")
    spline = vtk.vtkThinPlateSplineTransform()
    for points, shift in ((vtk.vtkPoints(), 0.0), (vtk.vtkPoints(), 5.0)):
        for place in np.random.default_rng(0).uniform(-50, 50, (8, 3)):
            points.InsertNextPoint(*place + shift * np.sin(place))
        (spline.SetTargetLandmarks if shift else spline.SetSourceLandmarks)(points)
    bend.SetAndObserveTransformToParent(spline)
    assert not bend.IsTransformToWorldLinear()
    volume.SetAndObserveTransformNodeID(bend.GetID())
    assert np.allclose(read_volume(volume).affine, affine)
    answer, nodes = show(writer, volume)
    for node_id in (nodes.segmentation, *nodes.maps.values()):
        node = scene.GetNodeByID(node_id)
        assert node.GetTransformNodeID() == bend.GetID()
        node.SetAndObserveTransformNodeID(None)
    check(scene, nodes, answer, affine, answer.grid.affine)


# Regions


def add_region(scene, middle, size, axes=None):
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "region")
    matrix = np.eye(4)
    matrix[:3, :3] = np.eye(3) if axes is None else axes
    matrix[:3, 3] = middle
    node.SetSize(*size)
    node.SetAndObserveObjectToNodeMatrix(scenes.array_to_matrix(matrix))
    return node


@pytest.mark.parametrize("number", range(0, 48, 5))
def test_a_region_is_cut_out_where_it_lies(scene, writer, number):
    affine, move = scenes.affine_with(scenes.orientations()[number]), scenes.rigid(number)
    volume = scenes.add_volume(scene, affine)
    volume.SetAndObserveTransformNodeID(scenes.add_transform(scene, move).GetID())
    # voxels 1 to 6, 2 to 7 and 2 to 9
    middle = (move @ affine @ (3.5, 4.5, 5.5, 1))[:3]
    size = np.array((6, 6, 8)) * (1.5, 2.0, 0.75)
    axes = move[:3, :3] @ scenes.orientations()[number]
    region = add_region(scene, middle, size, axes * np.sign(np.linalg.det(axes)))
    source = read_volume(volume, region)
    assert source.slices == (slice(1, 7), slice(2, 8), slice(2, 10))
    whole = read_volume(volume)
    assert (source.array_ijk == whole.array_ijk[1:7, 2:8, 2:10]).all()
    answer, nodes = show(writer, volume, source)
    check(scene, nodes, answer, source.affine, answer.grid.affine)
    in_place = scenes.expected_voxels(answer.labels, 1, source.affine)
    assert in_place <= scenes.expected_voxels(scenes.labels_of(), 1, move @ affine)


def test_a_region_under_a_transform_of_its_own(scene):
    volume = scenes.add_volume(scene, np.eye(4))
    region = add_region(scene, (-95.5, 4.5, 5.5), (2, 3, 4))
    region.SetAndObserveTransformNodeID(
        scenes.add_transform(scene, np.diag([2.0, 1, 1, 1]) + np.eye(4, k=3) * 195.5).GetID()
    )
    # twice as wide, its middle at 4.5
    assert read_volume(volume, region).slices == (slice(3, 7), slice(3, 7), slice(4, 8))
