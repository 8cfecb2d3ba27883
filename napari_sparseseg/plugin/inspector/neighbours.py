"""What became of the tokens around a token: plain data, for the tab "Token"."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.fates import fate_map, fate_names
from napari_sparseseg.plugin.token_placement import TokenPlacement
from napari_sparseseg.tokens import TokenTrace

OUTSIDE = -1
"""In place of a fate where the token grid has ended."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The tokens around a token.

    Attributes
    ----------
    counts : dict of int
        How many of its up to 26 neighbours met each fate, in the words and the order of
        :func:`fates.fate_names`; only fates that occur.
    plane : ndarray of int
        ``(3, 3)`` fates, the values of :func:`fates.fate_map`, in the slice of the token as the
        canvas shows it (rows, columns); :data:`OUTSIDE` past the end of the token grid.
    """

    counts: dict[str, int]
    plane: NDArray[np.int16]


def neighbours(
    trace: TokenTrace, token: int, placement: TokenPlacement, order: tuple[int, ...] = (0, 1, 2)
) -> Neighbours:
    """Look at the tokens around a token.

    Parameters
    ----------
    trace : TokenTrace
        The trace.
    token : int
        Place in the flattened token grid.
    placement : TokenPlacement
        How the tokens lie on the image layer.
    order : tuple of int
        Axes of the layer in the order of the canvas: across the slice, its rows, its columns.
    """
    around = _around(fate_map(trace), np.unravel_index(token, trace.grid.shape))
    others = np.delete(around.ravel(), around.size // 2)
    counts = np.bincount(others[others != OUTSIDE], minlength=len(fate_names(trace))).tolist()
    names = fate_names(trace).items()
    return Neighbours(
        {name: counts[fate] for fate, name in names if counts[fate]},
        placement.arrange(around).transpose(order)[1],
    )


def _around(fates: NDArray[np.uint8], place: tuple[np.intp, ...]) -> NDArray[np.int16]:
    """Cut the ``(3, 3, 3)`` tokens around a place."""
    padded = np.pad(fates.astype(np.int16), 1, constant_values=OUTSIDE)
    return padded[tuple(slice(at, at + 3) for at in place)]
