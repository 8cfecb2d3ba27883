"""What a session says of the voxels of the shown tokens, beside the truth on the model grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.canonical import ModelSpace
from napari_sparseseg.network.fields import cut_patches
from napari_sparseseg.placement import pad_to_grid
from napari_sparseseg.scores import PatchScores
from napari_sparseseg.training.scans import classes_in

OUTSIDE = -1
"""Class of voxels of the token grid that lie outside the scan."""


@dataclass(frozen=True, eq=False)
class Voxels:
    """The voxels of the shown tokens, ``(tokens, patch ** 3)`` each.

    Attributes
    ----------
    shown : ndarray of bool
        Token grid, True where the network is shown a token; the order of the tokens is its
        raster order.
    truth : ndarray of int
        True class, :data:`OUTSIDE` where there is no scan.
    found : ndarray of int
        Most probable class.
    confidence : ndarray of float32
        Its probability.
    """

    shown: NDArray[np.bool_]
    truth: NDArray[np.int64]
    found: NDArray[np.int64]
    confidence: NDArray[np.float32]

    @classmethod
    def of(cls, scores: PatchScores, space: ModelSpace, truth: NDArray[np.integer]) -> Voxels:
        """Bring the truth onto the model grid and cut it into the same patches.

        Parameters
        ----------
        scores : PatchScores
            Class probabilities on the model grid.
        space : ModelSpace
            The model grid of the scan.
        truth : ndarray of int
            Class of each voxel of the scan.
        """
        on_grid = (
            pad_to_grid(classes_in(space, truth) - OUTSIDE, scores.lead, scores.patch) + OUTSIDE
        )
        patches = cut_patches(on_grid[None, ..., None], scores.patch)[..., 0]
        shown = scores.rows.cpu() >= 0
        best = scores.values[scores.rows[scores.rows >= 0]].max(dim=-1)
        return cls(
            shown.numpy(),
            patches[shown.flatten()].numpy(),
            best.indices.cpu().numpy(),
            best.values.float().cpu().numpy(),
        )
