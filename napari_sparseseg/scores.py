"""Class probabilities on the model grid, kept only where the network answered."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_CHUNK = 256
"""Patches whose probabilities are looked at together; they stay in the processor's cache."""


@dataclass(frozen=True, eq=False)
class PatchScores:
    """Class probabilities of the voxels of some patches of the model grid.

    Parameters
    ----------
    rows : Tensor
        Token grid, shape (gx, gy, gz), int64: row of each patch in ``values``, -1 where the
        patch is background with certainty.
    values : Tensor
        Probabilities (non-negative, sum 1), shape (patches, patch**3, classes), contiguous,
        float32 or 16 bit floats, on the device of ``rows``; voxels of a patch in raster order.
    patch : int
        Edge of a patch in voxels.
    lead : tuple of int
        Voxels, below ``patch``, by which the token grid begins earlier than the image along each
        axis: image voxel v is voxel v + lead of the token grid. What of the token grid lies
        outside the image does not count.

    Raises
    ------
    ValueError
        When the shapes do not fit together.
    """

    rows: Tensor
    values: Tensor
    patch: int
    lead: tuple[int, int, int]

    def __post_init__(self) -> None:
        if self.rows.ndim != 3 or self.values.ndim != 3:
            raise ValueError("expected rows (gx, gy, gz) and values (patches, voxels, classes)")
        if self.values.shape[1] != self.patch**3 or not self.values.is_contiguous():
            raise ValueError(
                f"expected contiguous values (patches, {self.patch**3}, classes), "
                f"got {tuple(self.values.shape)}"
            )
        if len(self.lead) != 3 or not all(0 <= lead < self.patch for lead in self.lead):
            raise ValueError(f"expected three leads from 0 to {self.patch - 1}, got {self.lead}")

    @classmethod
    def whole(cls, probabilities: Tensor, patch: int = 8) -> PatchScores:
        """Cut dense probabilities into patches, all of them open.

        Parameters
        ----------
        probabilities : Tensor
            Shape (classes, x, y, z), any float dtype; the last patches are filled with
            background (class 0).
        patch : int
            Edge of a patch in voxels.

        Returns
        -------
        PatchScores
            The same probabilities, with no lead.
        """
        padding: list[int] = []
        for size in probabilities.shape[1:]:
            padding = [0, -size % patch, *padding]
        background = F.pad(probabilities[:1], padding, value=1.0)
        padded = torch.cat([background, F.pad(probabilities[1:], padding)])
        classes, *sizes = padded.shape
        gx, gy, gz = (size // patch for size in sizes)
        cut = padded.reshape(classes, gx, patch, gy, patch, gz, patch)
        values = cut.permute(1, 3, 5, 2, 4, 6, 0).reshape(gx * gy * gz, patch**3, classes)
        rows = torch.arange(len(values), device=values.device).reshape(gx, gy, gz)
        return cls(rows, values.contiguous(), patch, (0, 0, 0))

    @torch.no_grad()
    def confidence(self) -> Tensor:
        """Return how sure the network was of each patch.

        Returns
        -------
        Tensor
            Token grid, float32, on the device of ``rows``: the probability of the most probable
            class, averaged over the voxels of the patch; NaN where the patch is background
            because the network was shown nothing.
        """
        parts = [part.amax(dim=-1).float().mean(dim=-1) for part in self.values.split(_CHUNK)]
        unknown = self.rows.new_full((1,), torch.nan, dtype=torch.float32)
        return torch.cat([*parts, unknown])[self.rows]  # row -1 is the last
