"""The scans of a viewer, and what is shown of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sparseseg.plugin.layers import ResultLayers, is_result
from napari_sparseseg.plugin.shown import Shown

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

    from napari_sparseseg.plugin.runner import Answer


class Images:
    """The image layers that can be segmented, with their results.

    Attributes
    ----------
    results : dict of Shown
        What is shown, by the ``unique_id`` of the image layer.

    Parameters
    ----------
    viewer : napari.Viewer
        Where they are.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        self._viewer = viewer
        self.results: dict[object, Shown] = {}

    def layers(self) -> list[Image]:
        """Return the layers, and forget the results of those that have gone."""
        from napari.layers import Image

        layers = [x for x in self._viewer.layers if isinstance(x, Image) and not is_result(x)]
        for gone in self.results.keys() - {layer.unique_id for layer in layers}:
            del self.results[gone]
        return layers

    def find(self, key: object) -> Image | None:
        """Return the layer with this ``unique_id``, None if it has gone."""
        return next((layer for layer in self.layers() if layer.unique_id == key), None)

    def take(self, image: Image, answer: Answer) -> Shown:
        """Remember an answer as what is shown of an image."""
        shown = self.results.get(image.unique_id)
        if shown is None:
            shown = self.results[image.unique_id] = Shown(ResultLayers(self._viewer), answer)
        else:
            shown.show_next(answer)
        return shown
