"""Where a token grid lies on an image layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.plugin.geometry import linear_of

if TYPE_CHECKING:
    from napari_sparseseg.tokens import TokenGrid


@dataclass(frozen=True, eq=False)
class TokenPlacement:
    """A token grid as seen from an image layer.

    Token arrays have axes R, A, S; an image layer may have any of the 48 orders and directions.
    :meth:`arrange` brings a token array into those of the layer, so that it can lie on it without
    a rotation.

    Attributes
    ----------
    order : tuple of int
        For each axis of the layer the token axis along it.
    flipped : tuple of int
        Axes of the layer that run against their token axis.
    step : ndarray
        ``(3,)`` size of a token in voxels of the layer.
    first : ndarray
        ``(3,)`` centre of the first token, after :meth:`arrange`, as an index of the layer.
    """

    order: tuple[int, ...]
    flipped: tuple[int, ...]
    step: NDArray[np.float64]
    first: NDArray[np.float64]

    @classmethod
    def of(cls, grid: TokenGrid, image_affine: NDArray[np.float64]) -> TokenPlacement:
        """Compare a token grid with the image that it was laid over.

        Parameters
        ----------
        grid : TokenGrid
            The grid.
        image_affine : ndarray
            ``(4, 4)``, index of the image layer to RAS mm.
        """
        to_index = np.linalg.inv(image_affine) @ grid.affine
        order = np.abs(to_index[:3, :3]).argmax(axis=1)
        step = to_index[range(3), order]
        last = np.array(grid.shape)[order] - 1
        return cls(
            order=tuple(order.tolist()),
            flipped=tuple(np.flatnonzero(step < 0).tolist()),
            step=np.abs(step),
            first=to_index[:3, 3] + np.where(step < 0, step * last, 0.0),
        )

    def arrange(self, tokens: NDArray[Any]) -> NDArray[Any]:
        """Bring an array on the token grid into the axes of the layer; nothing is copied."""
        return np.flip(tokens.transpose(self.order), self.flipped)

    def transform(self, image: Mapping[str, Any]) -> dict[str, Any]:
        """Return where a token layer lies, given the :func:`transform_of` its image layer."""
        return {
            **image,
            "scale": np.asarray(image["scale"]) * self.step,
            "translate": np.asarray(image["translate"]) + linear_of(image) @ self.first,
        }

    def affine(self, image_affine: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the affine of an arranged token array, token index to RAS mm."""
        to_index = np.diag([*self.step, 1.0])
        to_index[:3, 3] = self.first
        return image_affine @ to_index
