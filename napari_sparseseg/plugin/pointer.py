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
        A place in napari's world that was clicked on, not dragged from; in 3-D where the line of
        sight first meets a structure.
    let_go : callable
        Follows the viewer no more.

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
        """Describe what is under the pointer now; in 3-D only a moving one tells its place."""
        flat = self._viewer.dims.ndisplay == 2
        self._describe(tuple(self._viewer.cursor.position) if flat else None)

    def _describe(self, place: tuple[float, ...] | None) -> None:
        shown = self._shown()
        if shown is None or place is None:
            self.clear()
        else:
            self.setText(describe(shown.token_at(place), shown.structure_at(place)))

    def _place_of(self, event: Any) -> tuple[float, ...] | None:
        shown = self._shown()
        return None if shown is None else shown.met_by(event)

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
            if pointer is None or np.abs(start - event.pos).max() > _STILL:
                return
            place = pointer._place_of(event)
            if place is not None:
                pointer.clicked.emit(place)

        def hover(viewer: napari.Viewer, event: Any) -> None:
            pointer = alive()
            if pointer is not None and viewer.dims.ndisplay == 3:
                pointer._describe(pointer._place_of(event))

        following = [True]

        def let_go() -> None:
            if following:  # once: a viewer that went before must not be asked
                following.clear()
                viewer.cursor.events.position.disconnect(follow)
                viewer.mouse_drag_callbacks.remove(press)
                viewer.mouse_move_callbacks.remove(hover)

        viewer.cursor.events.position.connect(follow)
        viewer.mouse_drag_callbacks.append(press)
        viewer.mouse_move_callbacks.append(hover)
        self.let_go: Callable[[], None] = let_go
        self.destroyed.connect(let_go)
