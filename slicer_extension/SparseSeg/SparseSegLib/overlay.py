"""One token map over the scan in the slice views.

The map takes the place of the foreground; what was there comes back when no map is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class Overlay:
    """The foreground of all slice views of a scene.

    Parameters
    ----------
    scene : vtkMRMLScene
        Whose slice views.
    """

    def __init__(self, scene: Any) -> None:
        self._scene = scene
        self._before: dict[str, tuple[str | None, float]] = {}

    def show(self, volume_id: str, opacity: float, background_id: str) -> None:
        """Lay a volume over the scan.

        Parameters
        ----------
        volume_id : str
            The map.
        opacity : float
            From 0 to 1.
        background_id : str
            The scan, for views that show none.
        """
        for view in self._views():
            self._before.setdefault(
                view.GetID(), (view.GetForegroundVolumeID(), view.GetForegroundOpacity())
            )
            was_modifying = view.StartModify()
            if view.GetBackgroundVolumeID() is None:
                view.SetBackgroundVolumeID(background_id)
            view.SetForegroundVolumeID(volume_id)
            view.SetForegroundOpacity(opacity)
            view.EndModify(was_modifying)

    def hide(self, volume_ids: set[str]) -> None:
        """Give each view back the foreground that it had before one of these maps covered it."""
        for view in self._views():
            volume_id, opacity = self._before.pop(view.GetID(), (None, 0.0))
            if view.GetForegroundVolumeID() not in volume_ids:
                continue
            if volume_id in volume_ids or self._scene.GetNodeByID(volume_id or "") is None:
                volume_id, opacity = None, 0.0
            was_modifying = view.StartModify()
            view.SetForegroundVolumeID(volume_id)
            view.SetForegroundOpacity(opacity)
            view.EndModify(was_modifying)

    def _views(self) -> Iterator[Any]:
        """Give what each slice view shows (vtkMRMLSliceCompositeNode)."""
        for number in range(self._scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
            yield self._scene.GetNthNodeByClass(number, "vtkMRMLSliceCompositeNode")
