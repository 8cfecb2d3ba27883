"""Layers with a place of their own in napari: labels and maps lie on them, as the patient does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer

from napari_sparseseg.errors import InputError
from napari_sparseseg.plugin.geometry import Scan
from napari_sparseseg.plugin.layers import ResultLayers
from napari_sparseseg.plugin.readers import image_layer
from napari_sparseseg.plugin.writers import source_volume
from napari_sparseseg.volume import Volume

from .results import (
    ORIENTATIONS,
    assert_same_place,
    check_tokens,
    make_result,
    marked_volume,
    shown,
)
from .window import STP_LAYERS

SHAPE = (21, 26, 17)
MILLIMETRES = {"mm": 1.0, "um": 1e-3, "m": 1e3, "cm": 10.0, "pixel": 1.0}

angles = st.tuples(*(st.floats(-180, 180),) * 3)
spacings = st.tuples(*(st.floats(0.3, 4) | st.floats(-4, -0.3),) * 3)
places = st.tuples(*(st.floats(-200, 200),) * 3)
shears = st.tuples(*(st.floats(-1, 1),) * 3)


def turn_of(degrees: tuple[float, ...]) -> np.ndarray:
    """Return napari's yaw, pitch and roll as a matrix, written out anew."""
    (ca, cb, cg), (sa, sb, sg) = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    yaw = np.array([[ca, -sa, 0], [sa, ca, 0], [0, 0, 1]])
    pitch = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    roll = np.array([[1, 0, 0], [0, cg, -sg], [0, sg, cg]])
    return yaw @ pitch @ roll


def world_of(scale: Any, shear: Any, degrees: Any, translate: Any, extra: Any) -> np.ndarray:
    """Return the affine of a layer: scale, then shear, turn, shift, then a matrix of its own."""
    lean = np.eye(3)
    lean[np.triu_indices(3, 1)] = shear
    world = np.eye(4)
    world[:3, :3] = turn_of(degrees) @ lean @ np.diag(scale)
    world[:3, 3] = translate
    return extra @ world


def matrix(degrees: tuple[float, ...], shift: tuple[float, ...]) -> np.ndarray:
    extra = np.eye(4)
    extra[:3, :3] = turn_of(degrees)
    extra[:3, 3] = shift
    return extra


def transform(scale: Any, shear: Any, degrees: Any, translate: Any, extra: Any) -> dict[str, Any]:
    return {
        "scale": scale, "shear": shear, "rotate": degrees, "translate": translate, "affine": extra,
    }  # fmt: skip


def corners(shape: tuple[int, ...]) -> np.ndarray:
    return np.array(np.meshgrid(*((0, n - 1) for n in shape))).reshape(3, -1).T


def assert_on_image(layers: ResultLayers, image: Image, world: np.ndarray) -> None:
    """Compare where labels and tokens lie in napari with an affine worked out without it."""
    labels = layers["segmentation"]
    for at in corners(image.data.shape):
        expected = (world @ [*at, 1])[:3]
        np.testing.assert_allclose(image.data_to_world(at), expected, atol=1e-6)
        np.testing.assert_allclose(labels.data_to_world(at), expected, atol=1e-6)
    check_tokens(layers, image)


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@settings(max_examples=12, deadline=None)
@given(
    orientation=st.sampled_from(ORIENTATIONS), scale=spacings, shear=shears, degrees=angles,
    translate=places, turn=angles, shift=places, unit=st.sampled_from(sorted(MILLIMETRES)),
)  # fmt: skip
def test_labels_and_maps_lie_on_an_image_with_any_transform(
    orientation: np.ndarray, scale: Any, shear: Any, degrees: Any, translate: Any, turn: Any,
    shift: Any, unit: str,
):  # fmt: skip
    volume = marked_volume(orientation, (1.0, 1.5, 2.0), 0.2)
    place = (scale, shear, degrees, translate, matrix(turn, shift))
    image = Image(
        volume.data, **transform(*place), units=(unit,) * 3, metadata={"affine": volume.affine}
    )

    _, layers = shown(image, volume, np.zeros(volume.shape, np.uint8))

    assert_on_image(layers, image, world_of(*place))
    assert {layers[role].units for role in STP_LAYERS} == {image.units}


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@settings(max_examples=8, deadline=None)
@given(scale=spacings, shear=shears, degrees=angles, translate=places, turn=angles, shift=places)
def test_labels_and_maps_follow_an_image_that_is_moved_later(
    scale: Any, shear: Any, degrees: Any, translate: Any, turn: Any, shift: Any
):
    volume = marked_volume(ORIENTATIONS[17], (1.0, 1.5, 2.0), 0.2)
    image = Layer.create(*image_layer(volume, "memory"))
    _, layers = shown(image, volume, np.zeros(volume.shape, np.uint8))
    before = Scan.of(image)
    assert before.notes == ()

    place = (scale, shear, degrees, translate, matrix(turn, shift))
    for name, value in transform(*place).items():
        setattr(image, name, value)

    assert_on_image(layers, image, world_of(*place))
    after = Scan.of(image)
    np.testing.assert_array_equal(after.affine, before.affine)  # the patient has not moved
    (note,) = after.notes
    assert "was moved, turned or scaled in napari" in note
    saved = source_volume(layers["segmentation"].data, vars_of(layers["segmentation"]))
    np.testing.assert_array_equal(saved.affine, volume.affine)
    image.units = ("um",) * 3
    assert {layers[role].units for role in STP_LAYERS} == {image.units}


def vars_of(layer: Labels) -> dict[str, Any]:
    return layer.as_layer_data_tuple()[1]


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@settings(max_examples=12, deadline=None)
@given(
    scale=spacings, degrees=angles, translate=places, turn=angles, shift=places,
    unit=st.sampled_from(sorted(MILLIMETRES)),
)  # fmt: skip
def test_where_no_patient_is_known_the_world_is_taken_in_millimetres(
    scale: Any, degrees: Any, translate: Any, turn: Any, shift: Any, unit: str
):
    mm = MILLIMETRES[unit]
    place = (np.divide(scale, mm), (0, 0, 0), degrees, np.divide(translate, mm),
             matrix(turn, shift))  # fmt: skip
    data = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    image = Image(data, name="raw", **transform(*place), units=(unit,) * 3)
    world = np.diag([mm, mm, mm, 1]) @ world_of(*place)

    scan = Scan.of(image)

    np.testing.assert_allclose(scan.affine, world, atol=1e-6)
    (note,) = scan.notes
    assert note.startswith("The scan does not say how the patient lies in it")
    volume = scan.volume()
    assert volume.notes == scan.notes
    np.testing.assert_allclose(volume.spacing, np.abs(scale), rtol=1e-6)
    layers = ResultLayers(viewer := ViewerModel())
    viewer.add_layer(image)
    layers.show(image, scan, make_result(volume, np.zeros(SHAPE, np.uint8)))
    image.metadata["affine"] = scan.affine  # for the look at the tokens
    assert_on_image(layers, image, world_of(*place))
    saved = source_volume(layers["segmentation"].data, vars_of(layers["segmentation"]))
    np.testing.assert_allclose(saved.affine, world, atol=1e-6)


@settings(max_examples=8, deadline=None)
@given(scale=spacings, degrees=angles, shear=st.floats(0.05, 1), axis=st.integers(0, 2))
def test_a_sheared_layer_without_a_patient_is_refused(
    scale: Any, degrees: Any, shear: float, axis: int
):
    lean = [0.0, 0.0, 0.0]
    lean[axis] = shear
    data = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    image = Image(data, scale=scale, rotate=degrees, shear=lean)

    with pytest.raises(InputError, match="not at right angles"):
        Scan.of(image).volume()


def test_units_of_each_axis_count_for_it():
    data = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    image = Image(data, scale=(0.002, 3000, 4), units=("m", "um", "mm"))

    scan = Scan.of(image)

    np.testing.assert_allclose(scan.volume().spacing, (2, 3, 4))
    _, layers = shown(image, Volume(data, scan.affine), np.zeros(SHAPE, np.uint8))
    for role in STP_LAYERS:
        assert layers[role].units == image.units
    assert_same_place(
        layers["segmentation"].data_to_world((3, 4, 5)), image.data_to_world((3, 4, 5))
    )


def test_a_layer_that_was_cropped_in_napari_is_refused():
    image = Layer.create(*image_layer(marked_volume(ORIENTATIONS[0], (1, 1, 1)), "memory"))
    image.data = image.data[4:]

    with pytest.raises(InputError, match="was cropped or resampled in napari") as caught:
        Scan.of(image)

    assert str(caught.value).endswith("; crop the file itself, and open that.")


def test_metadata_of_another_grid_are_refused():
    volume = marked_volume(ORIENTATIONS[0], (1, 1, 1))
    for other in (np.diag([2.0, 1, 1, 1]), np.zeros((4, 4)), np.full((4, 4), np.nan)):
        metadata = {"affine": volume.affine, "source_affine": other}
        with pytest.raises(InputError, match="open the scan again"):
            Scan.of(Image(volume.data, metadata=metadata)).volume()
