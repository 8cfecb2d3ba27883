"""One token map over the scan in the slice views.

A map in shades takes the place of the foreground, a label map that of the label layer; what was
there comes back when the map goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

LAYERS = ("Foreground", "Label")


class Overlay:
    """The layers above the scan in all slice views of a scene.

    Parameters
    ----------
    scene : vtkMRMLScene
        Whose slice views.
    """

    def __init__(self, scene: Any) -> None:
        self._scene = scene
        self._before: dict[tuple[str, str], tuple[str | None, float]] = {}

    def show(self, node: Any, opacity: float, maps: set[str], background_id: str) -> None:
        """Lay a map over the scan, and take away the one that is there.

        Parameters
        ----------
        node : vtkMRMLVolumeNode
            The map.
        opacity : float
            From 0 to 1.
        maps : set of str
            IDs of all the maps, this one among them.
        background_id : str
            The scan, for views that show none.
        """
        layer = "Label" if node.IsA("vtkMRMLLabelMapVolumeNode") else "Foreground"
        for view in self._views():
            was_modifying = view.StartModify()
            if view.GetBackgroundVolumeID() is None:
                view.SetBackgroundVolumeID(background_id)
            for other in LAYERS:
                if other != layer:
                    self._uncover(view, other, maps)
            self._cover(view, layer, node.GetID(), opacity, maps)
            view.EndModify(was_modifying)

    def hide(self, maps: set[str]) -> None:
        """Give each view back what it showed before one of these maps covered it."""
        for view in self._views():
            was_modifying = view.StartModify()
            for layer in LAYERS:
                self._uncover(view, layer, maps)
            view.EndModify(was_modifying)

    def _cover(self, view: Any, layer: str, node_id: str, opacity: float, maps: set[str]) -> None:
        present = _get(view, layer)
        if present[0] not in maps:
            self._before[view.GetID(), layer] = present
        _set(view, layer, node_id, opacity)

    def _uncover(self, view: Any, layer: str, maps: set[str]) -> None:
        if _get(view, layer)[0] not in maps:
            return
        node_id, opacity = self._before.pop((view.GetID(), layer), (None, 1.0))
        if self._scene.GetNodeByID(node_id or "") is None:
            node_id = None
        _set(view, layer, node_id, opacity)

    def _views(self) -> Iterator[Any]:
        """Give what each slice view shows (vtkMRMLSliceCompositeNode)."""
        for number in range(self._scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
            yield self._scene.GetNthNodeByClass(number, "vtkMRMLSliceCompositeNode")


def _get(view: Any, layer: str) -> tuple[str | None, float]:
    return getattr(view, f"Get{layer}VolumeID")(), getattr(view, f"Get{layer}Opacity")()


def _set(view: Any, layer: str, node_id: str | None, opacity: float) -> None:
    getattr(view, f"Set{layer}VolumeID")(node_id)
    getattr(view, f"Set{layer}Opacity")(opacity)
