"""SViT (Liu et al., WACV 2024, arXiv 2306.07050): skip a block, stay in place, come back.

Beyond the paper, whose target rates are fixed, one network serves every keep ratio: the bar that
a gate's score must reach moves with the target.

Option ``standardise``: the published gates are pulled to their rate while noise is added to them.
Without the noise, at inference, gates that tell tokens apart less than the noise did let all of
them run or none. With this option a gate's score is measured in its own mean and spread over the
training scans, so that the share of tokens above the bar is the rate without noise as well. It
is the same for every scan, and a scan with more tokens above it still runs more.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sparseseg.network.config import NetworkConfig
from napari_sparseseg.network.sparsifiers.base import Decision, Scores, Sparsifier

if TYPE_CHECKING:
    from napari_sparseseg.network.encoded import Encoded

_RATE_WEIGHT = 4.0
_SCALE = 3.0
"""Logits per spread of a standardised score; the noise of the gates has a spread of 1.8."""
_MEMORY = 0.02
"""Weight of the newest window in a gate's mean and spread."""


def gate_targets(gates: int, keep_ratio: float) -> tuple[float, ...]:
    """Return the rate of tokens that each gate is to let run.

    The gates form three groups as in the paper; the rates fall geometrically and the last is
    the keep ratio. The published rates belong to a keep ratio of 0.343.

    Examples
    --------
    >>> [round(t, 3) for t in gate_targets(9, 0.343)]
    [0.7, 0.7, 0.7, 0.49, 0.49, 0.49, 0.343, 0.343, 0.343]
    """
    return tuple(keep_ratio ** ((1 + 3 * gate // gates) / 3) for gate in range(gates))


class Gate(nn.Module):
    """The two-layer MLP that decides whether a token runs a block.

    Parameters
    ----------
    dim : int
        Width of the tokens.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.rate = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, dim // 4), nn.GELU(), nn.Linear(dim // 4, 2)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Return ``(tokens,)`` margins: logit of running minus logit of skipping."""
        run, skip = self.rate(tokens).unbind(dim=1)
        return run - skip


class Standardiser(nn.Module):
    """Measure margins in their mean and spread over the training scans."""

    mean: Tensor
    spread: Tensor
    windows: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("windows", torch.zeros(()))

    def forward(self, margin: Tensor) -> Tensor:
        """Return ``(tokens,)`` scores; while training, learn from these tokens."""
        if self.training and len(margin) > 1:
            self._learn(margin.detach())
        return (margin - self.mean) / self.spread.clamp_min(1e-3)

    @torch.no_grad()
    def _learn(self, margin: Tensor) -> None:
        self.windows += 1
        weight = float((1 / self.windows).clamp_min(_MEMORY))
        self.mean.lerp_(margin.mean(), weight)
        self.spread.lerp_((margin - self.mean).square().mean().sqrt(), weight)


class BlockGates(Sparsifier):
    """A gate before each block behind the first stage; every token is judged at every gate."""

    closes_detail = False

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config, "svit")
        self.gates = nn.ModuleList(Gate(config.dim) for _ in self.stages())
        self.standardisers = nn.ModuleList(
            Standardiser() for _ in self.gates if config.options.get("standardise")
        )
        # softplus of these is how far the bar moves with the target, 1 at the start
        self.slopes = nn.Parameter(torch.full((len(self.gates),), math.log(math.e - 1)))

    def stages(self) -> tuple[int, ...]:
        """Decide before each block from the architecture's first stage on."""
        return tuple(range(self.config.stages[0], self.config.depth))

    def _bar(self, stage: int, target: float) -> Tensor:
        """Return what a gate adds to the margins for a target rate: less for a lower one."""
        if self.standardisers:
            return self.slopes.new_tensor(_SCALE * NormalDist().inv_cdf(target))
        return F.softplus(self.slopes[stage]) * math.log(target / (1 - target))

    def score(self, stage: int, tokens: Tensor) -> Scores:
        """Score tokens in float32: the margin of the gate, whatever the target."""
        with torch.autocast(tokens.device.type, enabled=False):
            margin = self.gates[stage](tokens.float())
            if self.standardisers:
                margin = _SCALE * self.standardisers[stage](margin)
            return Scores(margin)

    def decide(self, stage: int, scores: Scores, setting: float) -> Decision:
        """Let the tokens run whose margin reaches the bar; sampled while training.

        Training draws straight-through Gumbel gates (temperature 1); inference takes the more
        likely side, so that the same scan gives the same answer.
        """
        margin = scores.importance
        target = gate_targets(len(self.gates), setting)[stage]
        if target >= 1:
            return Decision(torch.ones_like(margin, dtype=torch.bool))
        margin = margin + self._bar(stage, target)
        if not self.training:
            return Decision(margin > 0)
        logits = torch.stack([margin, torch.zeros_like(margin)], dim=1)
        gate = F.gumbel_softmax(logits, tau=1.0, hard=True)[:, 0]
        return Decision(gate.detach() > 0.5, gate)

    def loss(self, encoded: Encoded, mix: Tensor) -> Tensor:
        """Pull the mean rate of the batch to the target: ``4 mean_l (mean M_l - t_l)^2``.

        Only the mean over all tokens of the batch counts, so that a scan may use more blocks
        than another.
        """
        targets = gate_targets(len(self.gates), encoded.setting)
        if max(targets) >= 1 or not len(mix):
            return mix.new_zeros(())
        terms = []
        for windows, target in zip(encoded.scored, targets, strict=True):
            gates = [w.decision.gate for w in windows if w.decision.gate is not None]
            terms.append((torch.cat(gates).mean() - target) ** 2)
        return _RATE_WEIGHT * torch.stack(terms).mean()

    def macs(self, stage: int, tokens: int) -> int:
        """Count the two linear layers of a gate."""
        quarter = self.config.dim // 4
        return tokens * (self.config.dim * quarter + 2 * quarter)
