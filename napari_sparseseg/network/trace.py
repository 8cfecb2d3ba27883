"""The record of what the encoder did to every token of a window."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_sparseseg.network.encoder import Encoded


@dataclass(frozen=True)
class WindowTrace:
    """What happened to the tokens of one window, on its token grid.

    Attributes
    ----------
    air : Tensor
        Bool; the token never entered block 1.
    importance : Tensor
        ``(stages, x, y, z)`` float32 score at each stage, NaN where the token was not scored.
    pruned_stage : Tensor
        uint8; the stage, from 1, at which the token was pruned, 0 if it was not.
    depth : Tensor
        uint8; the number of blocks that the token ran through.
    """

    air: Tensor
    importance: Tensor
    pruned_stage: Tensor
    depth: Tensor


def trace_windows(encoded: Encoded, num_blocks: int) -> tuple[WindowTrace, ...]:
    """Read the trace of each window from what the encoder logged.

    Depth is counted from the rows that each block was given; nothing is derived from the
    keep ratio.

    Parameters
    ----------
    encoded : Encoded
        The encoder's answer for a batch.
    num_blocks : int
        Number of encoder blocks; the log must hold one entry per block.
    """
    if len(encoded.log.rows) != num_blocks:
        raise ValueError(f"the log holds {len(encoded.log.rows)} blocks of {num_blocks}")
    layout = encoded.layout
    device = layout.cells.device
    cell_of_row = torch.full((layout.size,), -1, device=device)
    cell_of_row[layout.rows] = layout.cells
    cells = len(layout.counts) * layout.grid[0] * layout.grid[1] * layout.grid[2]

    depth = torch.zeros(layout.size, dtype=torch.uint8, device=device)
    for rows in encoded.log.rows:
        depth[rows] += 1
    pruned = torch.zeros(layout.size, dtype=torch.uint8, device=device)
    for stage, group in enumerate(encoded.groups[:-1], start=1):
        pruned[group.rows] = stage
    importance = torch.full((len(encoded.importance), cells), torch.nan, device=device)
    for stage, windows in enumerate(encoded.importance):
        for rows, scores in windows:
            importance[stage, cell_of_row[rows]] = scores.detach()
    air = torch.ones(cells, dtype=torch.bool, device=device)
    air[layout.cells] = False

    shape = (len(layout.counts), *layout.grid)
    on_grid = [
        _spread(values, layout.rows, layout.cells, cells).view(shape) for values in (pruned, depth)
    ]
    scores_by_window = importance.view(len(encoded.importance), *shape).transpose(0, 1)
    return tuple(
        WindowTrace(a, s, p, d)
        for a, s, p, d in zip(air.view(shape), scores_by_window, *on_grid, strict=True)
    )


def _spread(values: Tensor, rows: Tensor, cells: Tensor, size: int) -> Tensor:
    grid = torch.zeros(size, dtype=values.dtype, device=values.device)
    grid[cells] = values[rows]
    return grid
