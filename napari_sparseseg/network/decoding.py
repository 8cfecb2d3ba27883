"""From completed tokens to class scores: which tokens are decoded, how finely, and where."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sparseseg.network.completion import Completed
from napari_sparseseg.network.config import NetworkConfig
from napari_sparseseg.network.decoder import UNETRDecoder
from napari_sparseseg.network.encoded import Encoded
from napari_sparseseg.network.fields import BlockField, Field, WholeField

UNLIKELY = -30.0
"""Score of every other class in a patch whose class is known; its own has 0."""


@dataclass(frozen=True)
class Decoded:
    """How many tokens each part of the decoder ran on, wanted or not.

    Attributes
    ----------
    coarse, fine, drawn : int
        Tokens at the levels up to 1/4, at those behind them, and in the patch-wise head.
    """

    coarse: int
    fine: int
    drawn: int


@dataclass(frozen=True)
class Output:
    """What the network says about a batch of windows.

    Attributes
    ----------
    scores : Tensor
        ``(tokens, voxels, classes)`` class scores of the tokens of ``encoded.layout``, the voxels
        of a patch in raster order. Everything else is air, which is background.
    encoded : Encoded
        The tokens as they left the encoder.
    completed : Tensor
        ``(rows, dim)`` completed features, in the order of ``encoded.layout``.
    decoded : Decoded
        What the decoder ran on.
    drawn : Tensor or None
        Scores like ``scores`` of the patch-wise head alone, while training one.
    """

    scores: Tensor
    encoded: Encoded
    completed: Tensor
    decoded: Decoded
    drawn: Tensor | None = None

    @property
    def logits(self) -> Tensor:
        """``(n, classes, x, y, z)`` class scores of the whole windows."""
        layout = self.encoded.layout
        _, voxels, classes = self.scores.shape
        n, (gx, gy, gz), patch = len(layout.counts), layout.grid, round(voxels ** (1 / 3))
        blocks = self.scores.new_full((n * gx * gy * gz, voxels, classes), UNLIKELY)
        blocks[..., 0] = 0
        blocks = blocks.index_copy(0, layout.cells, self.scores)
        blocks = blocks.view(n, gx, gy, gz, patch, patch, patch, classes)
        blocks = blocks.permute(0, 7, 1, 4, 2, 5, 3, 6)
        return blocks.reshape(n, classes, gx * patch, gy * patch, gz * patch)


def decode(
    decoder: UNETRDecoder,
    air_token: Tensor,
    windows: Tensor,
    encoded: Encoded,
    completed: Completed,
    active_blocks: bool,
) -> Output:
    """Decode the tokens whose prediction is not final.

    Parameters
    ----------
    decoder : UNETRDecoder
        The decoder.
    air_token : Tensor
        ``(dim,)`` what stands for air in the token maps, where the context is the window.
    windows : Tensor
        ``(n, channels, x, y, z)`` normalised intensities.
    encoded : Encoded
        The encoder's answer.
    completed : Completed
        Features of every token.
    active_blocks : bool
        Whether to decode the blocks of open tokens alone, where the context allows it.
    """
    config, layout = decoder.config, encoded.layout
    undecided = torch.ones_like(layout.cells, dtype=torch.bool)
    if encoded.fate == "exited":
        undecided = encoded.label[layout.rows] < 0
    scores = _known_scores(encoded, config)
    if not bool(undecided.any()):
        return Output(scores, encoded, completed.last, Decoded(0, 0, 0))

    make_field = partial(_field, encoded, config, active_blocks)
    coarse = make_field(undecided)
    maps = _token_maps(encoded, completed, air_token, coarse, config)
    y = decoder.coarse(maps, coarse)
    if decoder.patch_head is None:
        shown = _shown(encoded) if config.decoder.detail == "open" else None
        scores = _put(scores, undecided, decoder.fine(y, maps, windows, shown, coarse))
        return Output(scores, encoded, completed.last, Decoded(coarse.tokens, coarse.tokens, 0))

    gate = encoded.went_on[layout.rows]
    detailed = undecided & (gate > 0.5)
    plain = undecided if decoder.training else undecided & ~detailed
    drawn, drawn_tokens, fine_tokens = None, 0, 0
    if bool(plain.any()):
        drawing = make_field(plain)
        drawn_tokens = drawing.tokens
        answer = drawing.patches(decoder.patch_head(drawing.select(y, coarse)))
        drawn = scores = _put(scores, plain, answer)
    if bool(detailed.any()):
        refining = make_field(detailed)
        fine_tokens = refining.tokens
        fine = decoder.fine(refining.select(y, coarse), maps, windows, None, refining)
        if decoder.training:  # the gate is 1: the score learns what the fine levels improve
            plainly = scores[detailed].to(fine.dtype)
            fine = plainly + gate[detailed, None, None].to(fine.dtype) * (fine - plainly)
        scores = _put(scores, detailed, fine)
    ran = Decoded(coarse.tokens, fine_tokens, drawn_tokens)
    return Output(scores, encoded, completed.last, ran, drawn if decoder.training else None)


def _put(scores: Tensor, tokens: Tensor, values: Tensor) -> Tensor:
    """Return the scores with those of some tokens, ``(tokens,)`` bool, replaced."""
    rows = tokens.nonzero()[:, 0]
    if len(rows) == len(scores):
        return values
    if values.requires_grad or scores.requires_grad:
        return scores.to(values.dtype).index_copy(0, rows, values)
    return scores.to(values.dtype).index_copy_(0, rows, values)  # saves a copy of all scores


def _known_scores(encoded: Encoded, config: NetworkConfig) -> Tensor:
    """Return the scores of tokens that exited; those of the others will be written over."""
    layout, voxels = encoded.layout, config.patch**3
    scores = encoded.x.new_empty(len(layout.cells), voxels, config.classes)
    if encoded.fate == "exited":
        label = encoded.label[layout.rows]
        known = F.one_hot(label.clamp_min(0), config.classes).to(scores.dtype)
        scores.copy_((UNLIKELY * (1 - known))[:, None].expand_as(scores))
    return scores


def _field(encoded: Encoded, config: NetworkConfig, active_blocks: bool, tokens: Tensor) -> Field:
    """Return the field of some tokens, given as ``(tokens,)`` bool in the layout's order."""
    layout, alone = encoded.layout, config.decoder.context == "open"
    cells = len(layout.counts) * math.prod(config.grid)
    served = tokens.new_zeros(cells).index_fill(0, layout.cells[tokens], True)
    served = served.view(len(layout.counts), *config.grid)
    return BlockField(served) if alone and active_blocks else WholeField(served, alone)


def _token_maps(
    encoded: Encoded, completed: Completed, air_token: Tensor, field: Field, config: NetworkConfig
) -> tuple[Tensor, ...]:
    """Return the maps of the three skips and of the bottleneck, as the decoder may see them."""
    alone = config.decoder.context == "open"
    fill = torch.zeros_like(air_token) if alone else air_token
    maps: dict[int, Tensor] = {}
    for rows in (*completed.skips, completed.last):  # often one and the same
        if id(rows) not in maps:
            token_map = encoded.layout.to_map(rows, fill)
            hidden = alone and encoded.fate == "exited"
            maps[id(rows)] = token_map * field.served[..., None] if hidden else token_map
    return tuple(maps[id(rows)] for rows in (*completed.skips, completed.last))


def _shown(encoded: Encoded) -> Tensor:
    """Return ``(n, grid, 1)``: 1 where the image is shown, with the gradient to the scores."""
    gate = encoded.went_on[:, None]
    return encoded.layout.to_map(gate, gate.new_ones(1))
