"""How the answers of windows are joined: probabilities of the tokens they answered for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sparseseg.network import NetworkConfig, Output
from napari_sparseseg.network.fields import cut_patches
from napari_sparseseg.placement import Placement
from napari_sparseseg.scores import PatchScores


def blend_weights(window: tuple[int, int, int]) -> Tensor:
    """Return the weight of each voxel of a window where windows overlap.

    A separable hat, highest in the middle and positive everywhere, so that a voxel seen by one
    window alone keeps that window's answer exactly.

    Parameters
    ----------
    window : tuple of int
        Window in voxels.
    """
    x, y, z = (_hat(n) for n in window)
    return x[:, None, None] * y[None, :, None] * z[None, None, :]


def _hat(n: int) -> Tensor:
    ramp = torch.arange(1, n + 1, dtype=torch.float32)
    return torch.minimum(ramp, ramp.flip(0)) / ((n + 1) // 2)


_CHUNK = 32  # tokens whose probabilities stay in cache


class Canvas:
    """Joins the class probabilities of windows on the token grid of a volume.

    Only tokens that the network is shown have a place. Where windows overlap, each counts as
    :func:`blend_weights` says.

    Parameters
    ----------
    shown : ndarray of bool
        Token grid, True where the network is shown a token.
    config : NetworkConfig
        Architecture: classes, window, patch.
    places : sequence of Placement
        All windows that will be added.
    device : str
        Where to sum; the windows may come from another processor.
    """

    def __init__(
        self,
        shown: NDArray[np.bool_],
        config: NetworkConfig,
        places: Sequence[Placement],
        device: str,
    ) -> None:
        self.config = config
        covered = np.zeros(shown.shape, dtype=np.int32)
        for place in places:
            covered[place.outer] += 1
        shown = shown & (covered > 0)
        rows = np.full(shown.shape, -1)
        rows[shown] = np.arange(shown.sum())
        self.rows = torch.from_numpy(rows).to(device)
        self.shared = torch.from_numpy(covered[shown] > 1).to(device)
        voxels = config.patch**3
        size = (len(self.shared), voxels)
        self.values = torch.empty(*size, config.classes, device=device)
        if bool(self.shared.any()):
            self.values.zero_()
            self.weight = torch.zeros(*size, 1, device=device)
            blend = blend_weights(config.window)[None, ..., None]
            self.blend = cut_patches(blend, config.patch).to(device)

    def add(self, output: Output, places: Sequence[Placement]) -> None:
        """Add the answers of some windows."""
        layout = output.encoded.layout
        cells = layout.positions.to(self.rows.device).split(layout.counts)
        scores = output.scores.split(layout.counts)
        for window, answer, place in zip(cells, scores, places, strict=True):
            rows = self.rows.new_full(self.config.grid, -1)
            rows[place.inner] = self.rows[place.outer]
            rows = rows.flatten()[window]
            parts = (rows.split(_CHUNK), window.split(_CHUNK), answer.split(_CHUNK))
            for part in zip(*parts, strict=True):
                self._add(*part)

    def _add(self, rows: Tensor, cells: Tensor, scores: Tensor) -> None:
        probabilities = scores.softmax(dim=-1, dtype=torch.float32).to(rows.device)
        inside = rows >= 0
        if not bool(inside.all()):
            rows, cells, probabilities = rows[inside], cells[inside], probabilities[inside]
        shared = self.shared[rows]
        if not bool(shared.any()):
            self.values.index_copy_(0, rows, probabilities)
            return
        blend = torch.where(shared[:, None, None], self.blend[cells], 1.0)
        self.values.index_add_(0, rows, probabilities * blend)
        self.weight.index_add_(0, rows, blend)

    def result(self, lead: tuple[int, int, int]) -> PatchScores:
        """Return the weighted means; what no window was shown is background.

        Parameters
        ----------
        lead : tuple of int
            Voxels of the token grid before the image.
        """
        if bool(self.shared.any()):
            for rows in self.shared.nonzero()[:, 0].split(_CHUNK):  # no copy of all of them
                self.values[rows] /= self.weight[rows]
            self.shared = torch.zeros_like(self.shared)
        return PatchScores(self.rows, self.values, self.config.patch, lead)
