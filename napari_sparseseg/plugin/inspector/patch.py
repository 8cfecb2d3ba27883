"""The grey values of a token's patch as pictures: plain data, for the tab "Token"."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.analysis.patches import Box
from napari_sparseseg.plugin.geometry import Scan

_PLANES = {"R": "sagittal", "L": "sagittal", "A": "coronal", "P": "coronal"}  # else axial


@dataclass(frozen=True, eq=False)
class Slice:
    """A slice through the middle of a patch.

    Attributes
    ----------
    plane : str
        "axial", "coronal" or "sagittal": the nearest of them where the scan is oblique.
    grey : ndarray of uint8
        Rows and columns, in the directions of the canvas.
    pixel : tuple of float
        Height and width of a voxel in mm.
    """

    plane: str
    grey: NDArray[np.uint8]
    pixel: tuple[float, float]


def middle_slices(scan: Scan, box: Box, limits: tuple[float, float]) -> tuple[Slice, ...]:
    """Cut the three slices through the middle of a patch, across each axis of the layer.

    Parameters
    ----------
    scan : Scan
        What was segmented.
    box : tuple of slice
        The patch, along the axes of the layer.
    limits : tuple of float
        Grey values that are shown black and white.

    Returns
    -------
    tuple of Slice
        Across the first axis, the second and the third; none if the box is empty.
    """
    from nibabel.orientations import aff2axcodes

    patch = np.asarray(scan.data[box])  # of lazy voxels no others are read
    if not patch.size:
        return ()
    steps = np.linalg.norm(scan.affine[:3, :3], axis=0).tolist()
    cut = []
    for axis, direction in enumerate(aff2axcodes(scan.affine)):
        rows, columns = (steps[other] for other in range(3) if other != axis)
        middle = patch.take(patch.shape[axis] // 2, axis=axis)
        plane = _PLANES.get(direction, "axial")
        cut.append(Slice(plane, grey_of(middle, limits), (rows, columns)))
    return tuple(cut)


def grey_of(values: NDArray, limits: tuple[float, float]) -> NDArray[np.uint8]:
    """Map values linearly to 0 (black) to 255 (white); what is not a number is black."""
    low, high = limits
    share = (values.astype(np.float64) - low) / max(high - low, np.finfo(np.float64).tiny)
    return np.round(255 * np.clip(np.nan_to_num(share, nan=0.0), 0, 1)).astype(np.uint8)
