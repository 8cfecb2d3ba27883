"""Where the windows lie on the token grid, and how their answers are joined."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from napari_sparseseg.means import OVERLAP


@dataclass(frozen=True, eq=False)
class Placement:
    """One window.

    Attributes
    ----------
    origin : tuple of int
        First token of the window on the token grid; negative where it begins before the grid.
    inner : tuple of slice
        The part of the window that lies on the grid, in the window's tokens.
    outer : tuple of slice
        The same part in the grid's tokens.
    owned : ndarray of bool
        On ``outer``: the tokens whose record comes from this window.
    """

    origin: tuple[int, int, int]
    inner: tuple[slice, slice, slice]
    outer: tuple[slice, slice, slice]
    owned: NDArray[np.bool_]


def grid_lead(bright: Tensor, patch: int, least: float) -> tuple[int, int, int]:
    """Return how many voxels before the image the token grid should begin.

    A patch then begins where the tissue begins, so that the tissue spans as few tokens, and as
    few windows, as it can.

    Parameters
    ----------
    bright : Tensor
        ``(x, y, z)`` bool, True above the level of air.
    patch : int
        Edge of a patch in voxels.
    least : float
        Bright voxels that a patch must exceed to count as tissue; the tissue begins at the
        first plane with more.

    Returns
    -------
    tuple of int
        Voxels to put before the image along each axis, each below ``patch``.
    """
    leads = []
    for axis in range(3):
        others = [a for a in range(3) if a != axis]
        filled = (bright.sum(dim=others) > least).nonzero()
        leads.append(-int(filled[0, 0]) % patch if len(filled) else 0)
    return leads[0], leads[1], leads[2]


def pad_to_grid(image: Tensor, lead: tuple[int, int, int], patch: int) -> Tensor:
    """Put ``lead`` voxels of air before an image, and fill its last patches with air."""
    padding: list[int] = []
    for before, size in zip(lead, image.shape, strict=True):
        padding = [before, -(before + size) % patch, *padding]
    return F.pad(image, padding)


def place_windows(
    open_tokens: NDArray[np.bool_], window: tuple[int, int, int], overlap: float = OVERLAP
) -> list[Placement]:
    """Cover the tokens that hold tissue with windows.

    One window is centred on the tissue along every axis where it fits; along the others
    windows are spread evenly with at least ``overlap`` of their size in common. Windows
    without tissue are left out.

    Parameters
    ----------
    open_tokens : ndarray of bool
        Token grid, True where a token holds tissue.
    window : tuple of int
        Window in tokens.
    overlap : float
        Least common part of neighbouring windows, as a fraction of a window.
    """
    if not open_tokens.any():
        return []
    starts = []
    for axis, size in enumerate(window):
        others = tuple(a for a in range(3) if a != axis)
        filled = np.flatnonzero(open_tokens.any(axis=others))
        starts.append(_spread(int(filled[0]), int(filled[-1]) + 1, size, overlap))
    kept = []
    for x, y, z in product(*starts):
        origin = (x, y, z)
        inner, outer = _clip(origin, window, open_tokens.shape)
        if open_tokens[outer].any():
            kept.append((origin, inner, outer))
    owner = _owners([k[0] for k in kept], window, open_tokens.shape)
    return [Placement(o, i, u, owner[u] == n) for n, (o, i, u) in enumerate(kept)]


def _spread(first: int, stop: int, size: int, overlap: float) -> list[int]:
    length = stop - first
    if length <= size:
        return [first - (size - length) // 2]
    step = max(1, int(size * (1 - overlap)))
    count = -(-(length - size) // step) + 1
    return [first + round(i * (length - size) / (count - 1)) for i in range(count)]


def _clip(
    origin: tuple[int, ...], window: tuple[int, int, int], shape: tuple[int, ...]
) -> tuple[tuple[slice, slice, slice], tuple[slice, slice, slice]]:
    inner, outer = [], []
    for start, size, limit in zip(origin, window, shape, strict=True):
        low, high = max(0, start), min(limit, start + size)
        outer.append(slice(low, high))
        inner.append(slice(low - start, high - start))
    return (inner[0], inner[1], inner[2]), (outer[0], outer[1], outer[2])


def _owners(
    origins: list[tuple[int, ...]], window: tuple[int, int, int], shape: tuple[int, ...]
) -> NDArray[np.intp]:
    """Return for each token the window whose centre is nearest (first of equals)."""
    cells = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"))
    best = np.full(shape, np.inf)
    owner = np.full(shape, -1, dtype=np.intp)
    for number, origin in enumerate(origins):
        half = [s / 2 for s in window]
        centre = [o + h - 0.5 for o, h in zip(origin, half, strict=True)]
        away = np.max([np.abs(cells[a] - centre[a]) / half[a] for a in range(3)], axis=0)
        nearer = (away < 1) & (away < best)
        best[nearer], owner[nearer] = away[nearer], number
    return owner


def cut_window(
    image: Tensor, origin: tuple[int, int, int], window: tuple[int, int, int], patch: int
) -> Tensor:
    """Cut the voxels of a window; what lies outside the image is 0, which is air.

    Parameters
    ----------
    image : Tensor
        ``(x, y, z)``.
    origin : tuple of int
        First token.
    window : tuple of int
        Window in voxels.
    patch : int
        Edge of a patch in voxels.
    """
    padding: list[int] = []
    slices = []
    for start, size, limit in zip(origin, window, image.shape, strict=True):
        low, high = start * patch, start * patch + size
        slices.append(slice(max(0, low), min(limit, high)))
        padding = [max(0, -low), max(0, high - limit), *padding]
    return F.pad(image[tuple(slices)], padding)
