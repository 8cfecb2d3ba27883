"""What the encoder hands on: every token, where it left, and the record of how that came."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from napari_sparseseg.methods import Fate
from napari_sparseseg.network.layout import TokenLayout
from napari_sparseseg.network.sparsifiers.base import AttentionNote, Decision, Scores


@dataclass
class BlockLog:
    """What each block was really given, written by the encoder as it runs.

    Attributes
    ----------
    rows : list of Tensor
        Per block, the rows of the tokens that it ran, class tokens included. Muted tokens are
        left out: the block ran its MLP on them, but not their attention.
    lengths : list of tuple of int
        Per block, how many of these rows belong to each window.
    macs : int
        Multiply-accumulates of all blocks, from the sizes of what they were given.
    """

    rows: list[Tensor] = field(default_factory=list)
    lengths: list[tuple[int, ...]] = field(default_factory=list)
    macs: int = 0

    def copy(self) -> BlockLog:
        """Return a log that can grow without changing this one."""
        return BlockLog(list(self.rows), list(self.lengths), self.macs)


@dataclass(frozen=True)
class Scored:
    """The tokens of one window at one stage: who was judged, how, and what came of it.

    Attributes
    ----------
    rows : Tensor
        ``(tokens,)`` rows of the layout.
    scores : Scores
        The judgement.
    decision : Decision
        What was decided.
    """

    rows: Tensor
    scores: Scores
    decision: Decision


@dataclass(frozen=True)
class Encoded:
    """Every token of the batch with the features it left the encoder with.

    Attributes
    ----------
    layout : TokenLayout
        Rows of the tokens.
    setting : float
        The method's setting.
    fate : str
        What happened to the tokens that did not go on.
    x : Tensor
        ``(rows, dim)`` features; of a token that left, those that it left with.
    hidden : tuple of Tensor
        ``(rows, dim)`` features after each of the architecture's stages (z3, z6, z9).
    left : Tensor
        ``(rows,)`` uint8; stage, from 1, at which the row left for good, 0 if it did not.
    label : Tensor
        ``(rows,)`` class of the token's whole patch where it exited, else -1.
    went_on : Tensor
        ``(rows,)`` 1 where the token gets image detail: all, or those that the first stage let
        go on; carries the gradient to the scores while training.
    scored : tuple of tuple of Scored
        Per stage and window.
    log : BlockLog
        The blocks that ran.
    notes : tuple of AttentionNote
        What the sparsifier's own attention left, if it has one.
    """

    layout: TokenLayout
    setting: float
    fate: Fate
    x: Tensor
    hidden: tuple[Tensor, ...]
    left: Tensor
    label: Tensor
    went_on: Tensor
    scored: tuple[tuple[Scored, ...], ...]
    log: BlockLog
    notes: tuple[AttentionNote, ...]

    def at_rows(self, values: Tensor) -> Tensor:
        """Bring ``(tokens, ...)`` values of the layout into the order of its rows.

        Rows of class tokens are zero.
        """
        by_row = values.new_zeros((self.layout.size, *values.shape[1:]))
        return by_row.index_copy(0, self.layout.rows, values)
