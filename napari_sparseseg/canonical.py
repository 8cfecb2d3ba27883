"""The grid that the network sees, and the exact way there and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from nibabel.orientations import io_orientation

from napari_sparseseg.errors import InputError
from napari_sparseseg.restore import MAX_CLASSES, NativeAxis, restore_labels
from napari_sparseseg.scores import PatchScores
from napari_sparseseg.volume import Volume

_BAND = 8  # outputs along an axis that are resampled at once
_TIE = 1e-3  # model voxels by which half a voxel may be missed
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
            The grid, with ``max(1, round(n * native / spacing))`` voxels along each axis. Half a
            voxel counts as none, and so does what a file's rounding makes of it: the same scan
            has the same grid in every format.

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
        shape = np.maximum(1, np.ceil(extent - 0.5 - _TIE)).astype(int)

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
        # Slowest in memory first: then the image is read once, in slabs that each lie in one piece.
        strides = data.strides if isinstance(data, np.ndarray) else data.stride()
        order = sorted(range(3), key=lambda axis: -abs(strides[axis]))
        axes = [self.native_axes.index(native_axis) for native_axis in order]
        device = torch.device("cpu") if isinstance(data, np.ndarray) else data.device
        bands = [self._bands(axis, device) for axis in axes]
        # Shrink first: the other axes then have less to do.
        shrinking = sorted(range(3), key=lambda n: -abs(self.steps[axes[n]]))
        source = data.transpose(order) if isinstance(data, np.ndarray) else data.permute(order)
        result = torch.empty(self.shape, dtype=torch.float32, device=device)
        with torch.autocast(device.type, enabled=False):
            for slab in bands[0]:
                image = _as_float(source[slab.inputs])
                whole = _Band(slice(None), slice(None), slab.weights)
                for n in shrinking:
                    image = _resampled(image, n, bands[n] if n else [whole])
                result.permute(axes)[slab.outputs] = image
        return result

    def labels_to_volume(self, scores: PatchScores, background: int = 0) -> np.ndarray:
        """Find the class of every voxel of the volume from class probabilities on the model grid.

        The result is that of trilinear interpolation of all probabilities (the edge is continued
        outwards) followed by the argmax, without ever holding the probabilities of all voxels.

        Parameters
        ----------
        scores : PatchScores
            Class probabilities of the open patches, on any device; the token grid holds the
            model grid.
        background : int
            Class that has probability 1 in closed patches.

        Returns
        -------
        numpy.ndarray
            Class of each voxel of the volume, shape (I, J, K), uint8; ties go to the lowest class.

        Raises
        ------
        ValueError
            When the token grid does not hold the model grid, or the classes are too many.
        """
        covered = [
            rows * scores.patch - lead
            for rows, lead in zip(scores.rows.shape, scores.lead, strict=True)
        ]
        if any(have < need for have, need in zip(covered, self.shape, strict=True)):
            raise ValueError(f"expected shape {self.shape} or more, got {tuple(covered)}")
        if not 1 <= scores.values.shape[2] <= MAX_CLASSES:
            raise ValueError(f"expected 1 to {MAX_CLASSES} classes, got {scores.values.shape[2]}")
        return restore_labels(scores, self.volume_axes(), background)

    def volume_axes(self) -> list[NativeAxis]:
        """Return where the voxels along each axis of the volume lie on the model grid."""
        return [self._native_axis(int(axis)) for axis in np.argsort(self.native_axes)]

    def _bands(self, axis: int, device: torch.device) -> list[_Band]:
        """Resampling weights along R, A or S, cut to what some neighbouring outputs need."""
        weights = self._weights(axis)
        bands = []
        for start in range(0, self.shape[axis], _BAND):
            outputs = slice(start, min(start + _BAND, self.shape[axis]))
            used = np.flatnonzero(weights[:, outputs].any(axis=1))
            inputs = slice(int(used[0]), int(used[-1]) + 1)
            part = torch.from_numpy(weights[inputs, outputs]).to(device)
            bands.append(_Band(inputs, outputs, part))
        return bands

    def _weights(self, axis: int) -> np.ndarray:
        """Weights of the native in the model voxels along R, A or S: (n, m), columns sum to 1."""
        n, m, step = self.native_shape[self.native_axes[axis]], self.shape[axis], self.steps[axis]
        position = step * (np.arange(m) - (m - 1) / 2) + (n - 1) / 2  # in native voxels
        distance = np.arange(n)[:, None] - position
        width = abs(step) - 1
        if width < _TINY:
            weights = np.maximum(1 - np.abs(distance), 0)
        else:
            weights = _hat_integral(distance + width / 2) - _hat_integral(distance - width / 2)
        return (weights / weights.sum(0)).astype(np.float32)

    def _native_axis(self, axis: int) -> NativeAxis:
        """Where the voxels of the volume lie along R, A or S, in model voxels."""
        n, m = self.native_shape[self.native_axes[axis]], self.shape[axis]
        positions = (np.arange(n) - (n - 1) / 2) / self.steps[axis] + (m - 1) / 2
        return NativeAxis(axis, m, positions)


class _Band(NamedTuple):
    """Neighbouring outputs along one axis, and all inputs that have weight in them."""

    inputs: slice
    outputs: slice
    weights: torch.Tensor  # (inputs, outputs)


def _as_float(slab: torch.Tensor | np.ndarray) -> torch.Tensor:
    if isinstance(slab, np.ndarray):
        # A plain copy: torch takes no foreign byte order, negative stride, read-only memory.
        slab = torch.from_numpy(np.array(slab, dtype=np.float32, order="C"))
    return slab.to(torch.float32)


def _resampled(image: torch.Tensor, axis: int, bands: Sequence[_Band]) -> torch.Tensor:
    """Resample one axis of a 3D image."""
    parts = []
    for band in bands:
        piece = image[(slice(None),) * axis + (band.inputs,)]
        if axis == 0:
            part = (band.weights.T @ piece.flatten(1)).unflatten(1, piece.shape[1:])
        elif axis == 1:
            part = torch.bmm(band.weights.T.expand(len(piece), -1, -1), piece)
        else:
            part = piece @ band.weights
        parts.append(part)
    return torch.cat(parts, axis)


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
