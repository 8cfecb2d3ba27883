"""How well labels agree with the truth, and what a run cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from benchmarks.quality.cases import Case
from napari_sparseseg.session import Segmentation

Json = dict[str, Any]
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
    return [
        _rounded(compute_dice(mine, theirs)) if theirs.any() else None
        for mine, theirs in _masks(predicted, truth, classes)
    ]


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
    return [
        _rounded(
            compute_hausdorff_distance(
                mine, theirs, include_background=True, percentile=_PERCENTILE, spacing=[*spacing]
            )
        )
        if mine.any() and theirs.any()
        else None
        for mine, theirs in _masks(predicted, truth, classes)
    ]


def row_of(case: Case, answer: Segmentation) -> Json:
    """Return what one run on one scan gave, JSON-ready.

    Parameters
    ----------
    case : Case
        The scan with its true classes.
    answer : Segmentation
        The observed run.
    """
    labels, classes = answer.labels.data, len(answer.classes)
    trace = answer.trace
    return {
        "case": case.name,
        "dice": dice_per_class(labels, case.truth, classes),
        "hd95": hd95_per_class(labels, case.truth, classes, case.volume.spacing),
        "tokens": answer.report["tokens"],
        "block_share": round(float(trace.ran[:, ~trace.air].mean()), 4),
        "gmacs": answer.report["gmacs"],
    }


def kept_share(tokens: dict[str, int]) -> float:
    """Return the share of the tokens with tissue that ran every block."""
    return tokens["kept"] / max(1, tokens["total"] - tokens["air"])


def mean_dice(rows: Sequence[Json]) -> float:
    """Return the mean over scans of the mean Dice of the classes that the truth holds."""
    scans = [np.nanmean(np.array(row["dice"], dtype=np.float64)) for row in rows]
    return float(np.mean(scans))


def _masks(predicted: Labels, truth: Labels, classes: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Give for each foreground class both masks, cut to the box around them.

    Neither Dice nor the distances change by what is cut off, and a structure is far smaller than
    a scan.

    Yields
    ------
    Tensor, Tensor
        ``(1, 1, x, y, z)`` bool.
    """
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
