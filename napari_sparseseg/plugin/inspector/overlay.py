"""Layers that the inspector lays over a result while it looks at a part of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


class Overlay:
    """One layer on top of all others, or none.

    Parameters
    ----------
    viewer : ViewerModel
        Where it goes.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layer: Layer | None = None

    @property
    def layer(self) -> Any:
        """The layer while it is in the viewer, None if there is none."""
        return self._layer if self._layer in self._viewer.layers else None

    def add(self, layer: Layer, result: Layer, role: str) -> None:
        """Lay a layer on top, in place of the one before; what is selected stays.

        Parameters
        ----------
        layer : Layer
            The new one.
        result : Layer
            A layer of the result that it belongs to.
        role : str
            What it shows.
        """
        self.remove()
        layer.metadata["sparseseg"] = {**result.metadata["sparseseg"], "role": role}
        layers = self._viewer.layers
        selected = list(layers.selection)
        layers.append(layer)
        layers.selection = selected
        self._layer = layer

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        if self.layer is not None:
            self._viewer.layers.remove(self.layer)
        self._layer = None
