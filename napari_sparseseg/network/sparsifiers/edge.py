"""Edge-supervised scores (Guo et al., "Edge-Aware Token Halting", MICCAI 2025).

Of that paper only the score is taken: a patch counts as edge if it holds more than one class,
and the scorer learns this by binary cross-entropy. Halting, completion and decoder are STP's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sparseseg.network.config import NetworkConfig
from napari_sparseseg.network.sparsifiers.stp import ScoredPruning

if TYPE_CHECKING:
    from napari_sparseseg.network.encoded import Encoded

WHOLE = 0.999
"""Share of a patch above which it counts as one class alone; soft labels are not exact."""


class EdgePruning(ScoredPruning):
    """Keep the patches that most likely hold a border between classes."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config, "edge")

    def loss(self, encoded: Encoded, mix: Tensor) -> Tensor:
        """Binary cross-entropy of ``sigmoid(s)`` against the edge label, mean over stages.

        No gradient passes through the choice of tokens, as published.
        """
        if not len(mix):
            return mix.new_zeros(())
        edge = encoded.at_rows((mix.amax(dim=1) < WHOLE).float())
        terms = []
        for windows in encoded.scored:
            logits = torch.cat([window.scores.details for window in windows])
            target = torch.cat([edge[window.rows] for window in windows])
            terms.append(F.binary_cross_entropy_with_logits(logits, target))
        return torch.stack(terms).mean()
