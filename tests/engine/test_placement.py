"""Windows on the token grid: every token with tissue is seen, and belongs to one window."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from napari_sparseseg.placement import (
    cut_window,
    grid_lead,
    pad_to_grid,
    place_windows,
)

SIDES = st.integers(min_value=1, max_value=5)
WINDOWS = st.tuples(SIDES, SIDES, SIDES)
TISSUE = array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=9).flatmap(
    lambda shape: arrays(bool, shape, elements=st.booleans(), fill=st.just(False))
)


def seen_and_owned(
    shape: tuple[int, ...], window: tuple[int, int, int], tissue: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Count for each token the windows that see it, and those that own it."""
    seen, owned = np.zeros(shape, dtype=int), np.zeros(shape, dtype=int)
    for place in place_windows(tissue, window):
        seen[place.outer] += 1
        owned[place.outer] += place.owned
    return seen, owned


@settings(deadline=None)
@given(tissue=TISSUE, window=WINDOWS)
def test_every_token_with_tissue_is_seen_and_every_token_seen_has_one_owner(
    tissue: np.ndarray, window: tuple[int, int, int]
) -> None:
    seen, owned = seen_and_owned(tissue.shape, window, tissue)

    assert (seen[tissue] >= 1).all()
    np.testing.assert_array_equal(owned, seen > 0)


@settings(deadline=None)
@given(tissue=TISSUE, window=WINDOWS)
def test_a_window_covers_the_same_tokens_inside_and_outside(
    tissue: np.ndarray, window: tuple[int, int, int]
) -> None:
    for place in place_windows(tissue, window):
        assert tissue[place.outer].any()
        for axis in range(3):
            inner, outer = place.inner[axis], place.outer[axis]
            assert 0 <= inner.start < inner.stop <= window[axis]
            assert 0 <= outer.start < outer.stop <= tissue.shape[axis]
            assert inner.start + place.origin[axis] == outer.start
            assert inner.stop + place.origin[axis] == outer.stop
        assert place.owned.shape == tissue[place.outer].shape


@settings(deadline=None)
@given(
    corner=st.tuples(*[st.integers(0, 7)] * 3),
    size=WINDOWS,
    window=st.tuples(*[st.integers(5, 8)] * 3),
)
def test_tissue_that_fits_takes_one_window_with_the_tissue_in_its_middle(
    corner: tuple[int, ...], size: tuple[int, ...], window: tuple[int, int, int]
) -> None:
    tissue = np.zeros((12, 12, 12), dtype=bool)
    tissue[tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))] = True
    (place,) = place_windows(tissue, window)

    assert place.owned.all()
    for axis in range(3):
        before = corner[axis] - place.origin[axis]
        after = place.origin[axis] + window[axis] - corner[axis] - size[axis]
        assert after - before in (0, 1)


@settings(deadline=None)
@given(
    length=st.integers(5, 60), window=st.integers(4, 12), overlap=st.sampled_from([0, 0.25, 0.5])
)
def test_neighbouring_windows_share_their_part(length: int, window: int, overlap: float) -> None:
    places = place_windows(np.ones((length, 1, 1), dtype=bool), (window, 1, 1), overlap)
    starts = [place.origin[0] for place in places]

    assert starts == sorted(starts)
    if length > window:
        assert starts[0] == 0 and starts[-1] + window == length
        assert max(np.diff(starts)) <= (1 - overlap) * window


def test_neighbouring_windows_share_a_quarter_unless_told_otherwise() -> None:
    places = place_windows(np.ones((20, 1, 1), dtype=bool), (8, 1, 1))

    assert [place.origin[0] for place in places] == [0, 6, 12]


def test_a_token_belongs_to_the_window_that_it_lies_most_central_in() -> None:
    first, second = place_windows(np.ones((6, 1, 1), dtype=bool), (4, 1, 1))

    assert (first.origin[0], second.origin[0]) == (0, 2)
    assert first.owned.ravel().tolist() == [True, True, True, False]
    assert second.owned.ravel().tolist() == [False, True, True, True]


def test_a_token_midway_belongs_to_the_first_window() -> None:
    first, second = place_windows(np.ones((7, 1, 1), dtype=bool), (4, 1, 1))

    assert (first.origin[0], second.origin[0]) == (0, 3)
    assert first.owned.all()
    assert second.owned.ravel().tolist() == [False, True, True, True]


def test_windows_without_tissue_are_left_out() -> None:
    tissue = np.zeros((20, 20, 2), dtype=bool)
    tissue[0, 0], tissue[19, 19] = True, True
    places = place_windows(tissue, (4, 4, 4))

    assert {place.origin[:2] for place in places} == {(0, 0), (16, 16)}


def test_no_tissue_takes_no_window() -> None:
    assert place_windows(np.zeros((4, 4, 4), dtype=bool), (2, 2, 2)) == []


@settings(deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 20)] * 3),
    origin=st.tuples(*[st.integers(-2, 2)] * 3),
)
def test_a_window_is_cut_from_the_image_and_filled_with_zeros(
    shape: tuple[int, ...], origin: tuple[int, int, int]
) -> None:
    patch, window = 4, (8, 12, 16)
    # such a window, one that meets the image, is all that is ever placed
    origin = tuple(
        min(max(o, 1 - w // patch), (n - 1) // patch)
        for o, w, n in zip(origin, window, shape, strict=True)
    )
    image = torch.arange(1.0, 1 + np.prod(shape)).reshape(shape)
    wide = np.pad(image.numpy(), 40)
    low = [40 + patch * o for o in origin]

    cut = cut_window(image, origin, window, patch)

    expected = wide[tuple(slice(a, a + w) for a, w in zip(low, window, strict=True))]
    np.testing.assert_array_equal(cut.numpy(), expected)


@settings(deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 30)] * 3),
    box=st.tuples(*[st.tuples(st.integers(0, 29), st.integers(4, 30))] * 3),
)
def test_patches_begin_where_the_tissue_begins(
    shape: tuple[int, ...], box: tuple[tuple[int, int], ...]
) -> None:
    image = torch.zeros(shape)
    image[tuple(slice(start, start + length) for start, length in box)] = 1
    lead = grid_lead(image > 0, 4, least=7)
    padded = pad_to_grid(image, lead, 4)

    assert all(0 <= before < 4 for before in lead)
    assert all(
        0 <= n - before - m < 4 for n, before, m in zip(padded.shape, lead, shape, strict=True)
    )
    assert all(n % 4 == 0 for n in padded.shape)
    part = tuple(slice(before, before + n) for before, n in zip(lead, shape, strict=True))
    assert torch.equal(padded[part], image)
    assert padded.sum() == image.sum()
    for axis in range(3):
        faces = image.sum(dim=[other for other in range(3) if other != axis])
        if faces.max() >= 8:  # half a face of a patch
            assert (lead[axis] + int((faces >= 8).nonzero()[0])) % 4 == 0
        else:
            assert lead[axis] == 0
