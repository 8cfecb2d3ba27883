"""Where layers lie: on their voxels, whatever the orientation of the scan and of its layer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Image, Layer
from nibabel.orientations import ornt2axcodes

from napari_sparseseg.plugin.geometry import assumed_affine, placed, transform_of
from napari_sparseseg.plugin.readers import image_layer

from .results import ORIENTATIONS, assert_same_place, check_tokens, marked_volume, shown
from .window import STP_LAYERS


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=lambda o: "".join(ornt2axcodes(o)))
def test_labels_and_tokens_lie_on_their_voxels_in_all_orientations(orientation: np.ndarray):
    volume = marked_volume(orientation, (1.0, 1.5, 2.5))
    at = (3, 20, 6)
    labels = np.zeros(volume.shape, np.uint8)
    labels[at] = 2
    image = Layer.create(*image_layer(volume, "memory"))

    _, layers = shown(image, volume, labels)

    (found,) = np.argwhere(layers["segmentation"].data == 2)
    assert image.data[tuple(found)] == volume.data[at]
    assert_same_place(layers["segmentation"].data_to_world(found), image.data_to_world(found))
    check_tokens(layers, image)


@settings(max_examples=15, deadline=None)
@given(
    orientation=st.sampled_from(ORIENTATIONS),
    spacing=st.tuples(*(st.floats(0.4, 4),) * 3),
    tilt=st.floats(-0.6, 0.6),
    scale=st.tuples(*(st.sampled_from([-2.0, 0.5, 1.0]),) * 3),
    turn=st.floats(-60, 60),
)
def test_tokens_follow_whatever_transform_the_image_layer_has(
    orientation: np.ndarray, spacing: tuple, tilt: float, scale: tuple, turn: float
):
    volume = marked_volume(orientation, spacing, tilt)
    affine = np.eye(4)
    affine[:3, 3] = (7, -8, 9)
    image = Image(
        volume.data,
        scale=scale,
        translate=(4, 5, -6),
        rotate=(0, 0, turn),
        affine=affine,
        units=("mm",) * 3,
        axis_labels=("a", "b", "c"),
        metadata={"affine": volume.affine},
    )

    _, layers = shown(image, volume, np.zeros(volume.shape, np.uint8))

    check_tokens(layers, image)
    for role in STP_LAYERS:
        assert layers[role].units == image.units
        assert layers[role].axis_labels == image.axis_labels


@settings(max_examples=20, deadline=None)
@given(
    orientation=st.sampled_from(ORIENTATIONS),
    spacing=st.tuples(*(st.floats(0.4, 4),) * 3),
    tilt=st.floats(-0.6, 0.6),
)
def test_placed_volume_shows_axial_slices_with_anterior_up(
    orientation: np.ndarray, spacing: tuple, tilt: float
):
    volume = marked_volume(orientation, spacing, tilt)

    data, transform, affine = placed(volume)

    assert np.shares_memory(data, volume.data)
    directions = affine[:3, :3] / transform["scale"]
    superior, posterior, left = directions[2, 0], -directions[1, 1], -directions[0, 2]
    assert min(superior, posterior, left) > np.cos(0.6) - 1e-6
    assert (np.asarray(transform["scale"]) > 0).all()
    at = (5, 11, 13)
    source = np.rint(np.linalg.inv(volume.affine) @ affine @ [*at, 1])[:3].astype(int)
    assert data[at] == volume.data[tuple(source)]
    middle = (np.array(data.shape) - 1) / 2
    right, anterior, high = (affine @ [*middle, 1])[:3]
    world = np.asarray(transform["translate"]) + np.asarray(transform["scale"]) * middle
    assert_same_place(world, (high, -anterior, -right))


def test_world_is_taken_as_the_patient_where_nothing_is_known():
    image = Image(np.zeros((4, 5, 6)), scale=(0.002, 3000, 4), translate=(1, 2, 3),
                  units=("m", "um", "mm"))  # fmt: skip
    expected = np.diag([2.0, 3.0, 4.0, 1.0])
    expected[:3, 3] = (1000, 0.002, 3)

    np.testing.assert_allclose(assumed_affine(transform_of(image)), expected)


def test_pixels_count_as_millimetres():
    image = Image(np.zeros((4, 5, 6)), scale=(2, 3, 4))

    np.testing.assert_allclose(assumed_affine(transform_of(image)), np.diag([2, 3, 4, 1]))
