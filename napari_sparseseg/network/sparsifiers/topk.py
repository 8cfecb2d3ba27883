"""Keep the k best-scored tokens: the rule, and how gradients pass through it."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_sparseseg.network.sparsifiers.base import Decision, Scores, Sparsifier


def stage_quota(alive: int, keep_ratio: float, stages: int) -> int:
    """Return how many of ``alive`` tokens one stage lets go on.

    Each of the ``stages`` keeps the same fraction ``keep_ratio ** (1 / stages)`` of the tokens
    still alive, rounded down as in the released STP code, and at least one. The product over
    the stages is the keep ratio of the window.

    Examples
    --------
    The published BTCV setting prunes 90 % at each of three stages, a keep ratio of 0.001:

    >>> alive = 1728
    >>> for _ in range(3):
    ...     alive = stage_quota(alive, 0.001, 3)
    ...     print(alive)
    172
    17
    1
    """
    fraction = keep_ratio ** (1.0 / stages)
    # the small term undoes the rounding of the root: 1000 * 0.1 must give 100, not 99
    return min(alive, max(1, int(alive * fraction + 1e-6))) if alive else 0


def keep_best(importance: Tensor, quota: int) -> Tensor:
    """Mark the ``quota`` highest scores; equal scores are taken in raster order.

    The order does not depend on ``quota``, so the tokens kept at a ratio are a subset of those
    kept at a higher one.
    """
    keep = torch.zeros(importance.shape, dtype=torch.bool, device=importance.device)
    order = torch.argsort(importance, descending=True, stable=True)
    keep[order[:quota]] = True
    return keep


def soft_top_k(importance: Tensor, quota: int, tau: float = 1.0) -> tuple[Tensor, Tensor]:
    """Sample k tokens with Gumbel noise and let the gradient pass straight through.

    Zhou et al., IPMI 2023: ``p = softmax((a + g) / tau)`` with Gumbel noise ``g``, the mask
    ``m`` marks the k largest, and the gate is ``m - stopgrad(p) + p``.

    Parameters
    ----------
    importance : Tensor
        ``(tokens,)`` scores a.
    quota : int
        Number of tokens to keep.
    tau : float
        Temperature; 1 as released.

    Returns
    -------
    keep : Tensor
        ``(tokens,)`` bool.
    gate : Tensor
        ``(tokens,)`` with the value of ``keep`` and the gradient of p.
    """
    noise = -torch.empty_like(importance).exponential_().log()
    p = torch.softmax((importance + noise) / tau, dim=0)
    keep = keep_best(p.detach(), quota)
    return keep, keep.to(p.dtype) - p.detach() + p


class TopKSparsifier(Sparsifier):
    """A sparsifier that keeps the best-scored tokens of every window at every stage."""

    def quota(self, scores: Scores, setting: float) -> int:
        """Return how many of these tokens go on at a keep ratio."""
        return stage_quota(len(scores.importance), setting, len(self.stages()))

    def decide(self, stage: int, scores: Scores, setting: float) -> Decision:
        """Keep the best-scored :func:`stage_quota` tokens."""
        return Decision(keep_best(scores.importance, self.quota(scores, setting)))
