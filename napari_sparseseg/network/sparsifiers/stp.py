"""Soft-topK Token Pruning (Zhou et al., IPMI 2023, arXiv 2303.06522)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sparseseg.network.config import NetworkConfig
from napari_sparseseg.network.sparsifiers.base import Decision, Scores
from napari_sparseseg.network.sparsifiers.topk import TopKSparsifier, soft_top_k


class ScoreNetwork(nn.Module):
    """The token scorer of STP, one per stage.

    Half of an embedding of the token is compared with the mean of the other half over all
    tokens of the window: ``s = MLP([h_local, mean(h_global)])``.

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
        """Score ``(tokens, dim)`` features of one window in float32; returns ``(tokens,)``."""
        with torch.autocast(tokens.device.type, enabled=False):
            local, shared = self.embed(tokens.float()).chunk(2, dim=1)
            shared = shared.mean(dim=0, keepdim=True).expand_as(local)
            score: Tensor = self.rate(torch.cat([local, shared], dim=1))[:, 0]
            return score


class ScoredPruning(TopKSparsifier):
    """Keep the best of a learned score, one :class:`ScoreNetwork` per stage."""

    def __init__(self, config: NetworkConfig, method: str) -> None:
        super().__init__(config, method)
        self.scorers = nn.ModuleList(ScoreNetwork(config.dim) for _ in config.stages)

    def score(self, stage: int, tokens: Tensor) -> Scores:
        """Score tokens: ``a = logsigmoid(s)``, with s as the details."""
        logits = self.scorers[stage](tokens)
        return Scores(F.logsigmoid(logits), logits)

    def macs(self, stage: int, tokens: int) -> int:
        """Count the four linear layers of a score network."""
        dim = self.config.dim
        half, quarter = dim // 2, dim // 4
        return tokens * (dim**2 + dim * half + half * quarter + quarter)


class SoftTopKPruning(ScoredPruning):
    """STP: top-k of a learned score at inference, Gumbel top-k while training."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config, "stp")

    def decide(self, stage: int, scores: Scores, setting: float) -> Decision:
        """Keep :meth:`quota` tokens: sampled while training, the best at inference."""
        quota = self.quota(scores, setting)
        if self.training and quota < len(scores.importance):
            return Decision(*soft_top_k(scores.importance, quota))
        return super().decide(stage, scores, setting)
