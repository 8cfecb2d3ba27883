"""The dense twin's rule: nothing is pruned."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_sparseseg.network.sparsifiers.base import Decision, Sparsifier


class KeepAll(Sparsifier):
    """Every token runs through every block, whatever the keep ratio; there are no scores."""

    def score(self, stage: int, tokens: Tensor) -> Tensor:
        """Return NaN for each token: nothing was scored."""
        return torch.full((len(tokens),), torch.nan, device=tokens.device)

    def decide(self, stage: int, importance: Tensor, keep_ratio: float) -> Decision:
        """Keep all."""
        return Decision(importance, torch.ones_like(importance, dtype=torch.bool))
