"""The ViT encoder over packed tokens, interrupted at stages where a sparsifier decides."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from napari_sparseseg.network.blocks import Block, sincos_positions
from napari_sparseseg.network.config import NetworkConfig
from napari_sparseseg.network.layout import TokenLayout
from napari_sparseseg.network.sparsifiers import Sparsifier


@dataclass
class BlockLog:
    """What each block was really given, written by the encoder as it runs.

    Attributes
    ----------
    rows : list of Tensor
        Per block, the rows of the tokens that it ran (class tokens included).
    lengths : list of tuple of int
        Per block, how many of these rows belong to each window.
    """

    rows: list[Tensor] = field(default_factory=list)
    lengths: list[tuple[int, ...]] = field(default_factory=list)

    def copy(self) -> BlockLog:
        """Return a log that can grow without changing this one."""
        return BlockLog(list(self.rows), list(self.lengths))


@dataclass(frozen=True)
class Alive:
    """The tokens that are still in the encoder.

    Attributes
    ----------
    x : Tensor
        ``(n, dim)`` residual stream.
    rows : Tensor
        ``(n,)`` rows of the layout.
    lengths : tuple of int
        How many of them belong to each window; the first of each is its class token.
    weight : Tensor or None
        ``(n,)`` product of the gates so far (value 1), None at inference.
    """

    x: Tensor
    rows: Tensor
    lengths: tuple[int, ...]
    weight: Tensor | None = None


@dataclass(frozen=True)
class FirstStage:
    """What does not depend on the keep ratio: the tokens at the first stage and their scores.

    Attributes
    ----------
    layout : TokenLayout
        Rows of the tokens.
    alive : Alive
        All of them, after the blocks before the first stage.
    importance : tuple of Tensor
        Per window, ``(tokens,)`` scores at the first stage.
    log : BlockLog
        The blocks that ran.
    """

    layout: TokenLayout
    alive: Alive
    importance: tuple[Tensor, ...]
    log: BlockLog


@dataclass(frozen=True)
class Group:
    """Tokens that left the encoder at the same place.

    Attributes
    ----------
    x : Tensor
        ``(n, dim)`` features as they left.
    rows : Tensor
        ``(n,)`` their rows in the layout.
    """

    x: Tensor
    rows: Tensor


@dataclass(frozen=True)
class Encoded:
    """Every token of the batch with the features it left the encoder with.

    Attributes
    ----------
    layout : TokenLayout
        Rows of the tokens.
    groups : tuple of Group
        One per stage (the tokens pruned there), then the tokens that ran every block.
    importance : tuple of tuple of (Tensor, Tensor)
        Per stage and window, the rows that were scored and their scores.
    log : BlockLog
        The blocks that ran.
    went_on : Tensor
        ``(rows,)`` 1 where the first stage let the row go on, else 0; carries the gradient to
        the scores while training.
    """

    layout: TokenLayout
    groups: tuple[Group, ...]
    importance: tuple[tuple[tuple[Tensor, Tensor], ...], ...]
    log: BlockLog
    went_on: Tensor


class SparseEncoder(nn.Module):
    """Patch embedding and ViT blocks; pruned tokens leave the matrix.

    Parameters
    ----------
    config : NetworkConfig
        Architecture.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        dim, patch = config.dim, config.patch
        self.embed = nn.Conv3d(config.channels, dim, kernel_size=patch, stride=patch)
        self.positions = nn.Parameter(0.5 * sincos_positions(config.grid, dim))
        self.class_token = nn.Parameter(torch.zeros(1, dim))
        self.blocks = nn.ModuleList(
            Block(dim, config.heads, config.mlp_ratio) for _ in range(config.depth)
        )

    def begin(self, windows: Tensor, air: Tensor, sparsifier: Sparsifier) -> FirstStage:
        """Run the blocks before the first stage and score their tokens.

        Parameters
        ----------
        windows : Tensor
            ``(windows, channels, x, y, z)`` normalised intensities.
        air : Tensor
            ``(windows, grid x, y, z)`` bool; these tokens never enter block 1.
        sparsifier : Sparsifier
            Scores the tokens.
        """
        layout = TokenLayout.of(~air)
        tokens = self.embed(windows).permute(0, 2, 3, 4, 1).reshape(-1, self.config.dim)
        tokens = tokens[layout.cells] + self.positions[layout.positions].to(tokens.dtype)
        heads = self.class_token.to(tokens.dtype).expand(len(layout.counts), -1)
        x = tokens.new_empty(layout.size, self.config.dim)
        x = x.index_copy(0, layout.rows, tokens).index_copy(0, layout.heads, heads)
        rows = torch.arange(layout.size, device=x.device)
        weight = torch.ones(layout.size, device=x.device) if self.training else None
        alive, log = Alive(x, rows, layout.lengths(), weight), BlockLog()
        alive = self._run(alive, 0, self.config.stages[0], log)
        return FirstStage(layout, alive, self._score(0, alive, sparsifier), log)

    def finish(self, first: FirstStage, keep_ratio: float, sparsifier: Sparsifier) -> Encoded:
        """Prune at every stage and run the blocks behind the first one.

        Parameters
        ----------
        first : FirstStage
            From :meth:`begin`; it is not changed and can be used again.
        keep_ratio : float
            Fraction of a window's tokens that run through every block.
        sparsifier : Sparsifier
            Decides; the one that scored the first stage.
        """
        alive, log = first.alive, first.log.copy()
        groups, scored, gates = [], [], []
        bounds = (*self.config.stages, self.config.depth)
        scores = first.importance
        for stage in range(len(self.config.stages)):
            if stage:
                scores = self._score(stage, alive, sparsifier)
            scored.append(_scored_rows(alive, scores))
            alive, pruned, gate = _prune(alive, stage, scores, keep_ratio, sparsifier)
            groups.append(pruned)
            gates.append(gate)
            alive = self._run(alive, bounds[stage], bounds[stage + 1], log)
        groups.append(Group(alive.x, alive.rows))
        return Encoded(first.layout, tuple(groups), tuple(scored), log, gates[0])

    def _run(self, alive: Alive, start: int, stop: int, log: BlockLog) -> Alive:
        x = alive.x
        for block in self.blocks[start:stop]:
            x = block(x, alive.lengths)
            log.rows.append(alive.rows)
            log.lengths.append(alive.lengths)
        return Alive(x, alive.rows, alive.lengths, alive.weight)

    @staticmethod
    def _score(stage: int, alive: Alive, sparsifier: Sparsifier) -> tuple[Tensor, ...]:
        """Score the tokens of each window; class tokens are never scored."""
        return tuple(sparsifier.score(stage, x[1:]) for x in alive.x.split(alive.lengths))


def _scored_rows(alive: Alive, scores: tuple[Tensor, ...]) -> tuple[tuple[Tensor, Tensor], ...]:
    parts = alive.rows.split(alive.lengths)
    return tuple((rows[1:], a) for rows, a in zip(parts, scores, strict=True))


def _prune(
    alive: Alive,
    stage: int,
    scores: tuple[Tensor, ...],
    keep_ratio: float,
    sparsifier: Sparsifier,
) -> tuple[Alive, Group, Tensor]:
    """Split the tokens alive into those that go on and those that leave; return the gates too."""
    keeps, gates = [], []
    for a in scores:
        decision = sparsifier.decide(stage, a, keep_ratio)
        head = torch.ones(1, dtype=torch.bool, device=a.device)
        keeps.append(torch.cat([head, decision.keep]))
        gate = decision.keep.float() if decision.gate is None else decision.gate
        gates.append(torch.cat([head.float(), gate]))
    keep = torch.cat(keeps)
    stay, leave = keep.nonzero()[:, 0], (~keep).nonzero()[:, 0]
    kept, pruned, weight = alive.x[stay], alive.x[leave], None
    gate = torch.cat(gates)
    if alive.weight is not None:
        # values are exactly 1: the products only carry the gradient to the scores
        gate = gate * alive.weight
        weight = gate[stay]
        kept = kept * weight[:, None].to(kept.dtype)
        pruned = pruned * (1.0 - gate[leave])[:, None].to(pruned.dtype)
    lengths = tuple(int(k.sum()) for k in keeps)
    group = Group(pruned, alive.rows[leave])
    return Alive(kept, alive.rows[stay], lengths, weight), group, gate
