"""The small protocol behind which every sparsifier lives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from napari_sparseseg.methods import METHODS, Fate, Method
from napari_sparseseg.network.blocks import Attend, attend_to_all
from napari_sparseseg.network.config import NetworkConfig

if TYPE_CHECKING:
    from napari_sparseseg.network.encoded import Encoded


@dataclass(frozen=True)
class Scores:
    """How a sparsifier judges the tokens of one window at one stage.

    Attributes
    ----------
    importance : Tensor
        ``(tokens,)`` float32, higher for tokens that go on rather; goes into the trace.
    details : object
        Whatever else the sparsifier wants to see again in ``decide`` and ``loss``.
    quota : int or None
        How many of these tokens the rule that a control follows let go on (see
        :attr:`Sparsifier.follows`); filled in by the encoder.
    """

    importance: Tensor
    details: Any = None
    quota: int | None = None


@dataclass(frozen=True)
class Decision:
    """What a sparsifier decided for the tokens of one window at one stage.

    Attributes
    ----------
    keep : Tensor
        ``(tokens,)`` bool, True where the token goes on.
    gate : Tensor or None
        ``(tokens,)`` with the value of ``keep``, carrying the gradient to the score while
        training; None if there is none to carry.
    label : Tensor or None
        ``(tokens,)`` class of a token's whole patch, final where it does not go on; None for
        sparsifiers whose tokens are decoded all the same.
    """

    keep: Tensor
    gate: Tensor | None = None
    label: Tensor | None = None


@dataclass(frozen=True)
class AttentionPlace:
    """Where an attention is computed, for a sparsifier that brings its own.

    Attributes
    ----------
    block : int
        Index of the block, from 0.
    window : int
        Index of the window in the batch.
    positions : Tensor
        ``(n,)`` raster index of each row's token in the window, -1 for the class token.
    attending : Tensor or None
        ``(n,)`` bool, rows whose query was not pruned; None before anything was decided.
    setting : float
        The method's setting; 1 prunes nothing.
    notes : list
        The attention may add :class:`AttentionNote` to it.
    """

    block: int
    window: int
    positions: Tensor
    attending: Tensor | None
    setting: float
    notes: list[AttentionNote]


@dataclass(frozen=True)
class AttentionNote:
    """What a sparsifier's own attention left to be seen.

    Attributes
    ----------
    block, window : int
        Where it was.
    penalty : Tensor or None
        Term of the method's loss, while training.
    kept : Tensor or None
        ``(n, n)`` uint8; by query and key, the number of heads that kept the dependency.
    """

    block: int
    window: int
    penalty: Tensor | None = None
    kept: Tensor | None = None


class Sparsifier(nn.Module, ABC):
    """Decides before some blocks which tokens go on.

    A subclass scores tokens and decides. The encoder calls :meth:`score` once per stage and
    window, then :meth:`decide`; scores do not depend on the setting, which lets a session
    keep those of the first stage while the slider moves.

    Parameters
    ----------
    config : NetworkConfig
        Architecture of the network that it is part of.
    method : str
        Name under which it is registered in ``methods.METHODS``.

    Attributes
    ----------
    method : Method
        What is declared of it: the fate of its tokens, its setting, what it can show.
    closes_detail : bool
        Whether a token that does not go on at the first stage may lose its image detail
        (``DecoderConfig.detail``).
    attends_its_own_way : bool
        Whether :meth:`attention` is asked for every window and block.
    muted_rest : bool
        Whether a token whose query is pruned skips the MLP too, so that a block leaves it as it
        is; it is still attended to.
    """

    closes_detail = True
    attends_its_own_way = False
    muted_rest = False

    def __init__(self, config: NetworkConfig, method: str) -> None:
        super().__init__()
        self.config = config
        self.method: Method = METHODS[method]

    @property
    def follows(self) -> Sparsifier | None:
        """Rule that the encoder runs first, to tell this one how many tokens went on where."""
        return None

    @property
    def fate(self) -> Fate:
        """What happens to a token that does not go on."""
        return self.method.fate

    def stages(self) -> tuple[int, ...]:
        """Return the number of blocks before each stage, where it decides; rising."""
        return self.config.stages

    @abstractmethod
    def score(self, stage: int, tokens: Tensor) -> Scores:
        """Score tokens.

        Parameters
        ----------
        stage : int
            Index of the stage, from 0.
        tokens : Tensor
            ``(tokens, dim)`` features of one window before the stage's first block, class
            token left out.
        """

    @abstractmethod
    def decide(self, stage: int, scores: Scores, setting: float) -> Decision:
        """Turn the scores of the tokens into a decision; at a setting of 1 all go on."""

    def attention(self, place: AttentionPlace) -> Attend:
        """Return the attention of a window in a block, if the method has its own."""
        return attend_to_all

    def loss(self, encoded: Encoded, mix: Tensor) -> Tensor:
        """Return the method's own loss beside that of the segmentation, a scalar.

        Parameters
        ----------
        encoded : Encoded
            The encoder's answer while training.
        mix : Tensor
            ``(tokens, classes)`` share of each class in the patch of each token, in the order
            of ``encoded.layout.cells``.
        """
        return mix.new_zeros(())

    def attention_macs(self, attending: int) -> int:
        """Multiply-accumulates that the method adds to a block in which it prunes queries.

        Parameters
        ----------
        attending : int
            Rows of one window whose query was not pruned.
        """
        return 0

    def macs(self, stage: int, tokens: int) -> int:
        """Multiply-accumulates of scoring this many tokens of one window at a stage."""
        return 0
