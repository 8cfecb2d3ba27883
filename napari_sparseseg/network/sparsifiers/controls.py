"""Controls: what an informed sparsifier must beat.

A control can be a network's own sparsifier, to be trained with it, or take the place of a
trained network's sparsifier, the inner one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from napari_sparseseg.network.blocks import Attend
from napari_sparseseg.network.config import NetworkConfig
from napari_sparseseg.network.sparsifiers.base import (
    AttentionPlace,
    Decision,
    Scores,
    Sparsifier,
)
from napari_sparseseg.network.sparsifiers.topk import TopKSparsifier, keep_best


class EqualScores(TopKSparsifier):
    """The quota of a keep ratio with nothing to choose by."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config, "random")

    def score(self, stage: int, tokens: Tensor) -> Scores:
        """Judge all tokens alike."""
        return Scores(torch.zeros(len(tokens), device=tokens.device))


class RandomChoice(Sparsifier):
    """As many tokens as the inner sparsifier lets go on at each stage, drawn at random.

    Everything else is the inner one's: where it decides, what happens to the others, and the
    class that an exiting token gets.

    Parameters
    ----------
    config : NetworkConfig
        Architecture.
    inner : Sparsifier, optional
        Whose number of tokens is matched; the quota of a keep ratio if left out.
    seed : int
        Seed of the draw at inference, where the same seed and tokens give the same choice on
        every device; training draws afresh each time.
    """

    def __init__(
        self, config: NetworkConfig, inner: Sparsifier | None = None, seed: int = 0
    ) -> None:
        super().__init__(config, "random")
        self.inner = inner or EqualScores(config)
        self.method = self.inner.method
        self.closes_detail = self.inner.closes_detail
        self.attends_its_own_way = self.inner.attends_its_own_way
        self.muted_rest = self.inner.muted_rest
        self.seed = seed

    @property
    def follows(self) -> Sparsifier | None:
        """The inner sparsifier, unless its number can be asked on the way.

        That is so for a plain quota, and good enough while training. The operations of the run
        that is followed are not counted: it belongs to the comparison, not to the control.
        """
        asked = self.training or isinstance(self.inner, TopKSparsifier)
        return None if asked else self.inner

    def stages(self) -> tuple[int, ...]:
        """Decide where the inner sparsifier does."""
        return self.inner.stages()

    def score(self, stage: int, tokens: Tensor) -> Scores:
        """Draw a uniform score for each token; the inner judgement is kept beside it."""
        fixed = torch.Generator().manual_seed(self.seed * 1000 + stage)
        drawn = torch.rand(len(tokens), generator=None if self.training else fixed)
        drawn = drawn.to(tokens.device)
        return Scores(drawn, self.inner.score(stage, tokens))

    def decide(self, stage: int, scores: Scores, setting: float) -> Decision:
        """Keep the highest draws, as many as the inner sparsifier keeps in a run of its own."""
        informed = self.inner.decide(stage, scores.details, setting)
        quota = int(informed.keep.sum()) if scores.quota is None else scores.quota
        keep = keep_best(scores.importance, quota)
        return Decision(keep, label=informed.label)

    def attention(self, place: AttentionPlace) -> Attend:
        """Attend as the inner sparsifier does."""
        return self.inner.attention(place)

    def attention_macs(self, attending: int) -> int:
        """Count what the inner sparsifier adds to a block."""
        return self.inner.attention_macs(attending)

    def macs(self, stage: int, tokens: int) -> int:
        """Count the inner judgement, which tells the class of a token that exits."""
        return self.inner.macs(stage, tokens)


class Truncated(Sparsifier):
    """The encoder ends at the first stage; the decoder gets the tokens as they are then.

    Parameters
    ----------
    config : NetworkConfig
        Architecture.
    inner : Sparsifier, optional
        The sparsifier whose place is taken; only an attention of its own is still used.
    seed : int
        Nothing is drawn; taken because every control takes it.
    """

    closes_detail = False
    registered = "truncated"

    def __init__(
        self, config: NetworkConfig, inner: Sparsifier | None = None, seed: int = 0
    ) -> None:
        super().__init__(config, self.registered)
        self.inner = inner
        self.attends_its_own_way = inner is not None and inner.attends_its_own_way

    def stages(self) -> tuple[int, ...]:
        """Decide once, at the architecture's first stage."""
        return self.config.stages[:1]

    def score(self, stage: int, tokens: Tensor) -> Scores:
        """Return NaN for each token: nothing was scored."""
        return Scores(torch.full((len(tokens),), torch.nan, device=tokens.device))

    def decide(self, stage: int, scores: Scores, setting: float) -> Decision:
        """Let no token go on."""
        return Decision(torch.zeros_like(scores.importance, dtype=torch.bool))

    def attention(self, place: AttentionPlace) -> Attend:
        """Attend as the inner sparsifier does where it prunes nothing."""
        return self.inner.attention(place) if self.inner else super().attention(place)


class NoEncoder(Truncated):
    """No block runs: the decoder gets the embedded patches."""

    registered = "none"

    def stages(self) -> tuple[int, ...]:
        """Decide before the first block."""
        return (0,)
