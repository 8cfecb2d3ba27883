"""How well two label maps agree, class by class."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Labels = NDArray[np.integer]

_PERCENTILE = 95
_MARGIN = 1  # an edge voxel is told by its neighbours


def dice_per_class(predicted: Labels, truth: Labels, classes: int) -> list[float | None]:
    """Return the Dice of each foreground class; None where the truth lacks it.

    Parameters
    ----------
    predicted, truth : ndarray of int
        Class maps of one shape.
    classes : int
        Number of classes, background included.
    """
    return [dice(*masks) for masks in class_masks(predicted, truth, classes)]


def hd95_per_class(
    predicted: Labels, truth: Labels, classes: int, spacing: Sequence[float]
) -> list[float | None]:
    """Return the 95th percentile of the surface distances of each foreground class.

    The larger of both directions, in mm; None where the truth or the prediction lacks the class.

    Parameters
    ----------
    predicted, truth : ndarray of int
        Class maps of one shape.
    classes : int
        Number of classes, background included.
    spacing : sequence of float
        Edges of a voxel in mm, along the axes of the maps.
    """
    return [hd95(*masks, spacing) for masks in class_masks(predicted, truth, classes)]


def dice(predicted: Tensor, truth: Tensor) -> float | None:
    """Return the Dice of one class by its masks from :func:`class_masks`; see there."""
    from monai.metrics import compute_dice

    return _rounded(compute_dice(predicted, truth)) if truth.any() else None


def hd95(predicted: Tensor, truth: Tensor, spacing: Sequence[float]) -> float | None:
    """Return the HD95 of one class by its masks from :func:`class_masks`; see there."""
    from monai.metrics import compute_hausdorff_distance

    if not (predicted.any() and truth.any()):
        return None
    # MONAI warns of an argument that it gives itself, and napari shows warnings to the user
    warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
    return _rounded(
        compute_hausdorff_distance(
            predicted, truth, include_background=True, percentile=_PERCENTILE, spacing=[*spacing]
        )
    )


def class_masks(predicted: Labels, truth: Labels, classes: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Give for each foreground class both masks, cut to the box around them.

    Neither Dice nor the distances change by what is cut off, and a structure is far smaller than
    a scan.

    Yields
    ------
    Tensor, Tensor
        ``(1, 1, x, y, z)`` bool.
    """
    import torch
    from scipy import ndimage

    maps = [np.ascontiguousarray(m) for m in (predicted, truth)]
    boxes = [ndimage.find_objects(m, max_label=classes - 1) for m in maps]
    for index, pair in enumerate(zip(*boxes, strict=True), start=1):
        box = _around([b for b in pair if b is not None])
        mine, theirs = (torch.from_numpy(m[box] == index)[None, None] for m in maps)
        yield mine, theirs


def _around(boxes: Sequence[tuple[slice, ...]]) -> tuple[slice, ...]:
    """Return the box around boxes with a margin; an empty one around none."""
    if not boxes:
        return (slice(0, 0),) * 3
    return tuple(
        slice(max(0, min(s.start for s in axis) - _MARGIN), max(s.stop for s in axis) + _MARGIN)
        for axis in zip(*boxes, strict=True)
    )


def _rounded(value: Tensor) -> float:
    return round(float(value[0, 0]), 5)
