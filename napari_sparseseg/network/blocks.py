"""Pre-norm transformer blocks over packed tokens, and fixed position codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Attention of one window: queries, keys and values ``(heads, n, head dim)`` to ``(heads, n, head
dim)``; a sparsifier may bring its own."""


def attend_to_all(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Plain attention of one window."""
    return F.scaled_dot_product_attention(q[None], k[None], v[None])[0]


def attend_packed(q: Tensor, k: Tensor, v: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """Plain attention inside each of several windows in one call, none of them padded.

    Parameters
    ----------
    q, k, v : Tensor
        ``(heads, rows, head dim)``, the rows of window after window.
    lengths : tuple of int
        Rows of each window.

    Returns
    -------
    Tensor
        ``(heads, rows, head dim)``.
    """
    filled = [n for n in lengths if n]
    offsets = torch.tensor([0, *accumulate(filled)], device=q.device)

    def ragged(x: Tensor) -> Tensor:
        packed = x.transpose(0, 1).contiguous()
        least, most = min(filled), max(filled)
        jagged: Tensor = torch.nested.nested_tensor_from_jagged(
            packed, offsets, min_seqlen=least, max_seqlen=most
        )
        return jagged.transpose(1, 2)

    mixed = F.scaled_dot_product_attention(ragged(q), ragged(k), ragged(v))
    return mixed.transpose(1, 2).values().transpose(0, 1)


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

    def forward(
        self,
        x: Tensor,
        lengths: tuple[int, ...],
        attends: Sequence[Attend] | None = None,
        attending: Tensor | None = None,
    ) -> Tensor:
        """Attend inside each window.

        Parameters
        ----------
        x : Tensor
            ``(rows, dim)``.
        lengths : tuple of int
            Rows of each window.
        attends : sequence of callable, optional
            The attention of each window, if it is not the plain one.
        attending : Tensor, optional
            ``(rows,)`` bool; the others get exactly zero.
        """
        rows, dim = x.shape
        # (3, heads, rows, head dim): each window is then a plain slice
        qkv = self.qkv(x).view(rows, 3, self.heads, dim // self.heads).permute(1, 2, 0, 3)
        if attends is None and x.is_cuda and not torch.is_grad_enabled() and rows:
            q, k, v = qkv.unbind(0)
            mixed = attend_packed(q, k, v, lengths)
        else:  # on a CPU a call for each window is as fast, and simpler
            attends = attends or [attend_to_all] * len(lengths)
            parts = [
                attend(*part.unbind(0)) if n else part[2]
                for n, part, attend in zip(lengths, qkv.split(lengths, dim=2), attends, strict=True)
            ]
            mixed = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        mixed = mixed.transpose(0, 1).reshape(rows, dim)
        if attending is None:
            return self.proj(mixed)
        (asked,) = torch.where(attending)
        return torch.zeros_like(mixed).index_copy(0, asked, self.proj(mixed[asked]))


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

    def forward(
        self,
        x: Tensor,
        lengths: tuple[int, ...],
        attends: Sequence[Attend] | None = None,
        attending: Tensor | None = None,
        others_rest: bool = False,
    ) -> Tensor:
        """Run the block.

        Parameters
        ----------
        x, lengths, attends, attending
            As for :meth:`Attention.forward`.
        others_rest : bool
            Whether rows that are not attending skip the MLP too: the block leaves them as they are.
        """
        x = x + self.attention(self.norm1(x), lengths, attends, attending)
        if attending is None or not others_rest:
            return x + self.mlp(self.norm2(x))
        (asked,) = torch.where(attending)
        return x.index_add(0, asked, self.mlp(self.norm2(x[asked])).to(x.dtype))


def block_macs(
    lengths: tuple[int, ...],
    dim: int,
    mlp_ratio: int = 4,
    attending: tuple[int, ...] | None = None,
    others_rest: bool = False,
) -> int:
    """Multiply-accumulates of one block for windows with these numbers of rows.

    Counted are the linear layers (``4 + 2 mlp_ratio`` squares of the width per row) and the
    two attention products (``2 n^2 dim`` per window of n rows). Where only ``attending`` rows of
    a window have a query, the products and the output layer are theirs alone, and if the
    ``others_rest``, the MLP is so too.
    """
    queries = lengths if attending is None else attending
    through_mlp = queries if others_rest else lengths
    layers = 3 * sum(lengths) + sum(queries) + 2 * mlp_ratio * sum(through_mlp)
    linear = dim * dim * layers
    return linear + 2 * dim * sum(n * m for n, m in zip(lengths, queries, strict=True))


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
