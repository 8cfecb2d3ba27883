"""Which token each voxel of a scan lies in."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.errors import InputError
from napari_sparseseg.tokens import TokenGrid
from napari_sparseseg.volume import Volume

Box = tuple[slice, slice, slice]

_TIE = 1e-6  # tokens; voxels midway between two tokens all go to the same, whatever the rounding
_ASKEW = 0.01  # tokens by which a token may stray from its row along a whole axis of the scan
_BEYOND = 0.5  # tokens by which a scan may reach past the outermost tokens
_SPARE = 1.6  # tokens that a grid may reach past its scan: it begins where the tissue does


def middle_voxel(marked: NDArray[np.bool_], box: Box) -> NDArray[np.float64]:
    """Return the marked voxel nearest to the mean of all that are marked, ``(3,)``.

    Parameters
    ----------
    marked : ndarray of bool
        Part of a scan with at least one marked voxel.
    box : tuple of slice
        Where that part lies in the scan, in whose voxels the answer counts.
    """
    voxels = np.argwhere(marked)
    nearest = np.linalg.norm(voxels - voxels.mean(axis=0), axis=1).argmin()
    return voxels[nearest] + np.array([part.start for part in box], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class TokenIndex:
    """Which token each voxel of a scan lies in: the one whose centre is nearest.

    The model grid is the scan's own with its axes permuted and flipped, so a table for each axis
    tells all.

    Attributes
    ----------
    shape : tuple of int
        Of the scan.
    grid : TokenGrid
        Where the tokens are.
    along : tuple of ndarray of int
        For each axis of the scan, ``(n,)``: the index, along its token axis, of each plane of
        voxels; clipped to the grid.
    order : tuple of int
        For each axis of the scan the token axis along it.
    """

    shape: tuple[int, int, int]
    grid: TokenGrid
    along: tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]
    order: tuple[int, int, int]

    @classmethod
    def of(cls, grid: TokenGrid, volume: Volume) -> TokenIndex:
        """Find the token of every voxel.

        Parameters
        ----------
        grid : TokenGrid
            The token grid of a run on the scan.
        volume : Volume
            The scan or its labels; only its shape and affine count.

        Raises
        ------
        InputError
            If the axes of the grid are not those of the scan.
        """
        to_token = np.linalg.inv(grid.affine) @ volume.affine
        reach = np.abs(to_token[:3, :3]) * volume.shape
        order = reach.argmax(axis=0)
        astray = reach.copy()
        astray[order, range(3)] = 0
        if sorted(order) != [0, 1, 2] or astray.max() > _ASKEW:
            raise InputError(
                f"The tokens do not lie along the axes of {volume.name}; choose the scan that the "
                "trace was made from."
            )
        first, second, third = (
            _nearest(to_token[token, axis] * np.arange(n) + to_token[token, 3], grid.shape[token])
            for axis, (token, n) in enumerate(zip(order, volume.shape, strict=True))
        )
        i, j, k = volume.shape
        x, y, z = order.tolist()
        return cls((i, j, k), grid, (first, second, third), (x, y, z))

    @classmethod
    def of_whole(cls, grid: TokenGrid, volume: Volume) -> TokenIndex:
        """Find the token of every voxel of a scan that may not be the one of the grid.

        Parameters
        ----------
        grid, volume
            As for :meth:`of`.

        Raises
        ------
        InputError
            If the grid was not laid over this scan: over another place, or a part of it.
        """
        index, to_token = cls.of(grid, volume), np.linalg.inv(grid.affine) @ volume.affine
        corners = to_token[:3, :3] @ (np.array([[0.0] * 3, volume.shape]) - 0.5).T
        edges = corners + to_token[:3, 3:]  # the outer faces of the scan, in tokens
        before = edges.min(axis=1) + 0.5
        behind = np.array(grid.shape) - 0.5 - edges.max(axis=1)
        gaps = np.concatenate([before, behind])
        if gaps.min() < -_BEYOND or gaps.max() > _SPARE:
            raise InputError(
                f"The tokens do not lie over {volume.name}; choose the scan that the trace was "
                "made from."
            )
        return index

    @property
    def sizes(self) -> NDArray[np.int64]:
        """``grid.shape``; voxels of the scan in each token."""
        tokens = [self.grid.shape[axis] for axis in self.order]
        counts = [np.bincount(t, minlength=n) for t, n in zip(self.along, tokens, strict=True)]
        i, j, k = (count.astype(np.int64) for count in counts)
        return self._of_grid(i[:, None, None] * j[:, None] * k)

    def lift(self, tokens: NDArray[Any]) -> NDArray[Any]:
        """Give every voxel the value of its token.

        Parameters
        ----------
        tokens : ndarray
            ``grid.shape``.

        Returns
        -------
        ndarray
            ``shape``, in the same dtype.
        """
        values = tokens.transpose(self.order)
        for axis, along in enumerate(self.along):
            values = values.take(along, axis=axis)
        return values

    def count(self, voxels: NDArray[np.bool_], box: Box | None = None) -> NDArray[np.int64]:
        """Count the true voxels of each token.

        Parameters
        ----------
        voxels : ndarray of bool
            ``shape``, or that of the box.
        box : tuple of slice, optional
            The part of the scan that they are.

        Returns
        -------
        ndarray of int64
            ``grid.shape``.
        """
        counts: NDArray[Any] = voxels
        parts = box or (slice(None),) * 3
        # slowest in memory first: the voxels are then read once, in slabs that lie in one piece
        for axis in sorted(range(3), key=lambda axis: -abs(voxels.strides[axis])):
            along, tokens = self.along[axis][parts[axis]], self.grid.shape[self.order[axis]]
            counts = _sums(counts, along, tokens, axis)
        return self._of_grid(counts.astype(np.int64))

    def box(self, token: int) -> Box:
        """Return the voxels of a token.

        Parameters
        ----------
        token : int
            Place in the flattened token grid.

        Returns
        -------
        tuple of slice
            Along the axes of the scan; empty where no voxel lies nearest to the token.
        """
        place = np.unravel_index(token, self.grid.shape)
        i, j, k = (
            _run(along == place[axis]) for along, axis in zip(self.along, self.order, strict=True)
        )
        return i, j, k

    def token_at(self, voxel: tuple[int, int, int]) -> int:
        """Return the token of a voxel, as its place in the flattened token grid."""
        place = [0, 0, 0]
        for axis, along, index in zip(self.order, self.along, voxel, strict=True):
            place[axis] = int(along[index])
        return int(np.ravel_multi_index(place, self.grid.shape))

    def _of_grid(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bring the axes of the scan into the order of the grid's."""
        return np.ascontiguousarray(values.transpose(np.argsort(self.order)))


def _nearest(positions: NDArray[np.float64], tokens: int) -> NDArray[np.intp]:
    return np.clip(np.floor(positions + 0.5 + _TIE), 0, tokens - 1).astype(np.intp)


def _sums(values: NDArray[Any], along: NDArray[np.intp], tokens: int, axis: int) -> NDArray[Any]:
    """Sum the planes of each token along one axis, where they lie side by side."""
    sums = np.zeros((tokens, *np.delete(values.shape, axis)), dtype=np.int32)
    planes = np.moveaxis(values, axis, 0)
    bounds = [*np.flatnonzero(np.diff(along, prepend=-1)), len(along)]
    for start, stop in pairwise(bounds):
        np.add.reduce(planes[start:stop], axis=0, dtype=np.int32, out=sums[along[start]])
    return np.moveaxis(sums, 0, axis)


def _run(chosen: NDArray[np.bool_]) -> slice:
    """Return where neighbouring planes are chosen; an empty slice if none is."""
    planes = np.flatnonzero(chosen)
    return slice(int(planes[0]), int(planes[-1]) + 1) if len(planes) else slice(0, 0)
