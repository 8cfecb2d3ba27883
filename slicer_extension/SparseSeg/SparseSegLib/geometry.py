"""Where arrays lie: axes, affines and boxes. numpy only.

The engine counts voxels as IJK (first axis fastest in Slicer's memory), Slicer's numpy views as
KJI. Affines always map IJK to RAS millimetres, as both sides do.
"""

from __future__ import annotations

from itertools import product
from typing import Protocol

import numpy as np

from SparseSegLib.errors import SceneError

_ROUNDING = 1e-6  # voxels: a box that ends on the face of a voxel does not take in the next


class TokenGrid(Protocol):
    """What is asked of a token grid."""

    affine: np.ndarray
    shape: tuple[int, ...]


def kji_from_ijk(array: np.ndarray) -> np.ndarray:
    """Return a view of an IJK array with the axes of Slicer, KJI."""
    return array.transpose(2, 1, 0)


def ijk_from_kji(array: np.ndarray) -> np.ndarray:
    """Return a view of a KJI array with the axes of the engine, IJK."""
    return array.transpose(2, 1, 0)


def token_ijk_to_ras(
    grid: TokenGrid, sent_ijk_to_ras: np.ndarray, ijk_to_ras: np.ndarray
) -> np.ndarray:
    """Place a token grid where its voxels are now.

    Parameters
    ----------
    grid : TokenGrid
        Its affine is in the RAS of the volume as it was sent to the engine.
    sent_ijk_to_ras : ndarray
        (4, 4): voxel index to RAS, as it was sent.
    ijk_to_ras : ndarray
        (4, 4): the same voxel index to the RAS wanted, for example that of a volume's own node
        under its parent transform.

    Returns
    -------
    ndarray
        (4, 4): token index to the wanted RAS of the token's centre.
    """
    voxel_of_token = np.linalg.solve(sent_ijk_to_ras, np.asarray(grid.affine, dtype=float))
    return ijk_to_ras @ voxel_of_token


def box_corners(size: tuple[float, float, float], box_to_ras: np.ndarray) -> np.ndarray:
    """Return the eight corners of a box.

    Parameters
    ----------
    size : tuple of float
        Length of its edges along its own axes.
    box_to_ras : ndarray
        (4, 4): its own axes, with the origin in its middle, to RAS.

    Returns
    -------
    ndarray
        (8, 3) RAS.
    """
    signs = np.array(list(product((-0.5, 0.5), repeat=3)))
    return signs * size @ box_to_ras[:3, :3].T + box_to_ras[:3, 3]


def crop_box(
    shape: tuple[int, ...], ijk_to_ras: np.ndarray, corners_ras: np.ndarray
) -> tuple[slice, slice, slice]:
    """Find the voxels that a box covers, even in part.

    Parameters
    ----------
    shape : tuple of int
        Voxels of the volume along I, J and K.
    ijk_to_ras : ndarray
        (4, 4): voxel index to RAS.
    corners_ras : ndarray
        (n, 3): corners of the box; it may be oblique to the volume, whose smallest box of voxels
        around it is taken.

    Returns
    -------
    tuple of slice
        Along I, J and K.

    Raises
    ------
    SceneError
        If the box lies outside of the volume.
    """
    to_ijk = np.linalg.inv(ijk_to_ras)
    corners = corners_ras @ to_ijk[:3, :3].T + to_ijk[:3, 3]
    start = np.floor(corners.min(axis=0) + 0.5 + _ROUNDING).astype(int).clip(0)
    stop = np.minimum(np.ceil(corners.max(axis=0) + 0.5 - _ROUNDING).astype(int), shape)
    if (stop <= start).any():
        raise SceneError(
            "The region lies outside of the volume; move it over the volume, or choose none."
        )
    i, j, k = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return i, j, k


def cropped_affine(ijk_to_ras: np.ndarray, slices: tuple[slice, slice, slice]) -> np.ndarray:
    """Return the affine of a cropped array: its first voxel is where the crop starts."""
    shift = np.eye(4)
    shift[:3, 3] = [along.start for along in slices]
    return ijk_to_ras @ shift
