"""Going to a place: the slice comes into view and the place into the middle, whatever is open."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from napari_sparseseg.plugin.inspector.places import show_place

PLACE = np.array([4.0, 30.0, 12.0])


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    viewer.add_layer(Image(np.zeros((10, 20, 30)), scale=(1, 2, 3)))
    return viewer


def test_a_place_is_shown(viewer: ViewerModel):
    show_place(viewer, PLACE)
    assert viewer.dims.point[0] == 4
    assert viewer.scene.camera.center[1:] == (30, 12)


def test_in_3d_all_of_it_is_the_middle(viewer: ViewerModel):
    viewer.dims.ndisplay = 3
    show_place(viewer, PLACE)
    assert viewer.scene.camera.center == (4, 30, 12)


@pytest.mark.parametrize("ndisplay", [2, 3])
def test_a_layer_of_more_dimensions_keeps_its_frame(viewer: ViewerModel, ndisplay: int):
    viewer.add_layer(Image(np.zeros((5, 10, 20, 30))))
    viewer.dims.set_point(0, 3)
    viewer.dims.ndisplay = ndisplay

    show_place(viewer, PLACE)

    assert viewer.dims.point[:2] == (3, 4)
    assert viewer.scene.camera.center[1:] == (30, 12)
    if ndisplay == 3:
        assert viewer.scene.camera.center[0] == 4


def test_an_axis_that_the_place_does_not_know_may_be_displayed(viewer: ViewerModel):
    viewer.add_layer(Image(np.zeros((5, 10, 20, 30))))
    viewer.dims.order = (1, 2, 0, 3)  # rows are frames
    before = viewer.scene.camera.center

    show_place(viewer, PLACE)

    assert viewer.dims.point[1:3] == (4, 30)
    assert viewer.scene.camera.center == (before[0], before[1], 12)
