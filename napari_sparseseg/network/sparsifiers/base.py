"""The small protocol behind which every sparsifier lives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Decision:
    """What a sparsifier decided for the tokens of one window at one stage.

    Attributes
    ----------
    importance : Tensor
        ``(tokens,)`` float32 score of each token, as the sparsifier used it.
    keep : Tensor
        ``(tokens,)`` bool, True where the token goes on.
    gate : Tensor or None
        ``(tokens,)`` with the value of ``keep``, carrying the gradient to the score while
        training; None at inference.
    """

    importance: Tensor
    keep: Tensor
    gate: Tensor | None = None


class Sparsifier(nn.Module, ABC):
    """Decides at each stage which tokens go on.

    A subclass scores tokens and decides. The encoder calls :meth:`score` once per stage and
    window, then :meth:`decide`; scores do not depend on the keep ratio, which lets a session
    keep those of the first stage while the slider moves.

    Parameters
    ----------
    dim : int
        Width of the tokens.
    stages : int
        Number of stages.
    """

    def __init__(self, dim: int, stages: int) -> None:
        super().__init__()
        self.dim = dim
        self.stages = stages

    @abstractmethod
    def score(self, stage: int, tokens: Tensor) -> Tensor:
        """Score tokens.

        Parameters
        ----------
        stage : int
            Index of the stage, from 0.
        tokens : Tensor
            ``(tokens, dim)`` features of one window after the stage's last block, class token
            left out.

        Returns
        -------
        Tensor
            ``(tokens,)`` float32.
        """

    @abstractmethod
    def decide(self, stage: int, importance: Tensor, keep_ratio: float) -> Decision:
        """Turn the scores of the tokens still alive into a decision."""

    def macs(self, tokens: int) -> int:
        """Multiply-accumulates of scoring this many tokens at one stage."""
        return 0
