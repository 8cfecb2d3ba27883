"""Where the inspector of a dock is: below the canvas of its viewer, or nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import napari

    from napari_sparseseg.plugin.dock import SparseSegDock
    from napari_sparseseg.plugin.inspector.panel import Inspector


class InspectorWindow:
    """The one inspector of a dock; it is loaded when it is first opened.

    Parameters
    ----------
    viewer : napari.Viewer
        Where it opens.
    dock : SparseSegDock
        Whose results it inspects.
    """

    def __init__(self, viewer: napari.Viewer, dock: SparseSegDock) -> None:
        self._viewer, self._dock = viewer, dock
        self._inspector: Inspector | None = None

    def open(self) -> Inspector:
        """Open the inspector below the canvas, or return the one that is open."""
        from napari_sparseseg.plugin.inspector.panel import TITLE, Inspector

        if self._inspector is None:
            self._inspector = inspector = Inspector(self._viewer, self._dock)
            inspector.closing.connect(self._on_closing)
            self._viewer.window.add_dock_widget(inspector, name=TITLE, area="bottom")
        return self._inspector

    def close(self) -> None:
        """Take the inspector out of the window, if it is open."""
        if self._inspector is not None:
            self._viewer.window.remove_dock_widget(self._inspector)

    def _on_closing(self) -> None:
        self._inspector = None
