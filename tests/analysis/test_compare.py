"""Comparison of label maps: worked examples, MONAI on one-hot maps, SimpleITK for resampling."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import compute_dice, compute_hausdorff_distance
from monai.networks.utils import one_hot

from napari_sparseseg.analysis.compare import (
    ADDED,
    CHANGED,
    LOST,
    SAME,
    checked_labels,
    compare,
    on_grid_of,
)
from napari_sparseseg.errors import Cancelled, InputError
from napari_sparseseg.progress import CancelToken
from napari_sparseseg.volume import Volume
from tests.analysis.places import affines

CLASSES = ("background", "shell", "core", "spot")


def volume(data: np.ndarray, affine: np.ndarray | None = None, name: str = "map") -> Volume:
    return Volume(data, np.diag([1.0, 2.0, 5.0, 1.0]) if affine is None else affine, name)


def by_hand() -> tuple[np.ndarray, np.ndarray]:
    """3 x 3 x 3 voxels; all agree but for six.

    The shell of the reference is a row of three, of which the labels hold two and add one
    elsewhere; one core voxel became shell; the spot is lost, both voxels.
    """
    labels, reference = np.zeros((2, 3, 3, 3), dtype=np.uint8)
    reference[0, 0, :] = 1
    labels[0, 0, :2] = 1  # one lost
    labels[2, 0, 0] = 1  # one added
    reference[1, 1, :2] = labels[1, 1, :2] = 2
    labels[1, 1, 1] = 1  # one changed
    reference[2, 2, :2] = 3  # two lost
    return labels, reference


def test_differences_by_hand() -> None:
    labels, reference = by_hand()
    found = compare(volume(labels), volume(reference), CLASSES)

    expected = np.full((3, 3, 3), SAME)
    expected[0, 0, 2] = expected[2, 2, 0] = expected[2, 2, 1] = LOST
    expected[2, 0, 0], expected[1, 1, 1] = ADDED, CHANGED
    np.testing.assert_array_equal(found.difference, expected)
    assert found.difference.dtype == np.uint8
    assert found.counts == {"added": 1, "lost": 3, "changed": 1}


def test_figures_by_hand() -> None:
    """Voxels of 1 x 2 x 5 mm hold 0.01 ml.

    Shell: 4 voxels against 3, 2 in common; core: 1 against 2, 1 in common; spot: 0 against 2.
    """
    labels, reference = by_hand()
    shell, core, spot = compare(volume(labels), volume(reference), CLASSES).classes

    assert [entry.name for entry in (shell, core, spot)] == ["shell", "core", "spot"]
    assert shell.dice == pytest.approx(2 * 2 / (4 + 3), abs=1e-5)
    assert core.dice == pytest.approx(2 * 1 / (1 + 2), abs=1e-5)
    assert (spot.dice, spot.hd95) == (0.0, None)
    assert [e.millilitres for e in (shell, core, spot)] == [0.04, 0.01, 0.0]
    assert [e.reference_millilitres for e in (shell, core, spot)] == [0.03, 0.02, 0.02]
    assert shell.change == pytest.approx(0.01)
    assert spot.change == pytest.approx(-0.02)


def test_the_mean_leaves_out_what_the_reference_lacks() -> None:
    labels, reference = by_hand()
    found = compare(volume(reference), volume(labels), CLASSES)

    assert found.classes[2].dice is None
    assert found.classes[2].millilitres == 0.02
    assert found.mean_dice == pytest.approx((4 / 7 + 2 / 3) / 2, abs=1e-5)
    empty = compare(volume(labels), volume(np.zeros_like(labels)), CLASSES)
    assert empty.mean_dice is None


def test_the_figures_can_be_written_as_json() -> None:
    labels, reference = by_hand()
    figures = json.loads(
        json.dumps(compare(volume(labels), volume(reference), CLASSES).to_dict(), allow_nan=False)
    )

    assert figures["voxels"] == {"added": 1, "lost": 3, "changed": 1}
    assert figures["mean_dice"] == pytest.approx((4 / 7 + 2 / 3) / 3, abs=1e-5)
    assert figures["classes"]["shell"]["change"] == 0.01
    assert figures["classes"]["spot"] == {
        "dice": 0.0, "hd95": None, "millilitres": 0.0, "reference_millilitres": 0.02,
        "change": -0.02,
    }  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(
    maps=arrays(np.uint8, (2, 6, 5, 4), elements=st.sampled_from((0, 0, 0, 1, 2, 3))),
    affine=affines(),
)
def test_figures_are_those_of_monai_on_one_hot_maps(maps: np.ndarray, affine: np.ndarray) -> None:
    mine, theirs = (one_hot(torch.from_numpy(m)[None, None].long(), 4) for m in maps)
    spacing = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    dice = compute_dice(mine, theirs, include_background=False)[0]
    distance = compute_hausdorff_distance(
        mine, theirs, include_background=False, percentile=95, spacing=spacing
    )[0]
    millilitres = np.prod(spacing) / 1000

    found = compare(volume(maps[0], affine), volume(maps[1], affine), CLASSES)

    for index, entry in enumerate(found.classes):
        voxels = [(m == index + 1).sum() for m in maps]
        assert entry.millilitres == pytest.approx(voxels[0] * millilitres, abs=1e-3)
        assert entry.reference_millilitres == pytest.approx(voxels[1] * millilitres, abs=1e-3)
        assert (entry.dice is None) == (voxels[1] == 0)
        assert (entry.hd95 is None) == (0 in voxels)
        if entry.dice is not None:
            assert entry.dice == pytest.approx(float(dice[index]), abs=1e-5)
        if entry.hd95 is not None:
            assert entry.hd95 == pytest.approx(float(distance[index]), abs=1e-4)


def shifted(millimetres: float) -> np.ndarray:
    affine = np.diag([1.0, 2.0, 5.0, 1.0])
    affine[1, 3] = millimetres
    return affine


def test_a_reference_of_another_grid_is_refused_with_both_geometries() -> None:
    labels = volume(np.zeros((3, 3, 3), dtype=np.uint8), name="scan segmentation")
    moved = volume(labels.data, shifted(0.25), "truth")
    flipped = np.diag([-1.0, 2.0, 4.0, 1.0])
    smaller = volume(np.zeros((3, 3, 2), dtype=np.uint8), flipped, "truth")

    for reference, expected in (
        (
            moved,
            "truth (3 x 3 x 3 voxels of 1 x 2 x 5 mm, RAS, origin 0, 0.25, 0 mm) lies on another "
            "grid than scan segmentation (3 x 3 x 3 voxels of 1 x 2 x 5 mm, RAS, origin 0, 0, 0 "
            "mm), up to 0.25 mm apart; choose a map on the same grid, or allow resampling.",
        ),
        (
            smaller,
            "truth (3 x 3 x 2 voxels of 1 x 2 x 4 mm, LAS, origin 0, 0, 0 mm) lies on another "
            "grid than scan segmentation (3 x 3 x 3 voxels of 1 x 2 x 5 mm, RAS, origin 0, 0, 0 "
            "mm); choose a map on the same grid, or allow resampling.",
        ),
    ):
        with pytest.raises(InputError) as caught:
            compare(labels, reference, CLASSES)
        assert str(caught.value) == expected


def test_a_micrometre_is_no_other_grid_and_a_turn_shows_at_the_far_corner() -> None:
    labels = volume(np.zeros((3, 3, 200), dtype=np.uint8))
    compare(labels, volume(labels.data, shifted(0.0009)), CLASSES)
    turned = np.diag([1.0, 2.0, 5.0, 1.0])
    turned[0, 2] = 1e-5  # 2 um over 199 planes

    with pytest.raises(InputError, match="up to 0.00199 mm apart"):
        compare(labels, volume(labels.data, turned), CLASSES)


def test_unknown_labels_are_named() -> None:
    data = np.zeros((4, 4, 4), dtype=np.int16)
    data[0, 0] = (4, 7, -1, 3)

    with pytest.raises(InputError) as caught:
        compare(volume(np.zeros((4, 4, 4), np.uint8)), volume(data, name="truth"), CLASSES)
    assert str(caught.value) == (
        "truth holds labels that no class has (-1, 4, 7); choose a map with the labels 0 to 3 "
        "(background, shell, core, spot)."
    )


def test_many_unknown_labels_are_counted() -> None:
    with pytest.raises(InputError, match=r"\(4, 5, 6, 7, 8 and 15 more\)"):
        checked_labels(volume(np.arange(24).reshape(4, 3, 2)), CLASSES)


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf])
def test_a_scan_is_no_label_map(value: float) -> None:
    data = np.zeros((3, 3, 3))
    data[1, 1, 1] = value

    with pytest.raises(InputError, match="no integers"):
        checked_labels(volume(data), CLASSES)


@pytest.mark.parametrize("dtype", [bool, np.float32, np.int64, np.uint16, ">i2"])
def test_whole_numbers_of_any_kind_are_labels(dtype: str | type) -> None:
    data = np.zeros((3, 3, 3), dtype=dtype)
    data[1, 1, 1] = 1
    checked = checked_labels(volume(data), CLASSES)

    assert checked.data.dtype == np.uint8
    assert (checked.data.sum(), checked.data[1, 1, 1]) == (1, 1)


def itk(image: Volume) -> sitk.Image:
    """Describe a map to SimpleITK by its own accessors: LPS, axes reversed in memory."""
    lps = np.diag([-1.0, -1.0, 1.0])
    result = sitk.GetImageFromArray(np.ascontiguousarray(image.data.transpose(2, 1, 0)))
    result.SetSpacing(image.spacing)
    result.SetOrigin((lps @ image.affine[:3, 3]).tolist())
    result.SetDirection((lps @ (image.affine[:3, :3] / image.spacing)).ravel().tolist())
    return result


@settings(max_examples=40, deadline=None)
@given(one=affines(), other=affines(), seed=st.integers(0, 9))
def test_resampling_takes_the_value_of_the_nearest_voxel(
    one: np.ndarray, other: np.ndarray, seed: int
) -> None:
    """SimpleITK, asked point by point; points within rounding of an edge may go either way."""
    data = np.random.default_rng(seed).integers(0, 4, (9, 8, 7), dtype=np.uint8)
    reference, labels = volume(data, one), volume(np.zeros((6, 7, 8), np.uint8), other)
    moved = on_grid_of(reference, labels)
    image = itk(reference)

    assert moved.shape == labels.shape
    for voxel in np.random.default_rng(seed).integers(0, labels.shape, (25, 3)):
        place = other[:3, :3] @ voxel + other[:3, 3]
        at = np.array(image.TransformPhysicalPointToContinuousIndex((place * (-1, -1, 1)).tolist()))
        if np.abs(at - np.floor(at) - 0.5).min() < 1e-4:
            continue
        nearest = np.rint(at).astype(int)
        inside = ((nearest >= 0) & (nearest < data.shape)).all()
        assert moved.data[tuple(voxel)] == (data[tuple(nearest)] if inside else 0)


def test_a_flipped_copy_agrees_once_it_is_resampled() -> None:
    labels, reference = by_hand()
    affine = np.array([[-1.0, 0, 0, 2], [0, 0, 2, 0], [0, 5, 0, 0], [0, 0, 0, 1]])
    flipped = volume(reference[::-1].transpose(0, 2, 1), affine)

    with pytest.raises(InputError, match="LSA"):
        compare(volume(labels), flipped, CLASSES)
    found = compare(volume(labels), flipped, CLASSES, resample=True)
    expected = compare(volume(labels), volume(reference), CLASSES)
    assert found.classes == expected.classes
    np.testing.assert_array_equal(found.difference, expected.difference)


def test_a_comparison_tells_where_it_is_and_can_be_stopped() -> None:
    """A step for each structure; after a stop no other structure is looked at."""
    labels = Volume(np.arange(64, dtype=np.uint8).reshape(4, 4, 4) % 4, np.eye(4), "labels")
    classes = ("background", "a", "b", "c")
    steps: list[tuple[int, int, str]] = []
    token = CancelToken()

    compare(labels, labels, classes, progress=lambda *step: steps.append(step))
    assert steps == [(0, 3, "Comparing a"), (1, 3, "Comparing b"), (2, 3, "Comparing c")]
    steps.clear()

    def stop(done: int, total: int, what: str) -> None:
        steps.append((done, total, what))
        token.cancel()

    with pytest.raises(Cancelled):
        compare(labels, labels, classes, progress=stop, cancel=token)
    assert steps == [(0, 3, "Comparing a")]


@pytest.mark.parametrize("away", [(0, 0, 40), (-25, 0, 0), (0, 300, 0)])
def test_maps_that_have_no_place_in_common_are_refused(away: tuple[float, ...]) -> None:
    """A cube of 20 mm beside one of 20 mm, on grids that are flipped against each other."""
    labels = Volume(np.ones((20, 20, 20), np.uint8), np.eye(4), "labels")
    flipped = np.diag([-2.0, 2, 2, 1])
    flipped[:3, 3] = (18.5, 0.5, 0.5)
    reference = Volume(np.ones((10, 10, 10), np.uint8), flipped, "reference")
    assert compare(labels, reference, CLASSES, resample=True).mean_dice == 1
    moved = flipped.copy()
    moved[:3, 3] += away
    with pytest.raises(InputError, match=r"reference \(.*\) does not overlap with labels"):
        compare(labels, Volume(reference.data, moved, "reference"), CLASSES, resample=True)
