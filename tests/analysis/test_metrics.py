"""Agreement with the truth: worked examples, and the uncropped value as an oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import compute_hausdorff_distance

from napari_sparseseg.analysis.metrics import dice_per_class, hd95_per_class

SMALL = st.tuples(*(st.integers(3, 7) for _ in range(3)))
SPACING = st.tuples(*(st.sampled_from((0.5, 1.0, 2.5, 4.0)) for _ in range(3)))


def blocks(*places: tuple[slice | int, ...], shape: tuple[int, ...] = (12, 9, 7)) -> np.ndarray:
    """A map with class 1 in the first place, class 2 in the second, and so on."""
    labels = np.zeros(shape, dtype=np.uint8)
    for index, place in enumerate(places, start=1):
        labels[place] = index
    return labels


def test_dice_by_hand() -> None:
    """2 x 1 / (2 + 2), both voxels, one of them missed altogether, one that is not there."""
    truth = np.array([[[0, 1, 1, 2, 3]]])
    predicted = np.array([[[1, 1, 0, 2, 4]]])

    assert dice_per_class(predicted, truth, 5) == [0.5, 1.0, 0.0, None]


def test_distance_by_hand() -> None:
    """A voxel two steps of 2.5 mm and one of 4 mm away: sqrt(25 + 16) mm in both directions."""
    truth = blocks((3, 3, 3))
    predicted = blocks((5, 3, 4))

    assert hd95_per_class(predicted, truth, 2, (2.5, 1.0, 4.0)) == [
        pytest.approx(41**0.5, abs=1e-4)
    ]


def test_the_percentile_and_the_worse_direction_count() -> None:
    """A row of 41 voxels against its first: distances 0 to 40 mm, whose 95th percentile is 38."""
    truth = blocks((slice(0, 41), 4, 3), shape=(45, 9, 7))
    predicted = blocks((0, 4, 3), shape=(45, 9, 7))

    assert hd95_per_class(predicted, truth, 2, (1.0, 1.0, 1.0)) == [38.0]
    assert hd95_per_class(truth, predicted, 2, (1.0, 1.0, 1.0)) == [38.0]


def test_inner_voxels_are_no_surface() -> None:
    """A cube of 5 inside one of 7: from its corner to the corner outside it is sqrt(3)."""
    outer, inner = slice(1, 8), slice(2, 7)
    truth = blocks((outer, outer, outer), shape=(9, 9, 9))
    predicted = blocks((inner, inner, inner), shape=(9, 9, 9))

    (found,) = hd95_per_class(predicted, truth, 2, (1.0, 1.0, 1.0))

    # 218 voxels of the outer surface: 150 at distance 1, 60 at sqrt(2), 8 at sqrt(3)
    assert found == pytest.approx(2**0.5, abs=1e-4)


def test_a_class_that_either_lacks_has_no_distance() -> None:
    truth = blocks((1, 1, 1), (2, 2, 2))
    predicted = blocks((1, 1, 1), (0, 0, 0))
    predicted[predicted == 2] = 3

    assert hd95_per_class(predicted, truth, 5, (1.0, 1.0, 1.0)) == [0.0, None, None, None]
    assert dice_per_class(predicted, truth, 5) == [1.0, 0.0, None, None]


@settings(max_examples=25, deadline=None)
@given(data=st.data(), shape=SMALL, spacing=SPACING)
def test_cutting_out_changes_nothing(
    data: st.DataObject, shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    """Also where structures touch the edge of the scan, in any order in memory."""
    maps = arrays(np.uint8, shape, elements=st.sampled_from((0, 0, 0, 1, 2)))
    predicted, truth = data.draw(maps)[::-1], data.draw(maps).transpose().copy().transpose()

    distances = hd95_per_class(predicted, truth, 3, spacing)
    dice = dice_per_class(predicted, truth, 3)

    for index in (1, 2):
        mine, theirs = predicted == index, truth == index
        if not theirs.any():
            assert dice[index - 1] is None
            continue
        expected = 2 * (mine & theirs).sum() / (mine.sum() + theirs.sum())
        assert dice[index - 1] == pytest.approx(expected, abs=1e-5)
        if mine.any():
            whole = compute_hausdorff_distance(
                *(torch.from_numpy(m.copy())[None, None] for m in (mine, theirs)),
                include_background=True,
                percentile=95,
                spacing=list(spacing),
            )
            assert distances[index - 1] == pytest.approx(float(whole), abs=1e-5)
