"""Where the decoder runs: on whole windows, or packed on the blocks of some tokens alone.

Features are ``(blocks, x, y, z, channels)``, channels last. On whole windows a block is a
window; packed, it is what one token covers at the level's resolution, ``size`` voxels along each
edge. Everything but a 3x3x3 convolution treats voxels one by one and is the same for both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def cut_patches(x: Tensor, patch: int) -> Tensor:
    """Cut ``(n, x, y, z, channels)`` into ``(tokens, patch ** 3, channels)``, in raster order."""
    n, *sizes, channels = x.shape
    gx, gy, gz = (size // patch for size in sizes)
    blocks = x.reshape(n, gx, patch, gy, patch, gz, patch, channels)
    blocks = blocks.permute(0, 1, 3, 5, 2, 4, 6, 7)
    return blocks.reshape(n * gx * gy * gz, patch**3, channels)


class Field(ABC):
    """The tokens whose voxels a level of the decoder works on.

    Parameters
    ----------
    served : Tensor
        ``(windows, grid x, y, z)`` bool, True for these tokens.
    """

    def __init__(self, served: Tensor) -> None:
        self.served = served
        self.grid = tuple(served.shape[1:])

    @cached_property
    def cells(self) -> Tensor:
        """``(tokens,)`` index of each token in the flattened map, ascending."""
        return self.served.flatten().nonzero()[:, 0]

    @property
    @abstractmethod
    def tokens(self) -> int:
        """Number of tokens whose voxels are computed, wanted or not."""

    @abstractmethod
    def spread(self, token_map: Tensor) -> Tensor:
        """Bring a ``(windows, grid x, y, z, channels)`` map of tokens onto the field, size 1."""

    @abstractmethod
    def cut(self, windows: Tensor, patch: int) -> Tensor:
        """Bring ``(windows, channels, x, y, z)`` voxels onto the field, size ``patch``."""

    @abstractmethod
    def select(self, x: Tensor, source: Field) -> Tensor:
        """Bring features of a field that holds these tokens, and more, onto this one."""

    @abstractmethod
    def convolve(self, x: Tensor, conv: nn.Conv3d) -> Tensor:
        """Run a 3x3x3 convolution of stride 1 that keeps the size."""

    @abstractmethod
    def patches(self, x: Tensor) -> Tensor:
        """Return ``(tokens, voxels, channels)`` for :attr:`cells`, a patch's voxels in raster."""


class WholeField(Field):
    """Whole windows, as the published decoder runs.

    Parameters
    ----------
    served : Tensor
        As of :class:`Field`.
    alone : bool
        Whether convolutions see zeros instead of the tokens that are not served.
    """

    def __init__(self, served: Tensor, alone: bool) -> None:
        super().__init__(served)
        self.mask = served[..., None] if alone and not bool(served.all()) else None

    @property
    def tokens(self) -> int:
        """Every token of the windows."""
        return self.served.numel()

    def spread(self, token_map: Tensor) -> Tensor:
        """Return the map itself."""
        return token_map

    def cut(self, windows: Tensor, patch: int) -> Tensor:
        """Put the channels last."""
        return windows.permute(0, 2, 3, 4, 1)

    def select(self, x: Tensor, source: Field) -> Tensor:
        """Return the features themselves."""
        return x

    def convolve(self, x: Tensor, conv: nn.Conv3d) -> Tensor:
        """Convolve the windows, with the tokens that are not served set to zero."""
        if self.mask is not None:
            size = x.shape[1] // self.grid[0]
            shown = self.mask
            for axis in (1, 2, 3):
                shown = shown.repeat_interleave(size, dim=axis)
            x = x * shown
        x = x.permute(0, 4, 1, 2, 3).contiguous(memory_format=torch.channels_last_3d)
        return conv(x).permute(0, 2, 3, 4, 1)

    def patches(self, x: Tensor) -> Tensor:
        """Cut the windows into patches and take those of the served tokens."""
        return cut_patches(x, x.shape[1] // self.grid[0])[self.cells]


class BlockField(Field):
    """Blocks of the served tokens alone, packed one behind the other.

    A block takes the one voxel around it that a convolution needs from the blocks beside it;
    a token that is not served is zero to its neighbours, as everything outside a window is.
    No voxel is computed twice, so the work is in proportion to the tokens.
    """

    def __init__(self, served: Tensor) -> None:
        super().__init__(served)
        self._halos: dict[int, Tensor] = {}

    @property
    def tokens(self) -> int:
        """The served tokens."""
        return len(self.cells)

    @cached_property
    def _places(self) -> tuple[Tensor, ...]:
        return self.served.nonzero().unbind(1)

    @cached_property
    def _slots(self) -> Tensor:
        """``(windows, x + 2, y + 2, z + 2)`` block of each token, one past the last if none."""
        slots = self.cells.new_full(self.served.shape, len(self.cells)).flatten()
        slots[self.cells] = torch.arange(len(self.cells), device=slots.device)
        return F.pad(slots.view(self.served.shape), (1,) * 6, value=len(self.cells))

    def _halo(self, size: int) -> Tensor:
        """Return which voxel stands where in the blocks grown by one voxel.

        ``(tokens * (size + 2) ** 3,)`` indices into the voxels of all blocks; one past the last
        voxel means zero.
        """
        if size not in self._halos:
            line = torch.arange(-1, size + 1, device=self.cells.device)
            beside = torch.div(line, size, rounding_mode="floor") + 1
            inside = line % size
            window, x, y, z = (place[:, None, None, None] for place in self._places)
            slot = self._slots[
                window, x + beside[:, None, None], y + beside[:, None], z + beside
            ]  # fmt: skip
            voxel = (inside[:, None, None] * size + inside[:, None]) * size + inside
            halo = slot * size**3 + voxel
            self._halos[size] = halo.clamp_max(len(self.cells) * size**3).flatten()
        return self._halos[size]

    def spread(self, token_map: Tensor) -> Tensor:
        """Take the tokens out of the map."""
        return token_map.flatten(0, 3)[self.cells][:, None, None, None]

    def cut(self, windows: Tensor, patch: int) -> Tensor:
        """Cut the patches out of the windows."""
        n, channels = windows.shape[:2]
        gx, gy, gz = self.grid
        blocks = windows.reshape(n, channels, gx, patch, gy, patch, gz, patch)
        return blocks.permute(0, 2, 4, 6, 3, 5, 7, 1)[self._places]

    def select(self, x: Tensor, source: Field) -> Tensor:
        """Take the blocks of these tokens."""
        if len(x) == len(self.cells):
            return x
        return x[torch.searchsorted(source.cells, self.cells)]

    def convolve(self, x: Tensor, conv: nn.Conv3d) -> Tensor:
        """Grow every block by the voxel around it and convolve without padding."""
        blocks, size, *_, channels = x.shape
        voxels = F.pad(x.reshape(-1, channels), (0, 0, 0, 1))
        grown = voxels.index_select(0, self._halo(size))
        if size == 1:  # one product with all 27 neighbours side by side is twice as fast
            weight = conv.weight.permute(0, 2, 3, 4, 1).flatten(1)
            return F.linear(grown.view(blocks, -1), weight).view(blocks, 1, 1, 1, -1)
        wide = size + 2
        grown = grown.view(blocks, wide, wide, wide, channels).permute(0, 4, 1, 2, 3)
        return F.conv3d(grown, conv.weight).permute(0, 2, 3, 4, 1)

    def patches(self, x: Tensor) -> Tensor:
        """Return the blocks with their voxels in a row."""
        return x.reshape(len(x), -1, x.shape[-1])
