"""The grid that the network sees, and the exact way there and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from nibabel.orientations import io_orientation

from napari_sparseseg.errors import InputError
from napari_sparseseg.volume import Volume

_CHUNK = 200_000  # voxels whose scores are interpolated at once
_MIXED = 255  # marks a cell of the model grid whose corners disagree
_TINY = 1e-6  # gain in width (native voxels) below which an axis does not shrink


@dataclass(frozen=True, eq=False)
class ModelSpace:
    """The model grid of a volume: axes R, A, S, and one spacing for all scans.

    The grid is the volume's with its axes permuted and flipped to the closest right, anterior,
    superior directions (an oblique scan stays oblique), resampled to the model spacing. Both
    share the centre of the field of view; a field that is no multiple of the model spacing is
    missed or exceeded by less than half a model voxel at each end.

    Parameters
    ----------
    shape : tuple of int
        Number of model voxels along R, A, S.
    spacing : tuple of float
        Model spacing along R, A, S (mm).
    affine : numpy.ndarray
        Matrix (4, 4): model voxel index to RAS mm.
    native_shape : tuple of int
        Shape (I, J, K) of the volume.
    native_axes : tuple of int
        For each of R, A, S the volume's axis along it.
    steps : tuple of float
        For each of R, A, S the number of the volume's voxels per model voxel, negative where
        the volume's axis runs the other way.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    affine: np.ndarray
    native_shape: tuple[int, int, int]
    native_axes: tuple[int, int, int]
    steps: tuple[float, float, float]

    @classmethod
    def of(cls, volume: Volume, spacing: float | Sequence[float]) -> ModelSpace:
        """Lay the model grid over a volume.

        Parameters
        ----------
        volume : Volume
            A validated volume; only its shape and affine count.
        spacing : float or sequence of 3 float
            Model spacing (mm), one for all or along R, A, S.

        Returns
        -------
        ModelSpace
            The grid, with ``max(1, round(n * native / spacing))`` voxels along each axis.

        Raises
        ------
        InputError
            When the spacing is not one or three positive numbers.
        """
        target = _three_positive(spacing)
        orientation = io_orientation(volume.affine)  # per native axis: its R/A/S axis and sign
        axes = np.argsort(orientation[:, 0])
        steps = orientation[axes, 1] * target / np.asarray(volume.spacing)[axes]
        extent = np.asarray(volume.shape)[axes] / np.abs(steps)
        shape = np.maximum(1, np.rint(extent)).astype(int)

        affine = np.eye(4)
        affine[:3, :3] = volume.affine[:3, axes] * steps
        centre = volume.affine @ [*((np.asarray(volume.shape) - 1) / 2), 1]
        affine[:3, 3] = centre[:3] - affine[:3, :3] @ ((shape - 1) / 2)
        return cls(
            shape=_three(shape.tolist()),
            spacing=_three(target.tolist()),
            affine=affine,
            native_shape=_three(volume.shape),
            native_axes=_three(axes.tolist()),
            steps=_three(steps.tolist()),
        )

    @torch.no_grad()
    def to_model(self, data: torch.Tensor | np.ndarray) -> torch.Tensor:
        """Resample an image onto the model grid.

        Along an axis that grows, neighbours are interpolated linearly. Along one that shrinks,
        that interpolant is averaged over the width that the voxel gains, so that nothing aliases;
        at half resolution this is the plain mean of two voxels. Either way constants and, away from
        the edge, linear ramps keep their values; what lies beyond the edge does not count.

        Parameters
        ----------
        data : torch.Tensor or numpy.ndarray
            Image on the volume's grid, shape (I, J, K), any real dtype.

        Returns
        -------
        torch.Tensor
            Image on the model grid, shape (R, A, S), float32, on the device of ``data``.

        Raises
        ------
        ValueError
            When the shape is not the volume's.
        """
        if tuple(data.shape) != self.native_shape:
            raise ValueError(f"expected shape {self.native_shape}, got {tuple(data.shape)}")
        if isinstance(data, np.ndarray):
            # A plain copy: torch takes no foreign byte order, negative stride, read-only memory.
            data = torch.from_numpy(np.array(data, dtype=np.float32))
        image = data.to(torch.float32)
        with torch.autocast(image.device.type, enabled=False):
            # Shrink first: the other axes then have less to do.
            for axis in sorted(range(3), key=lambda axis: -abs(self.steps[axis])):
                native_axis = self.native_axes[axis]
                weights = self._weights(axis).to(image.device)
                image = (image.movedim(native_axis, -1) @ weights).movedim(-1, native_axis)
        return image.permute(self.native_axes).contiguous()

    @torch.no_grad()
    def labels_to_volume(self, logits: torch.Tensor, background: int = 0) -> np.ndarray:
        """Find the class of every voxel of the volume from class scores on the model grid.

        The result is that of trilinear interpolation of all scores (the edge is continued
        outwards) followed by the argmax, without ever holding the scores of all voxels. Where
        the eight model voxels around a voxel have the same best class, no interpolation is
        needed: a weighted mean keeps it.

        Parameters
        ----------
        logits : torch.Tensor
            Finite class scores on the model grid, shape (C, R, A, S) with C <= 255, any float
            dtype, on any device.
        background : int
            Class of voxels whose scores are all equal, as where nothing was predicted. Other
            ties go to the lowest class.

        Returns
        -------
        numpy.ndarray
            Class of each voxel of the volume, shape (I, J, K), uint8.

        Raises
        ------
        ValueError
            When the shape of the scores does not fit.
        """
        if tuple(logits.shape[1:]) != self.shape or not 1 <= logits.shape[0] <= _MIXED:
            raise ValueError(
                f"expected shape (1 to {_MIXED}, *{self.shape}), got {tuple(logits.shape)}"
            )
        cells = _classes_of_cells(_best_classes(logits, background))
        scores = _ScoreTable(logits, cells == _MIXED)
        # From here on the axes, also of these lists, are in the volume's order.
        lower, offsets, weights = self._interpolation(logits.device)
        labels = cells.permute(np.argsort(self.native_axes).tolist())
        for native_axis, index in enumerate(lower):
            labels = labels.index_select(native_axis, index)
        rows = max(1, _CHUNK // labels[0].numel())
        for start in range(0, len(labels), rows):
            block = labels[start : start + rows]
            open_voxels = (block == _MIXED).nonzero().unbind(1)
            if len(open_voxels[0]):
                at = (open_voxels[0] + start, *open_voxels[1:])
                block[open_voxels] = scores.classes(
                    [offsets[axis][at[axis]] for axis in range(3)],
                    [weights[axis][at[axis]] for axis in range(3)],
                    background,
                )
        return labels.cpu().numpy()

    def _weights(self, axis: int) -> torch.Tensor:
        """Resampling weights along R, A or S: (native voxels, model voxels), columns sum to 1."""
        n, m, step = self.native_shape[self.native_axes[axis]], self.shape[axis], self.steps[axis]
        position = step * (np.arange(m) - (m - 1) / 2) + (n - 1) / 2  # in native voxels
        distance = np.arange(n)[:, None] - position
        width = abs(step) - 1
        if width < _TINY:
            weights = np.maximum(1 - np.abs(distance), 0)
        else:
            weights = _hat_integral(distance + width / 2) - _hat_integral(distance - width / 2)
        return torch.from_numpy((weights / weights.sum(0)).astype(np.float32))

    def _interpolation(
        self, device: torch.device
    ) -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
        """Where each native voxel lies between model voxels, per native axis of length n.

        Returns the lower model index (n,), and for the lower and the upper one their offset in
        a flattened model grid (n, 2) and their weight (n, 2).
        """
        lower, offsets, weights = [], [], []
        strides = (self.shape[1] * self.shape[2], self.shape[2], 1)
        for axis in np.argsort(self.native_axes):
            n, m = self.native_shape[self.native_axes[axis]], self.shape[axis]
            position = (np.arange(n) - (n - 1) / 2) / self.steps[axis] + (m - 1) / 2
            position = np.clip(position, 0, m - 1)
            below = np.floor(position).astype(np.int64)
            pair = np.stack([below, np.minimum(below + 1, m - 1)], axis=1)
            share = np.stack([1 - (position - below), position - below], axis=1)
            lower.append(torch.from_numpy(below).to(device))
            offsets.append(torch.from_numpy(pair * strides[axis]).to(device))
            weights.append(torch.from_numpy(share.astype(np.float32)).to(device))
        return lower, offsets, weights


class _ScoreTable:
    """Scores of the model voxels around mixed cells, one row each, for fast gathering."""

    def __init__(self, logits: torch.Tensor, mixed: torch.Tensor) -> None:
        needed = mixed
        for axis in range(3):
            needed = needed | _shifted(needed, axis, -1)
        ids = needed.flatten().nonzero().squeeze(1)
        self._scores = logits.flatten(1)[:, ids].T.to(torch.float32).contiguous()
        self._row = torch.zeros(needed.numel(), dtype=torch.int64, device=logits.device)
        self._row[ids] = torch.arange(len(ids), device=logits.device)

    def classes(
        self, offsets: list[torch.Tensor], weights: list[torch.Tensor], background: int
    ) -> torch.Tensor:
        """Interpolate at V voxels: per axis (V, 2) offsets and weights to (V,) classes."""
        i, j, k = offsets
        u, v, w = weights
        corners = i[:, :, None, None] + j[:, None, :, None] + k[:, None, None, :]
        shares = u[:, :, None, None] * v[:, None, :, None] * w[:, None, None, :]
        scores = torch.nn.functional.embedding_bag(
            self._row[corners.flatten(1)],
            self._scores,
            mode="sum",
            per_sample_weights=shares.flatten(1),
        )
        return _best_classes(scores.T, background)


def _best_classes(scores: torch.Tensor, background: int) -> torch.Tensor:
    """Class with the highest score: (C, ...) to (...), uint8."""
    highest, best = scores.max(0)
    return best.to(torch.uint8).masked_fill_(highest == scores.amin(0), background)


def _classes_of_cells(best: torch.Tensor) -> torch.Tensor:
    """Class that the voxels [r:r+2, a:a+2, s:s+2] share, or ``_MIXED``; same shape (R, A, S)."""
    low = high = best
    for axis in range(3):
        low = torch.minimum(low, _shifted(low, axis, 1))
        high = torch.maximum(high, _shifted(high, axis, 1))
    return low.masked_fill(low != high, _MIXED)


def _shifted(grid: torch.Tensor, axis: int, by: int) -> torch.Tensor:
    """Values of the neighbours at distance ``by`` (1 or -1) along an axis; the edge is repeated."""
    n = grid.shape[axis]
    index = (torch.arange(n, device=grid.device) + by).clamp(0, n - 1)
    return grid.index_select(axis, index)


def _hat_integral(t: np.ndarray) -> np.ndarray:
    """Integral of the linear interpolation kernel ``max(0, 1 - |t|)`` from -1 to t."""
    t = np.clip(t, -1, 1)
    return 0.5 + t - t * np.abs(t) / 2


def _three_positive(spacing: float | Sequence[float]) -> np.ndarray:
    values = np.ravel(np.asarray(spacing, dtype=np.float64))
    if values.size not in (1, 3) or not np.isfinite(values).all() or values.min() <= 0:
        raise InputError(
            f"The model spacing {spacing} is unusable; give one or three positive numbers in mm."
        )
    return np.broadcast_to(values, 3)


def _three(values: Sequence[Any]) -> tuple[Any, Any, Any]:
    first, second, third = values
    return first, second, third
