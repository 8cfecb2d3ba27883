"""Boxes and affines, against plain arithmetic on every voxel."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest

from SparseSegLib.errors import SceneError
from SparseSegLib.geometry import (
    box_corners,
    crop_box,
    cropped_affine,
    ijk_from_kji,
    kji_from_ijk,
    token_ijk_to_ras,
)

SHAPE = (7, 9, 11)


def rotation(seed: int) -> np.ndarray:
    axes, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return axes


def affine_of(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = rotation(seed) * rng.uniform(0.5, 4, 3)
    affine[:3, 3] = rng.uniform(-100, 100, 3)
    return affine


def positions(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """RAS of each voxel, with the shape of the array first."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return index @ affine[:3, :3].T + affine[:3, 3]


@pytest.mark.parametrize("seed", range(5))
def test_a_box_around_some_voxels_crops_to_these_voxels(seed):
    affine = affine_of(seed)
    size = np.array([3, 4, 5])
    box = affine.copy()
    box[:3, :3] /= np.linalg.norm(affine[:3, :3], axis=0)
    middle = np.array([2, 1, 3]) + (size - 1) / 2
    box[:3, 3] = affine[:3, :3] @ middle + affine[:3, 3]
    corners = box_corners(tuple(size * np.linalg.norm(affine[:3, :3], axis=0)), box)
    assert crop_box(SHAPE, affine, corners) == (slice(2, 5), slice(1, 5), slice(3, 8))


@pytest.mark.parametrize("seed", range(20))
def test_no_voxel_with_its_centre_in_an_oblique_box_is_lost(seed):
    rng = np.random.default_rng(seed)
    affine = affine_of(seed)
    box = np.eye(4)
    box[:3, :3] = rotation(seed + 100)
    box[:3, 3] = positions(SHAPE, affine)[tuple(rng.integers(0, SHAPE))]
    size = rng.uniform(2, 12, 3)
    slices = crop_box(SHAPE, affine, box_corners(tuple(size), box))
    own = (positions(SHAPE, affine) - box[:3, 3]) @ box[:3, :3]
    inside = (np.abs(own) <= size / 2).all(axis=-1)
    outside = inside.copy()
    outside[slices] = False
    assert inside.any()
    assert not outside.any()


def test_a_box_takes_in_a_voxel_that_it_covers_in_part():
    corners = np.array(list(product((0.6, 1.2), repeat=3)))
    assert crop_box(SHAPE, np.eye(4), corners) == (slice(1, 2),) * 3
    corners = np.array(list(product((0.4, 1.6), repeat=3)))
    assert crop_box(SHAPE, np.eye(4), corners) == (slice(0, 3),) * 3


def test_a_box_that_reaches_past_the_volume_ends_with_it():
    corners = np.array(list(product((-50.0, 50.0), repeat=3)))
    assert crop_box(SHAPE, np.eye(4), corners) == tuple(slice(0, n) for n in SHAPE)


@pytest.mark.parametrize("at", [(-9, 0, 0), (0, 20, 0), (0, 0, 11.5)])
def test_a_box_beside_the_volume_is_refused(at):
    corners = np.array(list(product((-0.9, 0.9), repeat=3))) + at
    with pytest.raises(SceneError, match="outside of the volume"):
        crop_box(SHAPE, np.eye(4), corners)


@pytest.mark.parametrize("seed", range(3))
def test_a_crop_stays_where_it_was(seed):
    affine = affine_of(seed)
    slices = (slice(2, 5), slice(0, 9), slice(3, 4))
    there = positions(SHAPE, affine)[slices]
    assert np.allclose(positions(there.shape[:3], cropped_affine(affine, slices)), there)


@pytest.mark.parametrize("seed", range(3))
def test_tokens_move_with_the_voxels_that_they_stand_for(seed):
    sent, grid = affine_of(seed), SimpleNamespace(affine=affine_of(seed + 10), shape=(2, 3, 4))
    move = affine_of(seed + 20)
    assert np.allclose(token_ijk_to_ras(grid, sent, sent), grid.affine)
    assert np.allclose(token_ijk_to_ras(grid, sent, move @ sent), move @ grid.affine)


def test_axes_turn_without_a_copy():
    array = np.arange(24).reshape(2, 3, 4)
    assert kji_from_ijk(array)[3, 2, 1] == array[1, 2, 3]
    assert np.shares_memory(kji_from_ijk(array), array)
    assert (ijk_from_kji(kji_from_ijk(array)) == array).all()
