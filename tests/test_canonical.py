"""ModelSpace: the way to the model grid and back, against independent oracles.

The oracles know a grid only by its affine: world positions come from matrix products, reference
interpolation from scipy and SimpleITK.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from napari_sparseseg.canonical import ModelSpace
from napari_sparseseg.errors import InputError
from napari_sparseseg.scores import PatchScores
from napari_sparseseg.volume import Volume

TURNS = [
    np.eye(3)[list(order)] * signs
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]
LPS = np.diag([-1.0, -1.0, 1.0])


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """On arrays this small, threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_affine(
    turn: np.ndarray, spacing: tuple[float, ...], angles: tuple[float, ...] = (0, 0, 0)
) -> np.ndarray:
    matrix = np.eye(4)
    rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    matrix[:3, :3] = rotation @ turn @ np.diag(spacing)
    matrix[:3, 3] = (-31.0, 17.5, 8.25)
    return matrix


def positions(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """World position of every voxel, (3, *shape)."""
    index = np.indices(shape).reshape(3, -1)
    return (affine[:3, :3] @ index + affine[:3, 3:]).reshape(3, *shape)


def native_coordinates(space: ModelSpace, volume: Volume) -> np.ndarray:
    """Native index coordinate of every model voxel, (3, *model shape)."""
    return positions(space.shape, np.linalg.inv(volume.affine) @ space.affine)


def to_itk(data: np.ndarray, affine: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.T))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin((LPS @ affine[:3, 3]).tolist())
    image.SetDirection((LPS @ affine[:3, :3] / spacing).ravel().tolist())
    return image


@st.composite
def volumes(draw: st.DrawFn, largest: int = 13) -> Volume:
    """Empty volumes in any orientation, straight or oblique, anisotropic, down to one slice."""
    spacing = tuple(draw(st.floats(0.4, 4.0)) for _ in range(3))
    angles = tuple(draw(st.sampled_from([0.0, draw(st.floats(-40, 40))])) for _ in range(3))
    shape = tuple(draw(st.integers(1, largest)) for _ in range(3))
    turn = TURNS[draw(st.integers(0, 47))]
    return Volume(np.zeros(shape, np.float32), make_affine(turn, spacing, angles))


def assert_places_agree(volume: Volume, spacing: float | tuple[float, ...]) -> None:
    """Resample the images "my own R, A, S position" and find them at the model positions.

    Where an axis grows, this holds everywhere, with the coordinate clamped to the volume; where
    it shrinks, it holds where the averaged range lies inside.
    """
    space = ModelSpace.of(volume, spacing)
    native = native_coordinates(space, volume)
    last = np.reshape(volume.shape, (3, 1, 1, 1)) - 1
    voxels_per_step = np.linalg.norm(
        np.linalg.inv(volume.affine)[:3, :3] @ space.affine[:3, :3], axis=1
    ).reshape(3, 1, 1, 1)
    reach = np.where(voxels_per_step > 1, (voxels_per_step + 1) / 2, -np.inf)
    inside = ((native >= reach) & (native <= last - reach) | (last == 0)).all(axis=0)
    clamped = np.clip(native, 0, last).reshape(3, -1)
    expected = (volume.affine[:3, :3] @ clamped + volume.affine[:3, 3:]).reshape(3, *space.shape)
    for field, wanted in zip(positions(volume.shape, volume.affine), expected, strict=True):
        result = space.to_model(field).numpy()
        np.testing.assert_allclose(result[inside], wanted[inside], atol=2e-4)


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("spacing", [0.8, (2.0, 1.5, 3.0)])
def test_places_agree_in_all_48_orientations(
    turn: np.ndarray, spacing: float | tuple[float, ...]
) -> None:
    volume = Volume(np.zeros((9, 14, 12)), make_affine(turn, (1.0, 0.7, 2.5)))
    space = ModelSpace.of(volume, spacing)
    np.testing.assert_allclose(
        space.affine[:3, :3], np.diag(np.broadcast_to(spacing, 3)), atol=1e-12
    )
    assert_places_agree(volume, spacing)


@settings(max_examples=40, deadline=None)
@given(volumes(), st.tuples(*[st.floats(0.5, 5.0)] * 3))
def test_places_agree_on_any_grid(volume: Volume, spacing: tuple[float, ...]) -> None:
    assert_places_agree(volume, spacing)


@settings(max_examples=40, deadline=None)
@given(volumes(), st.floats(0.5, 5.0))
def test_the_grid_has_the_spacing_and_the_centred_field_of_view(
    volume: Volume, spacing: float
) -> None:
    space = ModelSpace.of(volume, spacing)
    steps = np.linalg.norm(space.affine[:3, :3], axis=0)
    np.testing.assert_allclose(steps, spacing)
    assert space.spacing == pytest.approx((spacing,) * 3)
    native_centre = volume.affine @ [*((np.array(volume.shape) - 1) / 2), 1]
    model_centre = space.affine @ [*((np.array(space.shape) - 1) / 2), 1]
    np.testing.assert_allclose(model_centre, native_centre, atol=1e-9)

    # Per model axis: parallel to one native axis, the one closest to R, A or S, and of its size.
    cosines = (space.affine[:3, :3] / steps).T @ (volume.affine[:3, :3] / volume.spacing)
    partner = np.abs(cosines).argmax(axis=1)
    assert sorted(partner) == [0, 1, 2]
    np.testing.assert_allclose(np.abs(cosines).max(axis=1), 1)
    assert np.linalg.det(space.affine[:3, :3]) > 0
    extent = np.array(volume.shape)[partner] * np.array(volume.spacing)[partner]
    missed = np.abs(extent - np.array(space.shape) * spacing)
    assert np.all((missed <= 0.502 * spacing) | (np.array(space.shape) == 1))


@pytest.mark.parametrize("count", [45, 55, 65])
def test_half_a_voxel_is_rounded_alike_from_every_format(count: int) -> None:
    """45 x 0.7 mm are 31.5 voxels of 1 mm, or a little less or more as a file stores 0.7."""
    shapes = {
        ModelSpace.of(Volume(np.zeros((count, 4, 4)), np.diag([step, 1, 1, 1])), 1.0).shape
        for step in (0.7, np.float32(0.7), 0.7 - 1e-6, 0.7 + 1e-6)
    }
    assert shapes == {(int(0.7 * count), 4, 4)}


def test_a_divisible_field_of_view_is_covered_corner_to_corner() -> None:
    volume = Volume(np.zeros((20, 30, 8)), np.diag([1.0, 2.0, 3.0, 1.0]))
    space = ModelSpace.of(volume, 4.0)
    assert space.shape == (5, 15, 6)
    np.testing.assert_allclose(
        space.affine @ [-0.5, -0.5, -0.5, 1], volume.affine @ [-0.5, -0.5, -0.5, 1]
    )
    np.testing.assert_allclose(
        space.affine @ [4.5, 14.5, 5.5, 1], volume.affine @ [19.5, 29.5, 7.5, 1]
    )


@settings(max_examples=20, deadline=None)
@given(volumes(), st.floats(0.5, 6.0), st.floats(-1000, 1000))
def test_a_constant_stays_constant(volume: Volume, spacing: float, value: float) -> None:
    result = ModelSpace.of(volume, spacing).to_model(np.full(volume.shape, value))
    np.testing.assert_allclose(result.numpy(), value, rtol=1e-5, atol=1e-5)


def smooth(world: np.ndarray) -> np.ndarray:
    r, a, s = world
    return np.sin(r / 9 + 0.3) + np.cos(a / 11) * 0.7 + np.sin((s + r) / 14) * 0.5


@pytest.mark.parametrize("turn", TURNS[::5])
@pytest.mark.parametrize("angles", [(0, 0, 0), (12, -25, 8)])
@pytest.mark.parametrize("spacing", [0.9, 2.0])
def test_a_smooth_scan_against_its_formula_and_simpleitk(
    turn: np.ndarray, angles: tuple[float, ...], spacing: float
) -> None:
    affine = make_affine(turn, (1.0, 1.2, 1.1), angles)
    data = smooth(positions((33, 28, 31), affine)).astype(np.float32)
    volume = Volume(data, affine)
    space = ModelSpace.of(volume, spacing)
    result = space.to_model(data).numpy()
    grid = to_itk(np.zeros(space.shape, np.float32), space.affine)
    # SimpleITK gives the fill value outside the outermost voxel centres.
    reference = sitk.GetArrayFromImage(
        sitk.Resample(to_itk(data, affine), grid, sitk.Transform(), sitk.sitkLinear, -99.0)
    ).T
    inside = np.zeros(space.shape, bool)
    inside[2:-2, 2:-2, 2:-2] = True
    assert reference[inside].min() > -99
    formula = smooth(positions(space.shape, space.affine))
    np.testing.assert_allclose(result[inside], formula[inside], atol=0.02)
    if spacing < 1:
        everywhere = reference > -99
        np.testing.assert_allclose(result[everywhere], reference[everywhere], atol=1e-5)
    else:
        np.testing.assert_allclose(result[inside], reference[inside], atol=0.02)


def test_the_same_spacing_only_turns_the_array() -> None:
    data = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
    volume = Volume(data, np.array([[0, 0, -2, 5], [3, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]]))
    space = ModelSpace.of(volume, (2.0, 3.0, 1.0))
    expected = data.transpose(2, 0, 1)[::-1, :, ::-1]
    np.testing.assert_allclose(space.to_model(data).numpy(), expected, atol=1e-6)


def test_half_the_resolution_is_the_mean_of_eight_voxels() -> None:
    data = np.random.default_rng(1).normal(size=(8, 6, 4))
    space = ModelSpace.of(Volume(data, np.eye(4)), 2.0)
    expected = data.reshape(4, 2, 3, 2, 2, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(space.to_model(data).numpy(), expected, atol=1e-6)


def test_strong_shrinking_averages_noise_away() -> None:
    data = np.random.default_rng(2).normal(size=(48, 48, 48))
    result = ModelSpace.of(Volume(data, np.eye(4)), 6.0).to_model(data)
    assert result.shape == (8, 8, 8)
    assert result.std() < 1.3 / np.sqrt(6**3)  # 1 / sqrt(216) for the plain mean; aliasing keeps 1


@pytest.mark.parametrize(
    "variant",
    [
        lambda data: data.astype(">i2"),
        lambda data: data[::-1, :, ::-1].astype(np.float32)[::-1, :, ::-1],
        lambda data: np.asfortranarray(data),
        lambda data: np.broadcast_to(data.astype(np.float32), data.shape),
        lambda data: torch.from_numpy(data),
        lambda data: torch.from_numpy(data).to(torch.int16),
        lambda data: torch.from_numpy(data.T.copy()).permute(2, 1, 0),
    ],
)
def test_every_way_of_storing_an_image_gives_the_same(variant: object) -> None:
    data = np.random.default_rng(3).integers(-500, 500, size=(37, 9, 18)).astype(float)
    space = ModelSpace.of(Volume(data, make_affine(TURNS[29], (1, 2, 3))), 1.7)
    assert max(space.shape) > 20  # more than is resampled at once
    expected = space.to_model(data)
    assert expected.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):  # whatever precision the caller computes in
        result = space.to_model(variant(data))  # type: ignore[operator]
    # The order in memory decides the order of the sums, and so the last digit.
    torch.testing.assert_close(result, expected, rtol=1e-6, atol=2e-4)


def test_a_mask_gives_the_share_of_each_model_voxel() -> None:
    mask = np.zeros((40, 4, 4), dtype=bool)
    mask[:3] = True
    mask.flags.writeable = False
    result = ModelSpace.of(Volume(mask, np.eye(4)), 2.0).to_model(mask)
    np.testing.assert_allclose(result[:, 0, 0], [1.0, 0.5] + [0.0] * 18, atol=1e-6)


def test_the_input_is_left_alone() -> None:
    data = np.random.default_rng(4).normal(size=(4, 4, 4)).astype(np.float32)
    before = data.copy()
    result = ModelSpace.of(Volume(data, np.eye(4)), 1.0).to_model(data)
    result += 1
    np.testing.assert_array_equal(data, before)


def dense_labels(space: ModelSpace, volume: Volume, probabilities: np.ndarray) -> np.ndarray:
    """Interpolated probabilities at every native voxel, the naive way: (C, I, J, K)."""
    to_model_index = np.linalg.inv(space.affine) @ volume.affine
    where = positions(volume.shape, to_model_index)
    return np.stack([map_coordinates(c, where, order=1, mode="nearest") for c in probabilities])


def assert_equals_dense(volume: Volume, spacing: float, logits: np.ndarray) -> None:
    space = ModelSpace.of(volume, spacing)
    probabilities = torch.from_numpy(logits).softmax(0)
    result = space.labels_to_volume(PatchScores.whole(probabilities))
    dense = dense_labels(space, volume, probabilities.double().numpy())
    assert result.shape == volume.shape and result.dtype == np.uint8
    runner_up, best = np.sort(dense, axis=0)[-2:]
    clear = best - runner_up > 1e-5
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(result[clear], dense.argmax(axis=0)[clear])


@settings(max_examples=40, deadline=None)
@given(volumes(), st.floats(0.5, 6.0), st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_labels_equal_dense_interpolation(
    volume: Volume, spacing: float, classes: int, seed: int
) -> None:
    shape = (classes, *ModelSpace.of(volume, spacing).shape)
    noise = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    assert_equals_dense(volume, spacing, noise)


@pytest.mark.parametrize("turn", TURNS[::7])
@pytest.mark.parametrize("spacing", [0.8, 3.1])
def test_labels_of_regions_equal_dense_interpolation(turn: np.ndarray, spacing: float) -> None:
    """Smooth scores: most voxels take the short cut, the borders are interpolated."""
    volume = Volume(np.zeros((30, 25, 27)), make_affine(turn, (1.0, 1.3, 0.9), (5, 10, -7)))
    space = ModelSpace.of(volume, spacing)
    world = positions(space.shape, space.affine)
    logits = np.stack([smooth(world * scale + 5 * scale) for scale in (0.6, 0.8, 1.0, 1.3)])
    assert_equals_dense(volume, spacing, logits.astype(np.float32))


def test_labels_of_many_voxels_are_put_together_from_blocks() -> None:
    volume = Volume(np.zeros((70, 66, 68)), np.eye(4))
    space = ModelSpace.of(volume, 4.0)
    logits = np.random.default_rng(5).normal(size=(4, *space.shape)).astype(np.float32)
    assert_equals_dense(volume, 4.0, logits)


@settings(max_examples=30, deadline=None)
@given(volumes(largest=24), st.floats(0.7, 2.5))
def test_a_structure_comes_back_at_its_place(volume: Volume, spacing: float) -> None:
    """A box off the centre, known by its RAS position only."""
    space = ModelSpace.of(volume, spacing)
    native = positions(volume.shape, volume.affine)
    low = native.reshape(3, -1).min(axis=1).reshape(3, 1, 1, 1)
    size = native.reshape(3, -1).max(axis=1).reshape(3, 1, 1, 1) - low
    start, stop = low + size * [[[[0.1]]], [[[0.45]]], [[[0.2]]]], low + size * 0.8

    def depth(world: np.ndarray) -> np.ndarray:
        """Signed distance into the box (mm)."""
        return np.minimum(world - start, stop - world).min(axis=0)

    inside = depth(positions(space.shape, space.affine)) > 0
    one_hot = np.stack([~inside, inside]).astype(np.float32)
    result = space.labels_to_volume(PatchScores.whole(torch.from_numpy(one_hot)))
    # Every voxel lies within 2 model steps of all voxels that it is interpolated from; the edge
    # of the volume can lie another half step beyond the model grid.
    margin = 2.5 * spacing * np.sqrt(3)
    assert np.all(result[depth(native) > margin] == 1)
    assert np.all(result[depth(native) < -margin] == 0)


def test_a_structure_keeps_its_voxels_through_the_round_trip() -> None:
    labels = np.zeros((24, 20, 22), np.uint8)
    labels[4:10, 4:16, 12:20] = 2
    labels[14:20, 2:8, 2:12] = 1
    for turn in TURNS:
        volume = Volume(labels, make_affine(turn, (1.0, 1.0, 1.0)))
        space = ModelSpace.of(volume, 2.0)
        one_hot = torch.stack([space.to_model(labels == c) for c in range(3)])
        back = space.labels_to_volume(PatchScores.whole(one_hot))
        for c in (1, 2):
            overlap = (
                2
                * np.sum((back == c) & (labels == c))
                / np.sum((back == c).astype(int) + (labels == c))
            )
            assert overlap > 0.97  # one voxel off along one axis gives at most 0.92


@pytest.mark.parametrize("layout", ["bfloat16", "float16", "channels last"])
def test_scores_in_other_layouts_give_the_same_labels(layout: str) -> None:
    volume = Volume(np.zeros((11, 9, 10)), make_affine(TURNS[13], (1.0, 1.4, 2.0)))
    space = ModelSpace.of(volume, 2.0)
    scores = torch.randint(-8, 8, (6, *space.shape), generator=torch.Generator().manual_seed(0))
    logits = scores.float() + torch.linspace(0, 0.5, 6).reshape(6, 1, 1, 1)
    probabilities = logits.softmax(0).to(torch.bfloat16).float()  # so that no layout rounds them
    expected = space.labels_to_volume(PatchScores.whole(probabilities))
    if layout == "channels last":
        other = probabilities.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)
    else:
        other = probabilities.to(getattr(torch, layout))
    result = space.labels_to_volume(PatchScores.whole(other))
    np.testing.assert_array_equal(result, expected)


def test_closed_patches_are_background() -> None:
    volume = Volume(np.zeros((8, 8, 8)), np.eye(4))
    space = ModelSpace.of(volume, 2.0)
    values = torch.zeros(1, 8, 3)
    values[..., 2] = 1.0
    rows = torch.full((2, 2, 2), -1)
    rows[1, 1, 1] = 0  # the rest of the volume was never predicted
    for background in (0, 1):
        labels = space.labels_to_volume(PatchScores(rows, values, 2, (0, 0, 0)), background)
        assert np.all(labels[5:, 5:, 5:] == 2)
        labels[4:, 4:, 4:] = background
        assert np.all(labels == background)


@pytest.mark.parametrize("spacing", [0.0, -1.0, np.nan, np.inf, (1.0, 2.0), (1.0, 1.0, 0.0)])
def test_an_unusable_model_spacing_is_refused(spacing: float | tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="model spacing"):
        ModelSpace.of(Volume(np.zeros((3, 3, 3)), np.eye(4)), spacing)


def test_arrays_of_another_shape_are_refused() -> None:
    space = ModelSpace.of(Volume(np.zeros((3, 4, 5)), np.eye(4)), 1.0)
    with pytest.raises(ValueError, match="expected shape"):
        space.to_model(np.zeros((5, 4, 3)))
    with pytest.raises(ValueError, match="expected shape"):
        space.labels_to_volume(PatchScores.whole(torch.zeros((2, 5, 4, 3)), patch=1))
    with pytest.raises(ValueError, match="1 to 256 classes"):
        space.labels_to_volume(PatchScores.whole(torch.zeros((257, 3, 4, 5))))
