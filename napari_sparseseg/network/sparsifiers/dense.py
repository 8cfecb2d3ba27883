"""The dense twin's rule: nothing is pruned."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_sparseseg.network.config import NetworkConfig
from napari_sparseseg.network.sparsifiers.base import Decision, Scores, Sparsifier


class KeepAll(Sparsifier):
    """Every token runs through every block, whatever the setting; there are no scores."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config, "dense")

    def score(self, stage: int, tokens: Tensor) -> Scores:
        """Return NaN for each token: nothing was scored."""
        return Scores(torch.full((len(tokens),), torch.nan, device=tokens.device))

    def decide(self, stage: int, scores: Scores, setting: float) -> Decision:
        """Keep all."""
        return Decision(torch.ones_like(scores.importance, dtype=torch.bool))
