"""A dock widget that learns when napari takes it away, with or without its window."""

from __future__ import annotations

from qtpy.QtCore import QEvent, Signal
from qtpy.QtGui import QHideEvent
from qtpy.QtWidgets import QWidget


class ClosingWidget(QWidget):
    """A widget that says when it goes; napari itself sends its docks no close event.

    Attributes
    ----------
    closing : Signal()
        The window went, or napari took the dock out of it. It comes once.
    """

    closing = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._gone = False

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Tell when the whole window goes; hidden in a tab the widget stays."""
        super().hideEvent(event)
        window = self.window()
        minimised = event is not None and event.spontaneous()
        if not minimised and window is not None and not window.isVisible():
            self._close()

    def changeEvent(self, event: QEvent | None) -> None:
        """Tell when napari takes the dock out of the window."""
        super().changeEvent(event)
        moved = event is not None and event.type() == QEvent.Type.ParentChange
        if moved and self.parent() is None:
            self._close()

    def _close(self) -> None:
        if not self._gone:
            self._gone = True
            self.closing.emit()
