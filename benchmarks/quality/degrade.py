"""How scans are spoilt to see what a model bears: noise, bias, thick slices, shifted units.

Every function takes a volume and returns a new one; what is drawn comes from a seed. Voxels of an
MR scan that are exactly 0 were masked out by whoever published it, and stay 0.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray
from scipy import ndimage

from napari_sparseseg.errors import InputError
from napari_sparseseg.volume import Volume

SOFT_TISSUE = (0.0, 80.0)
"""Hounsfield units between which a voxel of CT counts as soft tissue."""

_TISSUE = 0.1  # of the brightest tissue: darker voxels of MR are air
_KNOTS = 4  # of a bias field along each axis
_CUBE = 3  # edge in voxels of the neighbourhoods in which noise is measured


def brightest_tissue(data: NDArray[np.floating]) -> float:
    """Return the intensity of the brightest tissue of an MR scan.

    The 99.5th percentile of the voxels above 5 % of the overall 99.9th, so that few voxels of
    vessels or artefacts do not set the scale.

    Parameters
    ----------
    data : ndarray
        Voxels of the scan, 0 in air.
    """
    bright = data[data > 0.05 * np.quantile(data, 0.999)]
    return float(np.quantile(bright, 0.995))


def with_rician_noise(volume: Volume, share: float, seed: int) -> Volume:
    """Return an MR scan with noise in both channels of its complex signal.

    Parameters
    ----------
    volume : Volume
        A magnitude image.
    share : float
        Standard deviation of each channel over the brightest tissue.
    seed : int
        Seed of the noise.

    Returns
    -------
    Volume
        ``sqrt((x + a)^2 + b^2)`` in every voxel x above 0, with a and b drawn.
    """
    data = volume.data.astype(np.float32)
    sigma = share * brightest_tissue(data)
    real, imaginary = np.random.default_rng(seed).normal(0, sigma, (2, *data.shape))
    noisy = np.hypot(data + real, imaginary).astype(np.float32)
    return replace(volume, data=np.where(data > 0, noisy, data))


def with_bias(volume: Volume, peak_to_peak: float, seed: int) -> Volume:
    """Return an MR scan times a smooth field.

    Parameters
    ----------
    volume : Volume
        The scan.
    peak_to_peak : float
        Difference of the largest and the smallest factor over the tissue; they lie evenly
        around 1.
    seed : int
        Seed of the field.
    """
    data = volume.data.astype(np.float32)
    knots = np.random.default_rng(seed).normal(size=(_KNOTS,) * 3)
    field = _stretched(knots, data.shape)
    inside = field[data > _TISSUE * brightest_tissue(data)]
    low, high = float(inside.min()), float(inside.max())
    factor = 1 + peak_to_peak * ((field - low) / (high - low) - 0.5)
    # where the field goes on beyond the tissue it must not turn negative
    return replace(volume, data=(data * np.maximum(factor, 0)).astype(np.float32))


def _stretched(knots: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Interpolate by cubic splines, the outer knots on the outer voxels."""
    positions = [np.linspace(0, k - 1, n) for k, n in zip(knots.shape, shape, strict=True)]
    return ndimage.map_coordinates(knots, np.meshgrid(*positions, indexing="ij"), order=3)


def in_thick_slices(volume: Volume, thickness: float) -> Volume:
    """Return a scan in slices across the axis that runs most nearly from foot to head.

    A slice is the mean of what it covers, each voxel by the share of it that lies within; the
    first begins where the volume begins. The last is the mean of as much as is left.

    Parameters
    ----------
    volume : Volume
        The scan.
    thickness : float
        Of a slice, in mm; no less than a voxel.

    Raises
    ------
    InputError
        If a slice would be thinner than a voxel.
    """
    axis = int(np.flatnonzero(io_orientation(volume.affine)[:, 0] == 2)[0])
    size, spacing = volume.shape[axis], volume.spacing[axis]
    step = thickness / spacing  # in voxels
    if step < 1:
        raise InputError(
            f"Slices of {thickness:g} mm are thinner than the voxels ({spacing:g} mm); "
            "choose thicker ones."
        )
    slices = int(np.ceil(size / step - 1e-6))
    begins = step * np.arange(slices)[:, None]
    voxels = np.arange(size)
    within = np.minimum(voxels + 1, begins + step) - np.maximum(voxels, begins)
    weights = np.maximum(within, 0)
    weights /= weights.sum(axis=1, keepdims=True)
    means = np.moveaxis(np.tensordot(weights, volume.data, (1, axis)), 0, axis)
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, axis] * (step - 1) / 2  # from a voxel's to a slice's middle
    affine[:3, axis] *= step
    return replace(volume, data=means.astype(np.float32), affine=affine)


def on_grid_of(labels: Volume, volume: Volume) -> NDArray[np.integer]:
    """Return the label nearest in millimetres to each voxel of another volume.

    Between grids whose axes agree this is exact: a label map is brought onto the grid of the
    truth, not the truth onto a coarser one, so that the truth is compared as it was drawn.

    Parameters
    ----------
    labels : Volume
        Class indices.
    volume : Volume
        Gives the grid.
    """
    way = np.linalg.inv(labels.affine) @ volume.affine
    return ndimage.affine_transform(
        labels.data, way[:3, :3], way[:3, 3], volume.shape, order=0, mode="nearest"
    )


def soft_tissue_noise(volume: Volume) -> float:
    """Return the noise of a CT in Hounsfield units.

    The median standard deviation within the cubes of 3 x 3 x 3 voxels that hold soft tissue
    only (0 to 80 HU). What little structure they hold counts too, so the noise is rather less.

    Parameters
    ----------
    volume : Volume
        A CT in Hounsfield units.

    Raises
    ------
    InputError
        If no such cube is there.
    """
    data = volume.data.astype(np.float64)
    soft = (data >= SOFT_TISSUE[0]) & (data <= SOFT_TISSUE[1])
    whole = ndimage.binary_erosion(soft, np.ones((_CUBE,) * 3))
    if not whole.any():
        raise InputError(f"{volume.name} shows no soft tissue; is it a CT in Hounsfield units?")
    mean = ndimage.uniform_filter(data, _CUBE)[whole]
    square = ndimage.uniform_filter(data**2, _CUBE)[whole]
    voxels = _CUBE**3
    variance = np.maximum(square - mean**2, 0) * voxels / (voxels - 1)
    return float(np.sqrt(np.median(variance)))


def with_noise_of_dose(volume: Volume, dose: float, seed: int) -> Volume:
    """Return a CT as noisy as at a share of its dose.

    The variance of the noise goes with one over the dose. At a share d it is ``1 / d`` times
    the variance of the scan's own noise, so ``1 / d - 1`` times it is added: at half the dose
    as much noise again as there is (:func:`soft_tissue_noise`). It is independent from voxel to
    voxel, as in scans that were sampled at several millimetres.

    Parameters
    ----------
    volume : Volume
        A CT in Hounsfield units.
    dose : float
        In (0, 1].
    seed : int
        Seed of the noise.
    """
    sigma = soft_tissue_noise(volume) * np.sqrt(1 / dose - 1)
    noise = np.random.default_rng(seed).normal(0, sigma, volume.shape)
    return replace(volume, data=(volume.data + noise).astype(np.float32))


def shifted(volume: Volume, units: float) -> Volume:
    """Return a CT whose calibration is off.

    Parameters
    ----------
    volume : Volume
        A CT in Hounsfield units.
    units : float
        Hounsfield units that are added to every voxel.
    """
    return replace(volume, data=volume.data.astype(np.float32) + np.float32(units))
