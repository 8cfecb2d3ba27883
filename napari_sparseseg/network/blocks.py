"""Pre-norm transformer blocks over packed tokens, and fixed position codes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Self-attention inside each window of a packed batch.

    Parameters
    ----------
    dim : int
        Width of the tokens.
    heads : int
        Number of heads.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, lengths: tuple[int, ...]) -> Tensor:
        """Attend; ``x`` is ``(rows, dim)`` and ``lengths`` the rows of each window."""
        rows, dim = x.shape
        # (3, heads, rows, head dim): each window is then a plain slice
        qkv = self.qkv(x).view(rows, 3, self.heads, dim // self.heads).permute(1, 2, 0, 3)
        parts = [
            F.scaled_dot_product_attention(*part.unsqueeze(1).unbind(0))[0]
            for part in qkv.split(lengths, dim=2)
        ]
        mixed = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return self.proj(mixed.transpose(0, 1).reshape(rows, dim))


class Block(nn.Module):
    """A ViT block: attention and MLP, each behind a LayerNorm and a residual.

    Parameters
    ----------
    dim, heads, mlp_ratio : int
        Width, attention heads, MLP factor.
    """

    def __init__(self, dim: int, heads: int, mlp_ratio: int = 4) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attention = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(dim, mlp_ratio * dim), nn.GELU(), nn.Linear(mlp_ratio * dim, dim)
        )

    def forward(self, x: Tensor, lengths: tuple[int, ...]) -> Tensor:
        """Run the block; ``x`` is ``(rows, dim)`` and ``lengths`` the rows of each window."""
        x = x + self.attention(self.norm1(x), lengths)
        return x + self.mlp(self.norm2(x))


def block_macs(lengths: tuple[int, ...], dim: int, mlp_ratio: int = 4) -> int:
    """Multiply-accumulates of one block for windows with these numbers of rows.

    Counted are the linear layers (``4 + 2 mlp_ratio`` squares of the width per row) and the
    two attention products (``2 n^2 dim`` per window of n rows).
    """
    linear = (4 + 2 * mlp_ratio) * dim * dim * sum(lengths)
    return linear + 2 * dim * sum(n * n for n in lengths)


def sincos_positions(grid: tuple[int, int, int], dim: int) -> Tensor:
    """Return fixed 3-D sine-cosine position codes.

    Parameters
    ----------
    grid : tuple of int
        Token grid.
    dim : int
        Width; each axis gets ``dim // 6`` sines and as many cosines, the rest stays zero.

    Returns
    -------
    Tensor
        ``(tokens, dim)`` in raster order.
    """
    n = dim // 6
    frequency = 10000.0 ** (-torch.arange(n, dtype=torch.float64) / n)
    axes = torch.meshgrid(*(torch.arange(g, dtype=torch.float64) for g in grid), indexing="ij")
    codes = []
    for axis in axes:
        angle = axis.reshape(-1, 1) * frequency
        codes += [angle.sin(), angle.cos()]
    return F.pad(torch.cat(codes, dim=1), (0, dim - 6 * n)).float()
