"""Which tokens to look at one after the other: plain data, for the keys of the tab "Token"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.analysis.compare import SAME, Comparison
from napari_sparseseg.analysis.patches import TokenIndex
from napari_sparseseg.tokens import TokenTrace

if TYPE_CHECKING:
    from napari_sparseseg.session import Segmentation


class Round:
    """Tokens to look at in turn, from the worst to the least, and then again.

    Attributes
    ----------
    tokens : tuple of int
        Places in the flattened token grid.
    number : int
        How far the round has come: 1 for the first token, 0 before it.

    Parameters
    ----------
    tokens : sequence of int
        Likewise.
    """

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = tuple(tokens)
        self.number = 0

    def next(self) -> int:
        """Go on to the next token; after the last one to the first."""
        self.number = self.number % len(self.tokens) + 1
        return self.tokens[self.number - 1]


def pruned_in_structures(result: Segmentation, index: TokenIndex) -> tuple[int, ...]:
    """List the tokens that did not run every block and whose patch holds a structure.

    Those that hold the largest part of the volume of any structure come first.

    Parameters
    ----------
    result : Segmentation
        The observed run.
    index : TokenIndex
        Its tokens on the scan.
    """
    held = _largest_part(result, index).ravel()
    wanted = np.flatnonzero(left_out(result.trace).ravel() & (held > 0))
    return _sorted(wanted, -held[wanted])


def least_confident(result: Segmentation, index: TokenIndex) -> tuple[int, ...]:
    """List the tokens that exited, the least confident first.

    For a method without exits: the tokens that did not run every block and whose patch holds a
    structure. Tokens of unknown confidence are left out. Parameters as for
    :func:`pruned_in_structures`.
    """
    trace, confidence = result.trace, result.trace.confidence.ravel()
    wanted = left_out(trace).ravel() & np.isfinite(confidence)
    if trace.fate != "exited":
        wanted &= index.count(result.labels.data > 0).ravel() > 0
    tokens = np.flatnonzero(wanted)
    return _sorted(tokens, confidence[tokens])


def disagreeing(comparison: Comparison, index: TokenIndex) -> tuple[int, ...]:
    """List the tokens with voxels that differ, those with most of them first.

    Parameters
    ----------
    comparison : Comparison
        Of the result with something else.
    index : TokenIndex
        Tokens of the result on the scan.
    """
    voxels = index.count(comparison.difference != SAME).ravel()
    tokens = np.flatnonzero(voxels)
    return _sorted(tokens, -voxels[tokens])


def left_out(trace: TokenTrace) -> NDArray[np.bool_]:
    """``grid.shape``; True where a token is not air and did not run every block."""
    return ~trace.kept & ~trace.air


def _sorted(tokens: NDArray[np.intp], badness: NDArray) -> tuple[int, ...]:
    """Sort by what is least; of equals the first in the token grid comes first."""
    return tuple(tokens[np.argsort(badness, kind="stable")].tolist())


def _largest_part(result: Segmentation, index: TokenIndex) -> NDArray[np.float64]:
    """``grid.shape``; the largest part of the volume of any structure that a token holds."""
    from scipy import ndimage

    labels, largest = result.labels.data, np.zeros(result.trace.grid.shape)
    boxes = ndimage.find_objects(labels, max_label=len(result.classes) - 1)
    for number, box in enumerate(boxes, start=1):
        if box is not None:
            counts = index.count(labels[box] == number, box)
            np.maximum(largest, counts / counts.sum(), out=largest)
    return largest
