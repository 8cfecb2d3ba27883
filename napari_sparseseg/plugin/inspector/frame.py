"""The frame around the token that is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg import colors
from napari_sparseseg.analysis.patches import Box
from napari_sparseseg.plugin.geometry import transform_of
from napari_sparseseg.plugin.inspector.overlay import Overlay
from napari_sparseseg.plugin.token_placement import TokenPlacement

if TYPE_CHECKING:
    from napari.layers import Image, Labels

ROLE = "chosen token"


class TokenFrame(Overlay):
    """The layer that frames a token: a line around its patch in every slice through it."""

    def show(self, image: Image, tokens: Labels, box: Box) -> None:
        """Frame a token; nothing if it has no voxels.

        Parameters
        ----------
        image : Image
            The layer that was segmented.
        tokens : Labels
            The layer of its tokens.
        box : tuple of slice
            The patch, along the axes of the image.
        """
        patch = np.ones([part.stop - part.start for part in box], dtype=np.uint8)
        if not patch.size:
            self.remove()
            return
        # a contour is drawn where labels end within the array, so there is a rim around them
        data = np.pad(patch, 1)
        corner = np.array([part.start - 1 for part in box], dtype=np.float64)
        place = TokenPlacement((0, 1, 2), (), np.ones(3), corner).transform(transform_of(image))
        if self.layer is None:
            self.add(_frame(data, f"{image.name} {ROLE}", place), tokens, ROLE)
        else:  # much faster than a new one
            self.layer.data, self.layer.translate = data, place["translate"]


def _frame(data: NDArray[np.uint8], name: str, place: dict[str, Any]) -> Labels:
    from napari.layers import Labels
    from napari.utils import DirectLabelColormap

    clear = "transparent"
    look = DirectLabelColormap(color_dict={None: clear, 0: clear, 1: colors.CHOSEN[:7]})
    layer = Labels(data, name=name, opacity=1.0, blending="translucent", colormap=look, **place)
    layer.contour = 1
    layer.editable = False
    return layer
