"""The calls of the network: which windows go through it together, up to the first stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sparseseg.network import Prepared, SparseUNETR
from napari_sparseseg.network.sparsifiers import Scores
from napari_sparseseg.placement import Placement, cut_window

TOKENS_PER_CALL = 2048
"""Windows are packed into one call up to so many tokens: enough to keep a processor busy, and no
more memory than one dense window takes."""


@dataclass(frozen=True, eq=False)
class Front:
    """Runs windows of an image up to the first stage.

    Attributes
    ----------
    network : SparseUNETR
        The network.
    image : Tensor
        ``(x, y, z)`` the image on the token grid, on the network's device.
    skip_air : bool
        Whether tokens of air stay out of the network.
    """

    network: SparseUNETR
    image: Tensor
    skip_air: bool

    @torch.inference_mode()
    def prepare(self, places: Sequence[Placement]) -> Prepared:
        """Cut windows out of the image and run the blocks before the first stage."""
        config = self.network.config
        windows = torch.stack(
            [cut_window(self.image, p.origin, config.window, config.patch) for p in places]
        )[:, None]
        air = self.network.find_air(windows)
        return self.network.prepare(windows, air if self.skip_air else torch.zeros_like(air))


@dataclass(frozen=True, eq=False)
class Scored:
    """The scores of some windows at the first stage: all that a preview needs.

    Attributes
    ----------
    places : sequence of Placement
        Where the windows lie.
    scores : tuple of Scores
        One for each window.
    cells : Tensor
        Index of each scored token in the flattened ``(windows, grid)`` map.
    """

    places: Sequence[Placement]
    scores: tuple[Scores, ...]
    cells: Tensor


@dataclass(frozen=True, eq=False)
class Call:
    """Windows that go through the network together.

    Attributes
    ----------
    scored : Scored
        Where they lie, and their scores.
    source : Prepared or Front
        They, up to the first stage, or what runs them up to there again.
    """

    scored: Scored
    source: Prepared | Front

    @classmethod
    def of(cls, places: Sequence[Placement], front: Front, cached: bool) -> Call:
        """Run windows up to the first stage, and keep that or the scores alone."""
        prepared = front.prepare(places)
        first = prepared.first
        scored = Scored(places, first.scores, first.layout.cells)
        return cls(scored, prepared if cached else front)

    @property
    def places(self) -> Sequence[Placement]:
        """Where the windows lie."""
        return self.scored.places

    def prepared(self) -> Prepared:
        """Return the windows up to the first stage."""
        if isinstance(self.source, Front):
            return self.source.prepare(self.places)
        return self.source


def group_windows(tokens: Sequence[int], packed: bool) -> list[slice]:
    """Group the windows that go through the network in one call.

    Parameters
    ----------
    tokens : sequence of int
        Tokens of each window.
    packed : bool
        Whether several may share a call.
    """
    groups = []
    start = together = 0
    for number, more in enumerate(tokens):
        if number > start and (not packed or together + more > TOKENS_PER_CALL):
            groups.append(slice(start, number))
            start, together = number, 0
        together += more
    return [*groups, slice(start, len(tokens))]


def count_tokens(
    places: Sequence[Placement], tissue: NDArray[np.bool_], skip_air: bool, window: tuple[int, ...]
) -> list[int]:
    """Return how many tokens of each window enter the network."""
    return [int(tissue[p.outer].sum()) if skip_air else math.prod(window) for p in places]
