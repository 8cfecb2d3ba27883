"""Multi-layer Token Assembly: the full token map rebuilt for the decoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_sparseseg.network.blocks import Block, block_macs, sincos_positions
from napari_sparseseg.network.config import NetworkConfig
from napari_sparseseg.network.encoder import Encoded


class TokenAssembly(nn.Module):
    """MTA (Zhou et al., IPMI 2023): every token brings the features it left with.

    Each group (pruned at stage 1, 2, ..., then the tokens that ran every block) has its own
    LayerNorm, linear layer and learned layer token; the tokens go back to raster order, get a
    fixed sine-cosine position, and run through transformer blocks together. No mask tokens.

    Parameters
    ----------
    config : NetworkConfig
        Architecture.
    """

    positions: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        size = config.completion
        groups = len(config.stages) + 1
        self.config = config
        self.norms = nn.ModuleList(nn.LayerNorm(config.dim, eps=1e-6) for _ in range(groups))
        self.linears = nn.ModuleList(nn.Linear(config.dim, size.dim) for _ in range(groups))
        self.layer_tokens = nn.Parameter(torch.zeros(groups, size.dim))
        self.register_buffer("positions", sincos_positions(config.grid, size.dim), persistent=False)
        self.blocks = nn.ModuleList(Block(size.dim, size.heads) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.dim, eps=1e-6)
        self.out = nn.Linear(size.dim, config.dim)

    def forward(self, encoded: Encoded) -> Tensor:
        """Return ``(rows, dim)`` completed features in the order of the layout."""
        layout = encoded.layout
        parts = [
            linear(norm(group.x)) + token.to(group.x.dtype)
            for group, norm, linear, token in zip(
                encoded.groups, self.norms, self.linears, self.layer_tokens, strict=True
            )
        ]
        rows = torch.cat([group.rows for group in encoded.groups])
        x = torch.cat(parts)[torch.argsort(rows)]
        codes = self.positions[layout.positions].to(x.dtype)
        x = x.index_add(0, layout.rows, codes)  # class tokens get none
        for block in self.blocks:
            x = block(x, layout.lengths())
        return self.out(self.norm(x))

    @torch.no_grad()
    def start_from_last_group(self) -> None:
        """Copy the maps of the tokens that ran every block to the groups of pruned tokens.

        A run that pruned nothing has trained only those; fine-tuning starts from the copies.
        """
        for norm, linear, token in zip(self.norms, self.linears, self.layer_tokens, strict=True):
            norm.load_state_dict(self.norms[-1].state_dict())
            linear.load_state_dict(self.linears[-1].state_dict())
            token.copy_(self.layer_tokens[-1])

    def macs(self, lengths: tuple[int, ...]) -> int:
        """Multiply-accumulates for windows with these numbers of rows."""
        dim, inner, rows = self.config.dim, self.config.completion.dim, sum(lengths)
        return 2 * rows * dim * inner + len(self.blocks) * block_macs(lengths, inner)
