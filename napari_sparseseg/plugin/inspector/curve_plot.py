"""The picture of a sweep inside the window, whose points can be clicked on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QLabel, QSizePolicy, QStackedLayout, QWidget

if TYPE_CHECKING:
    from napari_sparseseg.analysis.swept import Sweep

LEAST_HEIGHT = 150
"""Pixels; three panels with their titles and axes can still be read."""


class CurvePlot(QWidget):
    """A sweep as three panels, or a hint in their place.

    Attributes
    ----------
    picked : Signal(float)
        The user clicked on the point of a setting.
    hint : QLabel
        What stands there while there is no curve.
    canvas : FigureCanvasQTAgg or None
        Where the panels are, once there was something to draw: matplotlib loads with the first.
    """

    picked = Signal(float)

    def __init__(self) -> None:
        super().__init__()
        self.hint = QLabel()
        self.hint.setWordWrap(True)
        self.hint.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.canvas: Any = None
        self._stack = QStackedLayout(self)
        self._stack.addWidget(self.hint)
        self.setMinimumHeight(LEAST_HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def say(self, text: str) -> None:
        """Show a hint in place of the curve."""
        self.hint.setText(text)
        self._stack.setCurrentWidget(self.hint)

    def draw(
        self, sweep: Sweep, *, dark: bool, chosen: float | None, proposed: float | None
    ) -> None:
        """Draw a curve at once; arguments as for :func:`curve.draw_sweep`."""
        from napari_sparseseg.analysis.curve import draw_sweep

        if self.canvas is None:
            self._make_canvas()
        draw_sweep(self.canvas.figure, sweep, dark=dark, chosen=chosen, proposed=proposed)
        self._stack.setCurrentWidget(self.canvas)
        self.canvas.draw()

    def _make_canvas(self) -> None:
        from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
        from matplotlib.figure import Figure

        self.canvas = FigureCanvasQTAgg(Figure())
        self.canvas.setMinimumHeight(LEAST_HEIGHT)
        self.canvas.setToolTip("Click on a point to show the result at that setting")
        self.canvas.mpl_connect("pick_event", self._on_pick)
        self._stack.addWidget(self.canvas)

    def _on_pick(self, event: Any) -> None:
        from napari_sparseseg.analysis.curve import OWN

        if event.artist.get_gid() == OWN:
            self.picked.emit(float(event.artist.get_xdata()[event.ind[0]]))


def is_dark(theme: str) -> bool:
    """Tell whether a theme of napari is dark."""
    from napari.utils.theme import get_theme

    red, green, blue = get_theme(theme).background.as_rgb_tuple()[:3]
    return 0.299 * red + 0.587 * green + 0.114 * blue < 128
