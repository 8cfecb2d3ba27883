"""The ViT encoder over packed tokens, interrupted at stages where a sparsifier decides."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sparseseg.network.blocks import (
    Attend,
    Block,
    attend_to_all,
    block_macs,
    sincos_positions,
)
from napari_sparseseg.network.config import NetworkConfig
from napari_sparseseg.network.encoded import BlockLog, Encoded, Scored
from napari_sparseseg.network.fields import BlockField
from napari_sparseseg.network.layout import TokenLayout
from napari_sparseseg.network.sparsifiers import Decision, Scores, Sparsifier
from napari_sparseseg.network.sparsifiers.base import AttentionNote, AttentionPlace


@dataclass(frozen=True)
class Active:
    """The rows that the next blocks are given.

    Attributes
    ----------
    rows : Tensor
        ``(n,)`` rows of the layout, window after window.
    lengths : tuple of int
        How many of them belong to each window; the first of each is its class token.
    gate : Tensor or None
        ``(n,)`` gates of skipped tokens while training, when a block runs them all.
    attending : Tensor or None
        ``(n,)`` bool, rows whose query was not pruned.
    """

    rows: Tensor
    lengths: tuple[int, ...]
    gate: Tensor | None = None
    attending: Tensor | None = None


@dataclass
class Stream:
    """All tokens on their way through the encoder.

    Attributes are those of :class:`Encoded`; ``active`` are the rows that go on, ``weight`` is
    ``(rows,)`` the product of the gates so far (value 1), None at inference.
    """

    layout: TokenLayout
    x: Tensor
    active: Active
    left: Tensor
    label: Tensor
    went_on: Tensor
    weight: Tensor | None
    log: BlockLog = field(default_factory=BlockLog)
    hidden: list[Tensor] = field(default_factory=list)
    scored: list[tuple[Scored, ...]] = field(default_factory=list)
    notes: list[AttentionNote] = field(default_factory=list)

    def copy(self) -> Stream:
        """Return a stream that can go on without changing this one."""
        return replace(
            self,
            log=self.log.copy(),
            hidden=list(self.hidden),
            scored=list(self.scored),
            notes=list(self.notes),
        )


@dataclass(frozen=True)
class FirstStage:
    """What does not depend on the setting: the tokens at the first stage and their scores.

    Attributes
    ----------
    stream : Stream
        All tokens, after the blocks before the first stage.
    scores : tuple of Scores
        Per window, at the first stage.
    """

    stream: Stream
    scores: tuple[Scores, ...]

    @property
    def layout(self) -> TokenLayout:
        """Rows of the tokens."""
        return self.stream.layout


class SparseEncoder(nn.Module):
    """Patch embedding and ViT blocks; a sparsifier decides which tokens they are given.

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
        patches = BlockField(~air).cut(windows, self.config.patch).flatten(1)
        weight = self.embed.weight.permute(0, 2, 3, 4, 1).flatten(1)
        tokens = F.linear(patches, weight, self.embed.bias)
        tokens = tokens + self.positions[layout.positions].to(tokens.dtype)
        heads = self.class_token.to(tokens.dtype).expand(len(layout.counts), -1)
        x = tokens.new_empty(layout.size, self.config.dim)
        x = x.index_copy(0, layout.rows, tokens).index_copy(0, layout.heads, heads)
        rows = torch.arange(layout.size, device=x.device)
        ones = torch.ones(layout.size, device=x.device)
        stream = Stream(
            layout,
            x,
            Active(rows, layout.lengths()),
            left=torch.zeros_like(rows, dtype=torch.uint8),
            label=torch.full_like(rows, -1),
            went_on=ones,
            weight=ones if self.training else None,
        )
        self._run(stream, 0, sparsifier.stages()[0], sparsifier, setting=1.0)
        return FirstStage(stream, _score(0, stream, sparsifier))

    def finish(self, first: FirstStage, setting: float, sparsifier: Sparsifier) -> Encoded:
        """Let the sparsifier decide at every stage and run the blocks behind the first one.

        Parameters
        ----------
        first : FirstStage
            From :meth:`begin`; it is not changed and can be used again.
        setting : float
            The method's setting, in (0, 1]; 1 prunes nothing.
        sparsifier : Sparsifier
            Decides; the one that scored the first stage.
        """
        quotas = self._quotas(first, setting, sparsifier)
        stream = first.stream.copy()
        bounds = (*sparsifier.stages(), self.config.depth)
        for stage in range(len(bounds) - 1):
            scores = _score(stage, stream, sparsifier) if stage else first.scores
            if quotas:
                pairs = zip(scores, quotas[stage], strict=True)
                scores = tuple(replace(s, quota=quota) for s, quota in pairs)
            self._decide(stream, stage, scores, setting, sparsifier)
            self._run(stream, bounds[stage], bounds[stage + 1], sparsifier, setting)
        return Encoded(
            stream.layout,
            setting,
            sparsifier.fate,
            stream.x,
            tuple(stream.hidden),
            stream.left,
            stream.label,
            stream.went_on,
            tuple(stream.scored),
            stream.log,
            tuple(stream.notes),
        )

    def _quotas(self, first: FirstStage, setting: float, sparsifier: Sparsifier) -> list[list[int]]:
        """Return, by stage and window, how many tokens the followed rule lets go on."""
        if sparsifier.follows is None:
            return []
        own = FirstStage(first.stream, tuple(scores.details for scores in first.scores))
        informed = self.finish(own, setting, sparsifier.follows)
        return [[int(w.decision.keep.sum()) for w in windows] for windows in informed.scored]

    def _decide(
        self,
        stream: Stream,
        stage: int,
        scores: tuple[Scores, ...],
        setting: float,
        sparsifier: Sparsifier,
    ) -> None:
        """Ask the sparsifier, note what it says, and choose the rows of the next blocks."""
        rows, lengths = _judged(stream, sparsifier)
        decisions = [sparsifier.decide(stage, s, setting) for s in scores]
        parts = rows.split(lengths)
        stream.scored.append(
            tuple(
                Scored(part[1:], s, d) for part, s, d in zip(parts, scores, decisions, strict=True)
            )
        )
        keep, gate = _with_class_tokens(decisions, lengths)
        if stage == 0 and sparsifier.closes_detail:
            stream.went_on = stream.went_on.index_copy(0, rows, gate.to(stream.went_on.dtype))
        if sparsifier.fate == "muted":
            stream.active = Active(rows, lengths, attending=keep)
        elif sparsifier.fate == "skipped" and self.training:
            stream.active = Active(rows, lengths, gate=gate)
        else:
            kept = tuple(int(part.sum()) for part in keep.split(lengths))
            stream.active = Active(rows[keep], kept)
            if sparsifier.fate != "skipped":
                _let_leave(stream, stage, rows, keep, gate, decisions, lengths)

    def _run(
        self, stream: Stream, start: int, stop: int, sparsifier: Sparsifier, setting: float
    ) -> None:
        """Run blocks on the active rows; the others stay as they are."""
        active = stream.active
        everything = len(active.rows) == len(stream.x)
        x = stream.x if everything else stream.x[active.rows]
        for index in range(start, stop):
            if index in self.config.stages:
                stream.x = x if everything else stream.x.index_copy(0, active.rows, x)
                stream.hidden.append(stream.x)
            if len(active.rows):
                attends = self._attentions(stream, index, sparsifier, setting)
                y = self.blocks[index](
                    x, active.lengths, attends, active.attending, sparsifier.muted_rest
                )
                x = y if active.gate is None else torch.lerp(x, y, active.gate[:, None].to(y.dtype))
            self._note(stream, sparsifier, setting)
        stream.x = x if everything else stream.x.index_copy(0, active.rows, x)

    def _attentions(
        self, stream: Stream, index: int, sparsifier: Sparsifier, setting: float
    ) -> list[Attend] | None:
        active = stream.active
        if active.gate is not None:
            flags = (active.gate > 0.5).split(active.lengths)
            return [_attend_to_kept(part) for part in flags]
        if not sparsifier.attends_its_own_way:
            return None
        own: list[Attend] = []
        raster = stream.layout.raster[active.rows].split(active.lengths)
        for window, positions in enumerate(raster):
            attending = active.attending
            if attending is not None:
                attending = attending.split(active.lengths)[window]
            place = AttentionPlace(index, window, positions, attending, setting, stream.notes)
            own.append(sparsifier.attention(place))
        return own

    def _note(self, stream: Stream, sparsifier: Sparsifier, setting: float) -> None:
        """Write down what a block was given and what that cost."""
        active, log, config = stream.active, stream.log, self.config
        rows, lengths = active.rows, active.lengths
        if active.attending is not None:
            lengths = tuple(int(part.sum()) for part in active.attending.split(lengths))
            rows = rows[active.attending]
        log.rows.append(rows)
        log.lengths.append(lengths)
        log.macs += block_macs(
            active.lengths, config.dim, config.mlp_ratio, lengths, sparsifier.muted_rest
        )
        if active.attending is not None and setting < 1:
            log.macs += sum(map(sparsifier.attention_macs, lengths))


def _judged(stream: Stream, sparsifier: Sparsifier) -> tuple[Tensor, tuple[int, ...]]:
    """Return the rows that a stage judges: those that have not left for good."""
    if sparsifier.fate in ("skipped", "muted"):
        return torch.arange(len(stream.x), device=stream.x.device), stream.layout.lengths()
    return stream.active.rows, stream.active.lengths


def _score(stage: int, stream: Stream, sparsifier: Sparsifier) -> tuple[Scores, ...]:
    """Score the tokens of each window; class tokens are never scored."""
    rows, lengths = _judged(stream, sparsifier)
    return tuple(sparsifier.score(stage, x[1:]) for x in stream.x[rows].split(lengths))


def _with_class_tokens(
    decisions: list[Decision], lengths: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Join the decisions of all windows.

    A class token goes with the last token of its window; alone from the start, it stays.
    """
    keeps, gates = [], []
    for decision, length in zip(decisions, lengths, strict=True):
        head = (decision.keep.any() | (length == 1))[None] if length else decision.keep
        keeps.append(torch.cat([head, decision.keep]))
        gate = decision.keep.float() if decision.gate is None else decision.gate
        gates.append(torch.cat([head.float(), gate]))
    return torch.cat(keeps), torch.cat(gates)


def _let_leave(
    stream: Stream,
    stage: int,
    rows: Tensor,
    keep: Tensor,
    gate: Tensor,
    decisions: list[Decision],
    lengths: tuple[int, ...],
) -> None:
    """Mark the rows that leave for good, with their final label if they have one."""
    leaving = rows[~keep]
    stream.left = stream.left.index_fill(0, leaving, stage + 1)
    if any(decision.label is not None for decision in decisions):
        labels = [
            torch.cat([d.label.new_full((min(n, 1),), -1), d.label])
            for d, n in zip(decisions, lengths, strict=True)
            if d.label is not None
        ]
        stream.label = stream.label.index_copy(0, leaving, torch.cat(labels)[~keep])
    if stream.weight is not None:
        # values are exactly 1: the products only carry the gradient to the scores
        gate = gate * stream.weight[rows]
        factor = torch.ones_like(stream.weight)
        factor = factor.index_copy(0, rows, torch.where(keep, gate, 1.0 - gate))
        stream.weight = stream.weight.index_copy(0, rows, gate)
        stream.x = stream.x * factor[:, None].to(stream.x.dtype)


def _attend_to_kept(keep: Tensor) -> Attend:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=keep[None])[0]

    # a window in which nothing is kept must not divide by zero; its gates are all 0
    return attend if bool(keep.any()) else attend_to_all
