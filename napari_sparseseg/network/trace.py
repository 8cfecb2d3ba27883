"""The record of what the encoder did to every token of a window."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_sparseseg.network.encoded import Encoded


@dataclass(frozen=True)
class WindowTrace:
    """What happened to the tokens of one window, on its token grid.

    Attributes
    ----------
    air : Tensor
        Bool; the token never entered block 1.
    importance : Tensor
        ``(stages, x, y, z)`` float32 score at each stage, NaN where the token was not scored.
    left_stage : Tensor
        uint8; the stage, from 1, at which the token left for good, 0 if it did not.
    ran : Tensor
        ``(blocks, x, y, z)`` bool; the token was among the rows that the block was given.
    tokens : Tensor
        ``(n,)`` raster index of the tokens that are not air.
    kept : Tensor or None
        ``(n, n)`` uint8; by query and key, the heads of the last block that kept the
        dependency. None if the method has no such gate or it was not in force.
    """

    air: Tensor
    importance: Tensor
    left_stage: Tensor
    ran: Tensor
    tokens: Tensor
    kept: Tensor | None


def trace_windows(encoded: Encoded, num_blocks: int) -> tuple[WindowTrace, ...]:
    """Read the trace of each window from what the encoder logged.

    Nothing is derived from the setting: where a token ran is read from the rows that each block
    was given.

    Parameters
    ----------
    encoded : Encoded
        The encoder's answer for a batch.
    num_blocks : int
        Number of encoder blocks; the log must hold one entry per block.
    """
    if len(encoded.log.rows) != num_blocks:
        raise ValueError(f"the log holds {len(encoded.log.rows)} blocks of {num_blocks}")
    layout, device = encoded.layout, encoded.layout.cells.device
    shape = (len(layout.counts), *layout.grid)
    cells = len(layout.counts) * layout.grid[0] * layout.grid[1] * layout.grid[2]

    ran = torch.zeros(num_blocks, layout.size, dtype=torch.bool, device=device)
    for block, rows in enumerate(encoded.log.rows):
        ran[block, rows] = True
    importance = torch.full((len(encoded.scored), layout.size), torch.nan, device=device)
    for stage, windows in enumerate(encoded.scored):
        for window in windows:
            importance[stage, window.rows] = window.scores.importance.detach().float()
    left = encoded.left
    if encoded.fate == "muted":  # such tokens stay, but have lost their query for good
        left = torch.where(ran.all(dim=0), 0, 1).to(left.dtype)
    air = torch.ones(cells, dtype=torch.bool, device=device)
    air[layout.cells] = False

    def on_grid(values: Tensor, fill: float) -> Tensor:
        spread = torch.full((*values.shape[:-1], cells), fill, dtype=values.dtype, device=device)
        spread[..., layout.cells] = values[..., layout.rows]
        return spread.view(*values.shape[:-1], *shape)

    positions = layout.positions.split(layout.counts)
    return tuple(
        WindowTrace(a, s, p, r, tokens, _kept_dependencies(encoded, window, num_blocks))
        for window, (a, s, p, r, tokens) in enumerate(
            zip(
                air.view(shape),
                on_grid(importance, torch.nan).transpose(0, 1),
                on_grid(left, 0),
                on_grid(ran, 0).transpose(0, 1),
                positions,
                strict=True,
            )
        )
    )


def _kept_dependencies(encoded: Encoded, window: int, num_blocks: int) -> Tensor | None:
    for note in encoded.notes:
        if (note.block, note.window) == (num_blocks - 1, window) and note.kept is not None:
            return note.kept[1:, 1:]  # without the class token
    return None
