"""The volume: voxels, their place in the patient, and the checks that a scan must pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import asin, prod
from typing import Any

import numpy as np

from napari_sparseseg.errors import InputError

MIN_SPACING = 0.05
"""Smallest believable voxel spacing (mm); less means that the header holds another unit."""

MAX_SPACING = 50.0
"""Largest believable voxel spacing (mm)."""

MAX_VOXELS = 2**31
"""Largest number of voxels that is accepted."""

MAX_EXTENT = 3000.0
"""Largest believable side of the field of view (mm)."""

MAX_FIELD = 2e9
"""Largest believable field of view (mm^3); it bounds the size of every resampled grid."""

MAX_SHEAR = 1e-2
"""Largest deviation (rad) of the angle between two voxel axes from a right angle."""

_FLOAT32_MAX = np.finfo(np.float32).max
_SLAB = 1 << 20  # voxels that are looked at together, so that a check needs no second volume


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels, where they lie in the patient, and a name to show.

    Parameters
    ----------
    data : numpy.ndarray
        Voxel values, shape (I, J, K), any real dtype. The axes are those of ``affine``.
    affine : numpy.ndarray
        Matrix (4, 4), float64: voxel index (i, j, k, 1) to millimetres right, anterior, superior.
    name : str
        Name for layers and messages.
    notes : tuple of str
        What a user should know about how the volume was read, one sentence each.
    part : str
        Key of the series or frame that was read, "" where there was one only.
    """

    data: np.ndarray
    affine: np.ndarray
    name: str = "volume"
    notes: tuple[str, ...] = ()
    part: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", np.asarray(self.data))
        object.__setattr__(self, "affine", np.asarray(self.affine, dtype=np.float64))
        object.__setattr__(self, "notes", tuple(self.notes))

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of voxels along each array axis."""
        return tuple(self.data.shape)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between neighbouring voxels along each array axis (mm)."""
        return spacing_of(self.affine)

    @property
    def orientation(self) -> str:
        """Directions of growing index, one letter an axis, for example ``"LIA"``."""
        from nibabel.orientations import aff2axcodes

        return "".join(code or "?" for code in aff2axcodes(self.affine))

    def validated(self) -> Volume:
        """Check that the volume can be segmented.

        Returns
        -------
        Volume
            This volume; or, when some voxels are not finite (or beyond float32), a copy where
            those hold the smallest finite value and a note says how many they are.

        Raises
        ------
        InputError
            When the data are not a filled 3-D array of real numbers of a workable size, when
            all voxels hold the same value or none is finite, or when the affine is not that of
            a rectangular grid with a believable spacing.
        """
        _check_array(self)
        _check_affine(self)
        _check_field(self)
        return _check_values(self)


def spacing_of(affine: np.ndarray) -> tuple[float, ...]:
    """Return the distance between neighbouring voxels along each array axis (mm)."""
    with np.errstate(over="ignore"):  # infinity is no believable spacing either
        return tuple(float(step) for step in np.linalg.norm(affine[:3, :3], axis=0))


def check_shape(shape: tuple[int, ...], name: str) -> None:
    """Check the shape of a volume before its voxels are read.

    Parameters
    ----------
    shape : tuple of int
        Number of voxels along each array axis.
    name : str
        Name for the message.

    Raises
    ------
    InputError
        When the shape is not that of one filled 3-D frame of a workable size.
    """
    if len(shape) != 3:
        raise InputError(
            f"{name} has {len(shape)} dimensions; choose a single 3-D scan "
            "(not a slice, a time series or a colour image)."
        )
    size = " x ".join(str(n) for n in shape)
    if min(shape) < 1:
        raise InputError(f"{name} is empty ({size} voxels); choose another scan.")
    if prod(shape) > MAX_VOXELS:
        raise InputError(f"{name} is too large ({size} voxels); crop or downsample it first.")


def _check_array(volume: Volume) -> None:
    kind = volume.data.dtype.kind
    if kind == "c" or volume.data.dtype.names:
        raise InputError(
            f"{volume.name} holds complex or colour values; choose a scan with one real number "
            "per voxel."
        )
    if kind not in "biuf":
        raise InputError(
            f"{volume.name} does not hold numbers ({volume.data.dtype}); choose a scan with one "
            "real number per voxel."
        )
    check_shape(volume.shape, volume.name)


def _check_affine(volume: Volume) -> None:
    affine = volume.affine
    if (
        affine.shape != (4, 4)
        or not np.isfinite(affine).all()
        or not np.allclose(affine[3], (0, 0, 0, 1))
    ):
        raise InputError(
            f"{volume.name} has no valid affine (4 x 4, finite, last row 0 0 0 1); correct its "
            "header or export it again."
        )
    spacing = volume.spacing
    if min(spacing) < MIN_SPACING or max(spacing) > MAX_SPACING:
        raise InputError(
            f"{volume.name} has a voxel spacing of {_times(spacing)} mm, outside {MIN_SPACING:g} "
            f"to {MAX_SPACING:g} mm; correct the spacing in its header."
        )
    unit = affine[:3, :3] / spacing
    lean = np.abs(unit.T @ unit - np.eye(3)).max()
    if asin(min(lean, 1.0)) > MAX_SHEAR:
        raise InputError(
            f"{volume.name} has voxel axes that are not at right angles (a sheared grid); "
            "resample it to a rectangular grid first."
        )


def _check_field(volume: Volume) -> None:
    extent = [n * step for n, step in zip(volume.shape, volume.spacing, strict=True)]
    if max(extent) > MAX_EXTENT or prod(extent) > MAX_FIELD:
        raise InputError(
            f"{volume.name} covers {_times(extent)} mm, more than a patient; correct the spacing "
            "in its header."
        )


def _check_values(volume: Volume) -> Volume:
    low, high, useless = _range(volume.data)
    if low > high:
        raise InputError(f"{volume.name} holds no finite value; choose another scan.")
    if low == high:
        raise InputError(
            f"{volume.name} holds the same value in every voxel; choose a scan with contrast."
        )
    if not useless:
        return volume
    data = np.array(volume.data, order="K")
    for slab in _slabs(data):
        slab[~_usable(slab)] = low
    return replace(volume, data=data, notes=(*volume.notes, _replaced(useless)))


def _range(data: np.ndarray) -> tuple[Any, Any, int]:
    """Return the smallest and the largest usable value and the number of useless voxels."""
    low, high, useless = np.inf, -np.inf, 0
    for slab in _slabs(data):
        usable = _usable(slab)
        count = int(np.count_nonzero(usable))
        useless += usable.size - count
        if count:
            values = slab if count == usable.size else slab[usable]
            low, high = min(low, values.min()), max(high, values.max())
    return low, high, useless


def _slabs(data: np.ndarray) -> Iterator[np.ndarray]:
    """Cut along the axis that varies slowest in memory, into views of about `_SLAB` voxels."""
    data = np.moveaxis(data, int(np.argmax(np.abs(data.strides))), 0)
    thickness = max(1, _SLAB * len(data) // data.size)
    for start in range(0, len(data), thickness):
        yield data[start : start + thickness]


def _usable(slab: np.ndarray) -> np.ndarray:
    if slab.dtype.kind != "f":
        return np.broadcast_to(True, slab.shape)
    # The network computes in float32: what that cannot hold is as useless as infinity.
    return (slab >= -_FLOAT32_MAX) & (slab <= _FLOAT32_MAX)


def _replaced(count: int) -> str:
    voxels = "1 voxel was" if count == 1 else f"{count} voxels were"
    return f"{voxels} not finite; the smallest finite value stands there instead."


def _times(values: tuple[float, ...] | list[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
