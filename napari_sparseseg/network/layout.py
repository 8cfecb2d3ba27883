"""Which token stands in which row of a packed batch.

The encoder works on one long ``(rows, dim)`` matrix in which the tokens of several windows
follow one another, each window led by its class token. Nothing is padded, so windows with
different numbers of tokens cost what their tokens cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenLayout:
    """The rows of the tokens that enter block 1.

    Attributes
    ----------
    cells : Tensor
        ``(tokens,)`` index of each token in the flattened ``(windows, grid)`` map, ascending.
    rows : Tensor
        ``(tokens,)`` row of each token in the packed matrix.
    counts : tuple of int
        Number of tokens of each window, class token not counted.
    grid : tuple of int
        Token grid of one window.
    """

    cells: Tensor
    rows: Tensor
    counts: tuple[int, ...]
    grid: tuple[int, int, int]

    @classmethod
    def of(cls, open_tokens: Tensor) -> TokenLayout:
        """Lay out the tokens marked in a ``(windows, x, y, z)`` boolean map."""
        windows, x, y, z = open_tokens.shape
        cells = open_tokens.flatten().nonzero()[:, 0]
        window = cells // (x * y * z)
        counts = tuple(open_tokens.flatten(1).sum(1).tolist())
        rows = torch.arange(len(cells), device=cells.device) + window + 1
        return cls(cells, rows, counts, (x, y, z))

    @property
    def size(self) -> int:
        """Number of rows, class tokens included."""
        return len(self.cells) + len(self.counts)

    @property
    def heads(self) -> Tensor:
        """``(windows,)`` rows of the class tokens."""
        starts = [0]
        for count in self.counts[:-1]:
            starts.append(starts[-1] + count + 1)
        return torch.tensor(starts, device=self.cells.device)

    @property
    def positions(self) -> Tensor:
        """``(tokens,)`` raster index of each token inside its window."""
        x, y, z = self.grid
        return self.cells % (x * y * z)

    @property
    def raster(self) -> Tensor:
        """``(size,)`` raster index of each row's token inside its window, -1 for class tokens."""
        index = torch.full((self.size,), -1, device=self.cells.device)
        return index.index_copy(0, self.rows, self.positions)

    def lengths(self) -> tuple[int, ...]:
        """Rows of each window, class token included."""
        return tuple(c + 1 for c in self.counts)

    def to_map(self, values: Tensor, fill: Tensor) -> Tensor:
        """Spread per-row values over the token grids of the windows.

        Parameters
        ----------
        values : Tensor
            ``(size, dim)``.
        fill : Tensor
            ``(dim,)`` value of the cells that hold no token.

        Returns
        -------
        Tensor
            ``(windows, x, y, z, dim)``.
        """
        cells = len(self.counts) * self.grid[0] * self.grid[1] * self.grid[2]
        spread = fill.to(values.dtype).expand(cells, -1)
        spread = spread.index_copy(0, self.cells, values[self.rows])
        return spread.view(len(self.counts), *self.grid, -1)
