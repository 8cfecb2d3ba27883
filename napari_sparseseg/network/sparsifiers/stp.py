"""Soft-topK Token Pruning (Zhou et al., IPMI 2023, arXiv 2303.06522)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sparseseg.network.sparsifiers.topk import TopKSparsifier


class ScoreNetwork(nn.Module):
    """The token scorer of STP, one per stage.

    Half of an embedding of the token is compared with the mean of the other half over all
    tokens of the window: ``a = logsigmoid(MLP([h_local, mean(h_global)]))``.

    Parameters
    ----------
    dim : int
        Width of the tokens, even.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU())
        self.rate = nn.Sequential(
            nn.Linear(dim, dim // 2),
            nn.GELU(),
            nn.Linear(dim // 2, dim // 4),
            nn.GELU(),
            nn.Linear(dim // 4, 1),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Score ``(tokens, dim)`` features of one window; returns ``(tokens,)``, at most 0."""
        local, shared = self.embed(tokens).chunk(2, dim=1)
        shared = shared.mean(dim=0, keepdim=True).expand_as(local)
        return F.logsigmoid(self.rate(torch.cat([local, shared], dim=1))[:, 0])


class SoftTopKPruning(TopKSparsifier):
    """STP: a learned score per stage, top-k at inference, Gumbel top-k while training."""

    def __init__(self, dim: int, stages: int) -> None:
        super().__init__(dim, stages)
        self.scorers = nn.ModuleList(ScoreNetwork(dim) for _ in range(stages))

    def score(self, stage: int, tokens: Tensor) -> Tensor:
        """Score tokens in float32, whatever the precision of the encoder."""
        with torch.autocast(tokens.device.type, enabled=False):
            return self.scorers[stage](tokens.float())

    def macs(self, tokens: int) -> int:
        """Count the four linear layers of a scorer."""
        half, quarter = self.dim // 2, self.dim // 4
        return tokens * (self.dim**2 + self.dim * half + half * quarter + quarter)
