"""Which token a voxel lies in: against distances in millimetres, for every kind of grid."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sparseseg.analysis.patches import TokenIndex
from napari_sparseseg.canonical import ModelSpace
from napari_sparseseg.errors import InputError
from napari_sparseseg.tokens import TokenGrid
from napari_sparseseg.volume import Volume
from tests.analysis.places import TURNS, affines

SHAPES = st.tuples(*(st.sampled_from((1, 2, 5, 11, 18)) for _ in range(3)))


def grid_on(volume: Volume, spacing: float, lead: tuple[int, int, int], patch: int) -> TokenGrid:
    """Lay a token grid over a scan as a session does: it begins some model voxels earlier."""
    space = ModelSpace.of(volume, spacing)
    shift = np.eye(4)
    shift[:3, 3] = -np.array(lead)
    shape = tuple(n + before for n, before in zip(space.shape, lead, strict=True))
    return TokenGrid.over(shape, space.affine @ shift, patch)


@st.composite
def laid_over(draw: st.DrawFn) -> tuple[TokenGrid, Volume]:
    """Any scan with a token grid over it."""
    volume = Volume(np.zeros(draw(SHAPES), dtype=np.uint8), draw(affines()))
    patch = draw(st.sampled_from((2, 4, 8)))
    lead = tuple(draw(st.integers(0, patch - 1)) for _ in range(3))
    return grid_on(volume, draw(st.sampled_from((1.0, 2.0, 4.0))), lead, patch), volume


def chosen(index: TokenIndex) -> np.ndarray:
    """Give the token of every voxel by lifting the numbers of the tokens."""
    return index.lift(np.arange(index.grid.size).reshape(index.grid.shape))


def centres(grid: TokenGrid) -> np.ndarray:
    """Millimetres of the centre of every token, (tokens, 3)."""
    tokens = np.indices(grid.shape).reshape(3, -1)
    return (grid.affine[:3, :3] @ tokens).T + grid.affine[:3, 3]


def assert_nearest(index: TokenIndex, volume: Volume, voxels: np.ndarray) -> None:
    """Expect for each voxel (n, 3) that no token centre is nearer than its own token's."""
    where = voxels @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    tokens = centres(index.grid)
    mine = np.linalg.norm(where - tokens[chosen(index)[tuple(voxels.T)]], axis=1)
    for point, distance in zip(where, mine, strict=True):
        assert distance <= np.linalg.norm(point - tokens, axis=1).min() + 1e-4


@settings(max_examples=60, deadline=None)
@given(laid=laid_over())
def test_a_grid_that_was_laid_over_a_scan_is_its_own(laid: tuple[TokenGrid, Volume]) -> None:
    np.testing.assert_array_equal(chosen(TokenIndex.of_whole(*laid)), chosen(TokenIndex.of(*laid)))


@settings(max_examples=60, deadline=None)
@given(laid=laid_over(), axis=st.integers(0, 2), away=st.sampled_from((-2.5, 2.5, 100.0)))
def test_a_scan_some_tokens_away_is_refused(
    laid: tuple[TokenGrid, Volume], axis: int, away: float
) -> None:
    grid, volume = laid
    moved = volume.affine.copy()
    moved[:3, 3] += away * grid.affine[:3, axis]
    with pytest.raises(InputError, match="do not lie over far"):
        TokenIndex.of_whole(grid, Volume(volume.data, moved, "far"))


def test_a_part_of_the_scan_is_refused() -> None:
    grid = TokenGrid.over((40, 16, 16), np.eye(4))
    with pytest.raises(InputError, match="do not lie over part"):
        TokenIndex.of_whole(grid, Volume(np.zeros((20, 16, 16)), np.eye(4), "part"))


@settings(max_examples=60, deadline=None)
@given(laid=laid_over(), data=st.data())
def test_a_voxel_lies_in_the_token_whose_centre_is_nearest(
    laid: tuple[TokenGrid, Volume], data: st.DataObject
) -> None:
    grid, volume = laid
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    corners = np.array([*product(*((0, n - 1) for n in volume.shape))])
    voxels = np.concatenate([corners, rng.integers(0, volume.shape, (30, 3))])

    assert_nearest(TokenIndex.of(grid, volume), volume, voxels)


@pytest.mark.parametrize("turn", TURNS)
def test_all_orientations_find_the_nearest_token(turn: np.ndarray) -> None:
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag((1.0, 2.5, 4.0))
    volume = Volume(np.zeros((30, 13, 9), dtype=np.uint8), affine)
    index = TokenIndex.of(grid_on(volume, 2.0, (1, 0, 3), 8), volume)

    voxels = np.indices(volume.shape).reshape(3, -1).T[::37]
    assert len(np.unique(chosen(index))) > 10
    assert_nearest(index, volume, voxels)


@settings(max_examples=60, deadline=None)
@given(laid=laid_over(), seed=st.integers(0, 99))
def test_counts_boxes_and_places_agree_with_the_lifted_map(
    laid: tuple[TokenGrid, Volume], seed: int
) -> None:
    grid, volume = laid
    index = TokenIndex.of(grid, volume)
    rng = np.random.default_rng(seed)
    voxels = rng.random(volume.shape) < 0.3
    tokens = chosen(index)

    expected = np.bincount(tokens[voxels], minlength=grid.size).reshape(grid.shape)
    found = index.count(voxels)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(
        index.sizes, np.bincount(tokens.ravel(), minlength=grid.size).reshape(grid.shape)
    )
    for token in rng.integers(0, grid.size, 10):
        inside = np.zeros(volume.shape, dtype=bool)
        inside[index.box(int(token))] = True
        np.testing.assert_array_equal(inside, tokens == token)
    for voxel in rng.integers(0, volume.shape, (10, 3)).tolist():
        assert index.token_at(tuple(voxel)) == tokens[tuple(voxel)]


@settings(max_examples=40, deadline=None)
@given(laid=laid_over(), seed=st.integers(0, 99))
def test_a_part_of_the_scan_counts_as_the_whole_with_nothing_else(
    laid: tuple[TokenGrid, Volume], seed: int
) -> None:
    grid, volume = laid
    index = TokenIndex.of(grid, volume)
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, volume.shape)
    stops = rng.integers(starts, np.array(volume.shape) + 1)
    box = tuple(slice(int(a), int(b)) for a, b in zip(starts, stops, strict=True))
    voxels = np.zeros(volume.shape, dtype=bool)
    voxels[box] = rng.random(voxels[box].shape) < 0.5

    np.testing.assert_array_equal(index.count(voxels[box], box), index.count(voxels))


def test_by_hand_with_a_flip_a_permutation_and_a_token_without_voxels() -> None:
    """Tokens of 2 x 2 x 2 mm; the scan's axes run S (4 mm), L (1 mm) and A (2 mm).

    Its planes along S lie at 0 and 4 mm, in tokens 0 and 2; token 1, at 2 mm, holds none.
    Along L they lie at 3, 2, 1 and 0 mm right, where tokens have their centres at 0.5 and 2.5.
    """
    grid = TokenGrid((2, 1, 3), (2, 2, 2), np.diag([2.0, 2, 2, 1]))
    grid.affine[0, 3] = 0.5
    affine = np.array([[0, -1.0, 0, 3], [0, 0, 2, 0], [4, 0, 0, 0], [0, 0, 0, 1]])
    index = TokenIndex.of(grid, Volume(np.zeros((2, 4, 1)), affine))

    assert index.order == (2, 0, 1)
    assert [along.tolist() for along in index.along] == [[0, 2], [1, 1, 0, 0], [0]]
    np.testing.assert_array_equal(index.sizes, [[[2, 0, 2]], [[2, 0, 2]]])
    assert index.box(2) == (slice(1, 2), slice(2, 4), slice(0, 1))
    assert np.zeros(index.shape)[index.box(1)].size == 0
    assert index.token_at((1, 0, 0)) == 5
    np.testing.assert_array_equal(
        index.lift(grid_values := np.arange(6).reshape(2, 1, 3))[0, :, 0],
        grid_values[[1, 1, 0, 0], 0, 0],
    )


def test_a_grid_of_another_scan_is_refused() -> None:
    grid = TokenGrid((2, 2, 2), (8, 8, 8), np.diag([8.0, 8, 8, 1]))
    turned = np.eye(4)
    turned[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]

    with pytest.raises(InputError, match=r"turned scan; choose the scan .*made from\.$"):
        TokenIndex.of(grid, Volume(np.zeros((16, 16, 16)), turned, "turned scan"))
