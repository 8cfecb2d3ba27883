"""Overlays to the pixel, as Slicer's own slice logic blends them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer_core", reason="needs Slicer's scene: run `make test-slicer`")

import slicer
from vtk.util.numpy_support import vtk_to_numpy

from SparseSegLib.answers import LegendEntry, TokenMap
from SparseSegLib.scene import OPACITY, read_volume
from tests.slicer.mrml import scenes

SHAPE = (32, 24, 8)
PATCH = 8
GREY = 100
"""The scan is as bright as this everywhere."""
KEY = ("kept", None)


class View:
    """A slice view without a window: an axial slice, one pixel a voxel, the first voxel lowest."""

    def __init__(self, rig, name="Red"):
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(rig.application)
        self.logic.SetMRMLScene(rig.scene)
        node = self.logic.AddSliceNode(name)
        node.SetDimensions(SHAPE[0], SHAPE[1], 1)
        node.SetFieldOfView(SHAPE[0], SHAPE[1], 1)
        # along I and J of a volume whose affine is the identity
        matrix = np.eye(4)
        matrix[:3, 3] = (SHAPE[0] / 2, SHAPE[1] / 2, 3)
        node.GetSliceToRAS().DeepCopy(scenes.array_to_matrix(matrix))
        node.UpdateMatrices()
        self.composite = self.logic.GetSliceCompositeNode()

    def pixels(self):
        """Give (I, J, 3) of the blended slice."""
        self.logic.UpdatePipeline()
        port = self.logic.GetImageDataConnection()
        port.GetProducer().Update()
        image = port.GetProducer().GetOutputDataObject(port.GetIndex())
        width, height, _ = image.GetDimensions()
        values = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)
        return values[:, :, :3].transpose(1, 0, 2).astype(int)


@pytest.fixture
def view(rig):
    return View(rig)


@pytest.fixture
def volume(scene, view):
    node = scenes.add_volume(scene, np.eye(4), SHAPE)
    scenes.fill_volume(node, np.full(SHAPE, GREY, np.int16), np.eye(4))
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0, 255)
    return node


def grid():
    return scenes.grid_over(np.eye(4), SHAPE, PATCH)


def categories():
    """Tokens along I: air, covered, half clear, and one of no meaning."""
    data = np.zeros(grid().shape, np.uint8) + np.array([0, 1, 2, 5], np.uint8)[:, None, None]
    legend = (LegendEntry(1, "left", "#ff0000ff", 1), LegendEntry(2, "kept", "#0000ff80", 1))
    return TokenMap("kept", None, "kept", "", data, "categories", legend, (0, 1), ())


def shades():
    """Tokens along I: not scored, 0, 0.5 and 1."""
    data = np.zeros(grid().shape, np.float32) + np.array([np.nan, 0, 0.5, 1])[:, None, None]
    colormap = tuple(f"#{n:02x}00{255 - n:02x}ff" for n in range(256))
    return TokenMap("importance", 1, "importance", "", data, "shades", (), (0, 1), colormap)


def show(writer, volume, *maps):
    source = read_volume(volume)
    nodes = None
    for token_map in maps:
        nodes = writer.preview(volume, source, grid(), token_map, nodes)
    return nodes


def blend(color, alpha):
    return np.array(color) * alpha + GREY * (1 - alpha)


def assert_tokens(pixels, colors):
    """See that each token along I has one colour, to its very edge."""
    expected = np.repeat(np.array(colors), PATCH, axis=0)[:, None, :]
    assert np.abs(pixels - expected).max() <= 2


@pytest.mark.parametrize("opacity", [1.0, 0.4, 0.0])
def test_categories_have_their_colours_with_their_own_clearness(writer, view, volume, opacity):
    nodes = show(writer, volume, categories())
    writer.show_map(nodes, KEY, opacity)
    red, blue = blend((255, 0, 0), opacity), blend((0, 0, 255), opacity * 128 / 255)
    assert_tokens(view.pixels(), [(GREY,) * 3, red, blue, (GREY,) * 3])


@pytest.mark.parametrize("opacity", [1.0, OPACITY["shades"], 0.0])
def test_shades_are_spread_over_their_range_and_tokens_without_a_score_are_clear(
    writer, view, volume, opacity
):
    nodes = show(writer, volume, shades())
    writer.show_map(nodes, ("importance", 1), opacity)
    colors = [(0, 0, 255), (127.5, 0, 127.5), (255, 0, 0)]
    drawn = [blend(color, opacity) for color in colors]
    assert_tokens(view.pixels(), [(GREY,) * 3, *drawn])


def test_air_below_0_is_clear_and_a_depth_of_0_is_not(writer, view, volume):
    data = np.zeros(grid().shape, np.int16) + np.array([-1, 0, 3, 6])[:, None, None]
    legend = (LegendEntry(0, "0", "#ff0000ff", 1), LegendEntry(6, "6", "#00ff00ff", 1))
    depth = TokenMap(
        "depth", None, "d", "", data.astype(np.int16), "categories", legend, (0, 1), ()
    )
    writer.show_map(show(writer, volume, depth), ("depth", None))
    grey = (GREY,) * 3
    assert_tokens(view.pixels(), [grey, (255, 0, 0), grey, (0, 255, 0)])


def test_a_new_run_changes_what_is_shown(writer, view, volume):
    nodes = show(writer, volume, categories())
    writer.show_map(nodes, KEY)
    view.pixels()
    token_map = categories()
    token_map.data[:] = np.array([1, 1, 0, 0], np.uint8)[:, None, None]
    writer.preview(volume, read_volume(volume), grid(), token_map, nodes)
    grey, red = (GREY,) * 3, (255, 0, 0)
    assert_tokens(view.pixels(), [red, red, grey, grey])


def test_one_map_at_a_time(writer, view, volume, scene):
    nodes = show(writer, volume, categories(), shades())
    writer.show_map(nodes, KEY)
    writer.show_map(nodes, ("importance", 1))
    colors = [(GREY,) * 3, (0, 0, 255), (127.5, 0, 127.5), (255, 0, 0)]
    assert_tokens(view.pixels(), colors)
    assert view.composite.GetLabelVolumeID() is None
    writer.show_map(nodes, KEY)
    assert view.composite.GetForegroundVolumeID() is None
    writer.show_map(nodes, None)
    assert view.composite.GetLabelVolumeID() is None
    assert (view.pixels() == GREY).all()


def test_the_legend_is_that_of_the_map_shown(rig, scene, writer, view, volume):
    nodes = show(writer, volume, categories(), shades())

    def legends():
        found = {}
        for key, node_id in nodes.maps.items():
            legend = rig.Colors.GetColorLegendDisplayNode(scene.GetNodeByID(node_id))
            if legend.GetVisibility():
                found[key] = legend.GetTitleText(), legend.GetUseColorNamesForLabels()
        return found

    assert legends() == {}
    writer.show_map(nodes, KEY)
    assert legends() == {KEY: ("kept", True)}
    writer.show_map(nodes, ("importance", 1))
    assert legends() == {("importance", 1): ("importance", False)}
    writer.show_map(nodes, None)
    assert legends() == {}


def test_views_get_back_what_they_showed(rig, scene, writer, view, volume):
    other = scenes.add_volume(scene, np.eye(4), SHAPE)
    drawn = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "drawn")
    second = View(rig, "Green").composite
    first = view.composite
    first.SetForegroundVolumeID(other.GetID())
    first.SetForegroundOpacity(0.25)
    first.SetLabelVolumeID(drawn.GetID())
    nodes = show(writer, volume, categories(), shades())
    for key in (KEY, ("importance", 1), KEY, ("importance", 1), ("importance", 1), None):
        writer.show_map(nodes, key, 0.75)
    assert first.GetForegroundVolumeID() == other.GetID()
    assert first.GetForegroundOpacity() == 0.25
    assert first.GetLabelVolumeID() == drawn.GetID()
    assert second.GetForegroundVolumeID() is None
    writer.show_map(nodes, KEY)
    writer.remove(nodes)
    assert first.GetLabelVolumeID() == drawn.GetID()


def test_a_foreground_that_is_gone_does_not_come_back(scene, writer, view, volume):
    other = scenes.add_volume(scene, np.eye(4), SHAPE)
    view.composite.SetForegroundVolumeID(other.GetID())
    nodes = show(writer, volume, shades())
    writer.show_map(nodes, ("importance", 1))
    scene.RemoveNode(other)
    writer.show_map(nodes, None)
    assert view.composite.GetForegroundVolumeID() is None


def test_what_the_user_put_over_the_map_is_left_alone(scene, writer, view, volume):
    other = scenes.add_volume(scene, np.eye(4), SHAPE)
    nodes = show(writer, volume, shades())
    writer.show_map(nodes, ("importance", 1))
    view.composite.SetForegroundVolumeID(other.GetID())
    writer.show_map(nodes, None)
    assert view.composite.GetForegroundVolumeID() == other.GetID()


def test_a_view_without_a_scan_gets_it(rig, scene, writer, view, volume):
    other = scenes.add_volume(scene, np.eye(4), SHAPE)
    second = View(rig, "Green").composite
    second.SetBackgroundVolumeID(other.GetID())
    writer.show_map(show(writer, volume, shades()), ("importance", 1))
    assert view.composite.GetBackgroundVolumeID() == volume.GetID()
    assert second.GetBackgroundVolumeID() == other.GetID()
