"""Controls: what an informed sparsifier must beat."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_sparseseg.network.sparsifiers.topk import TopKSparsifier


class RandomPruning(TopKSparsifier):
    """Prune as many tokens as STP at every stage, drawn at random.

    Parameters
    ----------
    dim, stages : int
        As for every sparsifier.
    seed : int
        Seed of the draw; the same seed and tokens give the same choice on every device.
    """

    def __init__(self, dim: int, stages: int, seed: int = 0) -> None:
        super().__init__(dim, stages)
        self.seed = seed

    def score(self, stage: int, tokens: Tensor) -> Tensor:
        """Draw a uniform score for each token."""
        generator = torch.Generator().manual_seed(self.seed * 1000 + stage)
        return torch.rand(len(tokens), generator=generator).to(tokens.device)
