"""The canvas: answers of windows joined where they overlap, and kept exactly where they do not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import Tensor

from napari_sparseseg.canvas import Canvas, blend_weights
from napari_sparseseg.network import NetworkConfig, Output
from napari_sparseseg.network.layout import TokenLayout
from napari_sparseseg.placement import Placement, place_windows

SIDES = st.integers(min_value=1, max_value=5)
CONFIG = NetworkConfig(classes=3, window=(32, 32, 32))
"""Windows of 4 x 4 x 4 tokens of 8 x 8 x 8 voxels."""
SURE = 60.0
"""A score that leaves the other classes nothing."""

TISSUE = array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7).flatmap(
    lambda shape: arrays(bool, shape, elements=st.booleans(), fill=st.just(False))
)


def answer(layout: TokenLayout, scores: Tensor) -> Output:
    """What a network says, as far as a canvas looks at it."""
    return cast(Output, SimpleNamespace(encoded=SimpleNamespace(layout=layout), scores=scores))


def in_window(values: np.ndarray, place: Placement, outside: int) -> np.ndarray:
    """Cut the tokens of a window out of a grid."""
    window = np.full(CONFIG.grid, outside)
    window[place.inner] = values[place.outer]
    return window


@settings(max_examples=30, deadline=None)
@given(window=st.tuples(SIDES, SIDES, SIDES))
def test_blend_weights_are_positive_symmetric_and_highest_in_the_middle(
    window: tuple[int, int, int],
) -> None:
    weights = blend_weights(window)

    assert weights.shape == window
    assert weights.min() > 0
    assert torch.equal(weights, weights.flip(0, 1, 2))
    assert weights[tuple(n // 2 for n in window)] == weights.max() == 1


@pytest.mark.parametrize("air_enters", [False, True])
@settings(max_examples=20, deadline=None)
@given(tissue=TISSUE.filter(np.any), together=st.integers(1, 3), overlap=st.sampled_from([0, 0.5]))
def test_windows_that_agree_are_joined_without_a_seam(
    air_enters: bool, tissue: np.ndarray, together: int, overlap: float
) -> None:
    """Tokens outside the grid, and air that has no place, may say what they like."""
    numbers = np.arange(tissue.size).reshape(tissue.shape)
    scores = torch.randn(tissue.size, 512, 3, generator=torch.manual_seed(0))
    nonsense = torch.full((1, 512, 3), 99.0)
    places = place_windows(tissue, CONFIG.grid, overlap)
    shown = np.ones_like(tissue) if air_enters else tissue
    canvas = Canvas(shown, CONFIG, places, "cpu")
    seen = np.zeros_like(tissue)
    for start in range(0, len(places), together):
        call = places[start : start + together]
        cells = torch.from_numpy(np.stack([in_window(numbers, place, -1) for place in call]))
        entered = (cells >= 0) & torch.from_numpy(shown).flatten()[cells]
        layout = TokenLayout.of(entered if not air_enters else torch.ones_like(entered))
        given_ = torch.cat([scores, nonsense])[cells.flatten()[layout.cells]]
        canvas.add(answer(layout, given_), call)
        for place in call:
            seen[place.outer] = True

    result = canvas.result((0, 0, 0))
    rows = result.rows.numpy()
    np.testing.assert_array_equal(rows >= 0, seen & shown)
    assert sorted(rows[rows >= 0].tolist()) == list(range(len(result.values)))
    expected = scores.softmax(dim=2)[numbers[rows >= 0]]
    torch.testing.assert_close(result.values[rows[rows >= 0]], expected)


def test_air_that_has_no_place_is_passed_over() -> None:
    """A window says something of every token, but one alone is shown."""
    shown = np.zeros((4, 4, 4), dtype=bool)
    shown[1, 2, 3] = True
    (place,) = place_windows(np.ones_like(shown), CONFIG.grid)
    canvas = Canvas(shown, CONFIG, [place], "cpu")
    scores = torch.randn(64, 512, 3)
    canvas.add(answer(TokenLayout.of(torch.ones(1, 4, 4, 4, dtype=torch.bool)), scores), [place])

    result = canvas.result((0, 0, 0))
    assert (result.rows >= 0).sum() == len(result.values) == 1
    torch.testing.assert_close(result.values[0], scores[16 + 2 * 4 + 3].softmax(dim=1))


def sure_windows(shape: tuple[int, int, int]) -> tuple[Canvas, int]:
    """Windows over a grid of tissue, the first sure of class 0, the next of class 1 and so on."""
    tissue = np.ones(shape, dtype=bool)
    places = place_windows(tissue, CONFIG.grid)
    canvas = Canvas(tissue, CONFIG, places, "cpu")
    for name, place in enumerate(places):
        inside = torch.from_numpy(in_window(tissue, place, 0).astype(bool))
        layout = TokenLayout.of(inside[None])
        scores = torch.zeros(len(layout.cells), 512, 3)
        scores[..., name] = SURE
        canvas.add(answer(layout, scores), [place])
    return canvas, len(places)


def test_the_more_central_window_counts_more() -> None:
    """Windows begin at voxels 0 and 16 of 48. Hats of 32 voxels rise and fall by equal steps.

    At voxel v of the common part one has 32 - v of them, the other v - 15.
    """
    canvas, windows = sure_windows((6, 1, 1))
    result = canvas.result((0, 0, 0))
    assert windows == 2

    second = result.values[result.rows[:, 0, 0]][..., 1].view(6, 8, 64)
    assert torch.allclose(second, second[..., :1].expand_as(second))  # alike along y and z
    expected = [0.0] * 16 + [(v - 15) / 17 for v in range(16, 32)] + [1.0] * 16
    assert second[..., 0].flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_what_is_joined_stays_joined() -> None:
    canvas, _ = sure_windows((6, 1, 1))
    first = canvas.result((0, 0, 0)).values.clone()

    assert torch.equal(canvas.result((0, 0, 0)).values, first)


def test_the_lead_and_the_patch_go_with_the_result() -> None:
    canvas, _ = sure_windows((4, 4, 4))
    result = canvas.result((5, 0, 7))

    assert (result.lead, result.patch) == ((5, 0, 7), 8)
    assert result.values.shape == (64, 512, 3)
