"""From class probabilities on the model grid to the class of every voxel of the volume.

The words of this module: a *cell* is the cube between 2x2x2 neighbouring model voxels. The grid is
continued by one voxel beyond each edge, so that every voxel of the volume lies in one cell. A cell
is *uniform* where its corners have the same best class, which then is the class of all voxels in
it; the others are *mixed*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_sparseseg.scores import PatchScores

MAX_CLASSES = 256
"""What a uint8 holds."""

_SURE = 0.7
"""Two classes that hold more than 2/3 at all corners beat every third one within the cell: it has
at most 1 - s < s / 2, and one of the two at least s / 2, where s is the least sum of the two. The
rest is room for the rounding of 16 bit probabilities."""

_CHUNK = 1 << 18
"""Interpolated values at once; they stay in the processor's cache."""


@dataclass(frozen=True, eq=False)
class NativeAxis:
    """How the voxels along one axis of the volume lie on the model grid.

    Parameters
    ----------
    model_axis : int
        The model axis along it.
    size : int
        Number of model voxels.
    positions : numpy.ndarray
        Of each voxel along the axis, shape (n,), in model voxels: rising or falling, in
        (-1, size).
    """

    model_axis: int
    size: int
    positions: np.ndarray


@torch.no_grad()
def restore_labels(
    scores: PatchScores, axes: Sequence[NativeAxis], background: int = 0
) -> np.ndarray:
    """Interpolate all class probabilities at every voxel of the volume and take the highest.

    Only the box around the open patches is looked at, and interpolated only in its mixed cells:
    between two classes where no third can win, else all of them.

    Parameters
    ----------
    scores : PatchScores
        Probabilities on the model grid, on any device.
    axes : sequence of 3 NativeAxis
        In the order of the volume's axes.
    background : int
        Class that has probability 1 in closed patches.

    Returns
    -------
    numpy.ndarray
        Class of each voxel of the volume, uint8; ties go to the lowest class.
    """
    labels = _filled([len(axis.positions) for axis in axes], background, scores.values.device)
    box = _open_box(scores, axes)
    if box:
        sides = [_Side.of(axis, box[axis.model_axis], scores) for axis in axes]
        best = _best_classes(scores, background)
        low, high = _range_of_cells(_laid_out(best, scores, axes, sides))
        _expand(low, sides, labels)
        _interpolate_mixed(low, high, _Corners(scores, background, sides), sides, labels)
    return labels.cpu().numpy()


@dataclass(frozen=True, eq=False)
class _Side:
    """One edge of the box, along an axis of the volume: b model voxels and b - 1 cells.

    Both are counted in the direction of the volume's axis. Cells hold up to K voxels of the
    volume; where one holds fewer, its last is repeated, which needs no mask and changes nothing.
    """

    model: np.ndarray  # (b,) model voxels, counted on the token grid
    bounds: list[int]  # (b,) first voxel of each cell, and the end
    cells: Tensor  # (bounds[-1] - bounds[0],) cell of each voxel
    filled: Tensor  # (b - 1,) bool: the cell holds a voxel
    voxels: Tensor  # (K, b - 1) voxels of each cell
    weights: Tensor  # (K, b - 1) share of the upper corner at each, float32
    rows: Tensor  # (b,) what the model voxel adds to the index of its patch in the token grid
    offsets: Tensor  # (b,) and to the index of the voxel in its patch

    @classmethod
    def of(cls, axis: NativeAxis, model: range, scores: PatchScores) -> _Side:
        """Take the cells that touch some model voxels of the image."""
        last, positions, start, stop = axis.size - 1, axis.positions, model.start - 1, model.stop
        falling = positions[0] > positions[-1]
        if falling:
            positions, start, stop = last - positions, last - stop, last - start
        lower = np.arange(start, stop + 1)
        bounds = np.searchsorted(np.floor(positions), lower)
        counts = np.diff(bounds)
        voxels = np.minimum(bounds[:-1] + np.arange(counts.max())[:, None], bounds[1:] - 1)
        on_grid = lower.clip(0, last)
        on_grid = (last - on_grid if falling else on_grid) + scores.lead[axis.model_axis]
        tensors = (
            np.repeat(np.arange(len(counts)), counts),
            counts > 0,
            voxels,
            (positions[voxels] - lower[:-1]).astype(np.float32),
            on_grid // scores.patch * int(np.prod(scores.rows.shape[axis.model_axis + 1 :])),
            on_grid % scores.patch * scores.patch ** (2 - axis.model_axis),
        )
        device = scores.values.device
        return cls(on_grid, bounds.tolist(), *(torch.from_numpy(t).to(device) for t in tensors))


class _Corners:
    """What the scores say at the eight corners of N cells, as tensors (..., 2, 2, 2, N)."""

    def __init__(self, scores: PatchScores, background: int, sides: Sequence[_Side]) -> None:
        patches, self._voxels, self.classes = scores.values.shape
        self._values = scores.values.view(-1, self.classes)
        self._rows = scores.rows.flatten() * self._voxels
        self._sides = sides
        certain = torch.arange(self.classes, device=scores.values.device) == background
        self._background = certain.float()

    def addresses(self, cells: Sequence[Tensor]) -> Tensor:
        """Row in the table of all open voxels; below 0 where a patch is closed.

        The cells are given by one index (N,) per axis of the volume.
        """
        pairs = [torch.stack([cell, cell + 1]) for cell in cells]
        row = _crossed(torch.add, [_at(s.rows, i) for s, i in zip(self._sides, pairs, strict=True)])
        offset = _crossed(
            torch.add, [_at(s.offsets, i) for s, i in zip(self._sides, pairs, strict=True)]
        )
        return _at(self._rows, row) + offset

    def of_class(self, addresses: Tensor, chosen: Tensor) -> Tensor:
        """Probability of one class (N,) per cell, float32."""
        known = addresses.clamp_min(0)
        values = _at(self._values.view(-1), known * self.classes + chosen).float()
        return torch.where(addresses == known, values, _at(self._background, chosen))

    def of_all(self, addresses: Tensor) -> Tensor:
        """Probabilities of all classes, (classes, 2, 2, 2, N), float32."""
        known = addresses.clamp_min(0)
        values = _at(self._values, known).float()
        values = torch.where((addresses == known)[..., None], values, self._background)
        return values.movedim(-1, 0).contiguous()


def _interpolate_mixed(
    low: Tensor, high: Tensor, corners: _Corners, sides: Sequence[_Side], labels: Tensor
) -> None:
    """Write the classes of the voxels in mixed cells.

    Each is first taken to be between the lowest and the highest of the best classes at its
    corners; where a third class may win, all classes are then compared.
    """
    mixed = (low != high) & _crossed(torch.logical_and, [side.filled for side in sides])
    values = max(8, int(np.prod([len(side.voxels) for side in sides])))  # corners or voxels
    unsure = []
    for chunk in mixed.nonzero().split(max(1, _CHUNK // values)):
        cells = chunk.unbind(1)
        lower, upper = low[cells], high[cells]
        addresses = corners.addresses(cells)
        p = corners.of_class(addresses, lower.long())
        q = corners.of_class(addresses, upper.long())
        _write(
            torch.where(_interpolate(p - q, cells, sides) >= 0, lower, upper), cells, sides, labels
        )
        unsure.append(chunk[(p + q).flatten(0, 2).amin(0) < _SURE])
    for chunk in torch.cat(unsure).split(max(1, _CHUNK // (values * corners.classes))):
        cells = chunk.unbind(1)
        fields = _interpolate(corners.of_all(corners.addresses(cells)), cells, sides)
        _write(fields.max(0).indices.to(torch.uint8), cells, sides, labels)


def _interpolate(values: Tensor, cells: Sequence[Tensor], sides: Sequence[_Side]) -> Tensor:
    """Interpolate from the corners (..., 2, 2, 2, N) to the voxels (..., K, K, K, N) of N cells."""
    for axis, (side, cell) in enumerate(zip(sides, cells, strict=True)):
        share = side.weights.index_select(1, cell).unflatten(0, (-1,) + (1,) * (2 - axis))
        lower, upper = values.unbind(axis - 4)
        values = torch.lerp(lower.unsqueeze(axis - 4), upper.unsqueeze(axis - 4), share)
    return values


def _write(
    classes: Tensor, cells: Sequence[Tensor], sides: Sequence[_Side], labels: Tensor
) -> None:
    """Write the classes (K, K, K, N) of the voxels of N cells."""
    steps = [
        side.voxels.index_select(1, cell) * stride
        for side, cell, stride in zip(sides, cells, labels.stride(), strict=True)
    ]
    labels.view(-1).scatter_(0, _crossed(torch.add, steps).flatten(), classes.flatten())


def _expand(classes: Tensor, sides: Sequence[_Side], labels: Tensor) -> None:
    """Give all voxels of each cell its class."""
    inside = tuple(slice(side.bounds[0], side.bounds[-1]) for side in sides)
    box = labels[inside]
    starts = [bound - inside[0].start for bound in sides[0].bounds]
    for plane, start, stop in zip(classes, starts, starts[1:], strict=False):
        if start < stop:
            rows = plane.index_select(1, sides[2].cells)
            box[start:stop] = rows.index_select(0, sides[1].cells)


def _filled(shape: Sequence[int], background: int, device: torch.device) -> Tensor:
    if device.type == "cpu" and background == 0:
        return torch.from_numpy(np.zeros(shape, np.uint8))  # unlike torch's, in lazy pages
    return torch.full(tuple(shape), background, dtype=torch.uint8, device=device)


def _open_box(scores: PatchScores, axes: Sequence[NativeAxis]) -> list[range]:
    """Return the model voxels of the image that open patches span, per model axis; [] if none."""
    box = []
    is_open = scores.rows >= 0
    for axis in sorted(axes, key=lambda axis: axis.model_axis):
        others = [other for other in range(3) if other != axis.model_axis]
        filled = is_open.sum(dim=others).nonzero()
        if not len(filled):
            return []
        lead = scores.lead[axis.model_axis]
        start = max(0, int(filled[0]) * scores.patch - lead)
        stop = min(axis.size, (int(filled[-1]) + 1) * scores.patch - lead)
        if start >= stop:
            return []
        box.append(range(start, stop))
    return box


def _best_classes(scores: PatchScores, background: int) -> Tensor:
    """Return the best class of each voxel, (patches + 1, patch**3) uint8; closed ones last."""
    patches, voxels, _ = scores.values.shape
    best = torch.full(
        (patches + 1, voxels), background, dtype=torch.uint8, device=scores.values.device
    )
    at_once = max(1, _CHUNK // voxels)
    for start in range(0, patches, at_once):
        part = scores.values[start : start + at_once]
        best[start : start + len(part)] = part.max(-1).indices
    return best


def _laid_out(
    best: Tensor, scores: PatchScores, axes: Sequence[NativeAxis], sides: Sequence[_Side]
) -> Tensor:
    """Return the best class of each model voxel of the box, axes and directions of the volume."""
    order = np.argsort([axis.model_axis for axis in axes])
    first = [int(sides[n].model.min()) // scores.patch for n in order]
    stop = [int(sides[n].model.max()) // scores.patch + 1 for n in order]
    rows = scores.rows[tuple(slice(*ends) for ends in zip(first, stop, strict=True))]
    grid = best[rows].unflatten(-1, (scores.patch,) * 3).permute(0, 3, 1, 4, 2, 5)
    grid = grid.reshape([size * scores.patch for size in rows.shape])
    for model_axis, n in enumerate(order):
        index = torch.from_numpy(sides[n].model - first[model_axis] * scores.patch)
        grid = grid.index_select(model_axis, index.to(grid.device))
    return grid.permute([axis.model_axis for axis in axes]).contiguous()


def _range_of_cells(best: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lowest and the highest class at the corners of each cell."""
    low = high = best
    for axis, size in enumerate(best.shape):
        low = torch.minimum(low.narrow(axis, 0, size - 1), low.narrow(axis, 1, size - 1))
        high = torch.maximum(high.narrow(axis, 0, size - 1), high.narrow(axis, 1, size - 1))
    return low, high


def _at(table: Tensor, index: Tensor) -> Tensor:
    """Return ``table[index]``, which torch takes several times as long for."""
    return table.index_select(0, index.flatten()).view(*index.shape, *table.shape[1:])


def _crossed(operation: Callable[[Tensor, Tensor], Tensor], tables: Sequence[Tensor]) -> Tensor:
    """Combine three tensors (a, ...), (b, ...), (c, ...) to one (a, b, c, ...)."""
    i, j, k = tables
    return operation(operation(i[:, None, None], j[None, :, None]), k[None, None, :])
