"""What lies under the pointer, in words, and clicks that choose a token."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QLabel

from napari_sparseseg.words import describe

if TYPE_CHECKING:
    import napari

    from napari_sparseseg.plugin.layers import ResultLayers

_LINES = 3
_STILL = 3  # pixels of canvas: less is a click, more a drag


class Pointer(QLabel):
    """Describes the token and structure under the pointer of a viewer.

    Attributes
    ----------
    clicked : Signal(tuple)
        A place in napari's world that was clicked on, not dragged from.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer.
    shown : callable
        Gives the layers that are looked at, None if there are none.
    """

    clicked = Signal(object)

    def __init__(self, viewer: napari.Viewer, shown: Callable[[], ResultLayers | None]) -> None:
        super().__init__()
        self._viewer, self._shown = viewer, shown
        self.setWordWrap(True)
        self.setMinimumHeight(self.fontMetrics().lineSpacing() * _LINES)
        self.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._connect()

    def follow(self) -> None:
        """Describe what is under the pointer now."""
        shown = self._shown()
        if shown is None or self._viewer.dims.ndisplay != 2:
            self.clear()
            return
        place = tuple(self._viewer.cursor.position)
        self.setText(describe(shown.token_at(place), shown.structure_at(place)))

    def _connect(self) -> None:
        """Follow the viewer, which may outlive the dock and must not keep it alive."""
        viewer, alive = self._viewer, weakref.ref(self)

        def follow(event: Any) -> None:
            pointer = alive()
            if pointer is not None:
                pointer.follow()

        def press(viewer: napari.Viewer, event: Any) -> Iterator[None]:
            start = np.array(event.pos)
            yield
            while event.type == "mouse_move":
                yield
            pointer = alive()
            still = np.abs(start - event.pos).max() <= _STILL
            if pointer is not None and still and viewer.dims.ndisplay == 2:
                pointer.clicked.emit(tuple(event.position))

        def let_go() -> None:
            viewer.cursor.events.position.disconnect(follow)
            viewer.mouse_drag_callbacks.remove(press)

        viewer.cursor.events.position.connect(follow)
        viewer.mouse_drag_callbacks.append(press)
        self.destroyed.connect(let_go)
