"""The lower half of the dock: the maps of a result, the token under the pointer, the figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_sparseseg import maps
from napari_sparseseg.plugin.map_panel import MapPanel
from napari_sparseseg.plugin.panels import Results, Structures, summary
from napari_sparseseg.plugin.pointer import Pointer

if TYPE_CHECKING:
    import napari
    import numpy as np
    from numpy.typing import NDArray

    from napari_sparseseg.plugin.layers import ResultLayers
    from napari_sparseseg.plugin.shown import Shown


class ResultView(QWidget):
    """Shows one result: its layers in the viewer, and what they mean beside it.

    Attributes
    ----------
    maps : MapPanel
        Which map is shown, with its legend.
    pointer : Pointer
        What lies under the pointer.
    structures : Structures
        The classes.
    results : Results
        The figures.

    Parameters
    ----------
    viewer : napari.Viewer
        Where the layers are.
    every : mapping
        What is shown of every image: one choice of map holds for all.
    """

    def __init__(self, viewer: napari.Viewer, every: Mapping[object, Shown]) -> None:
        super().__init__()
        self._every = every
        self._shown: Shown | None = None
        self.maps = MapPanel()
        self.pointer = Pointer(viewer, self._layers)
        self.structures = Structures()
        self.results = Results()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (self.maps, self.pointer, self.structures, self.results):
            column.addWidget(widget)
        self.maps.chosen.connect(self._on_map)
        self.pointer.clicked.connect(self._on_click)
        self.setVisible(False)

    def display(self, shown: Shown | None) -> None:
        """Show the maps and figures of a result, or nothing."""
        self._shown = shown
        self.setVisible(shown is not None)
        if shown is not None:
            result = shown.result
            self.maps.offer(result.trace)
            shown.layers.choose(self.maps.current(), self.maps.current_stage())
            self.explain()
            self.structures.show_report(result.report, result.colors)
            self.results.show_report(result.report, maps.blocks_saved(result.trace))
        self.pointer.follow()

    def fill(self, shown: Shown, image: napari.layers.Image) -> None:
        """Bring the layers of an image to its result, in the chosen map."""
        self.maps.offer(shown.result.trace)
        shown.layers.map, shown.layers.stage = self.maps.current(), self.maps.current_stage()
        shown.layers.show(image, shown.request.scan, shown.result)

    def summary(self) -> str:
        """Return the shown result in one short line, "" if there is none."""
        if self._shown is None:
            return ""
        result = self._shown.result
        return summary(result.report, maps.blocks_saved(result.trace))

    def previews(self) -> bool:
        """Tell whether the shown result has a map in which a preview can be seen."""
        shown = self._shown
        return shown is not None and maps.view_of(shown.result.trace, "kept") is not None

    def preview(self, preview: NDArray[np.uint8]) -> None:
        """Show what the first stage would let go on, see ``Session.preview``."""
        if self._shown is None:
            return
        trace = self._shown.result.trace
        stages = len(trace.stages)
        states = maps.preview_map(preview, stages)
        self._shown.layers.preview(states)
        if self.maps.current() == "kept":
            self.maps.explain_preview(maps.preview_legend(states, stages, trace.fate))

    def restore(self) -> None:
        """Take back what slider moves showed ahead of their result."""
        for shown in self._every.values():
            shown.layers.restore()
        self.explain()

    def _layers(self) -> ResultLayers | None:
        return self._shown.layers if self._shown is not None else None

    def _on_map(self, which: str, stage: int) -> None:
        for shown in self._every.values():
            shown.layers.choose(which, stage)
        self.explain()
        self.pointer.follow()

    def _on_click(self, place: tuple[float, ...]) -> None:
        layers = self._layers()
        if layers is not None and layers.map == "dependencies" and layers.pick(place):
            self.explain()

    def explain(self) -> None:
        """Say what the colours of the chosen map mean."""
        if self._shown is not None:
            choice = self._shown.request.choice
            remark = f"{choice.rule.title}: {choice.rule.about}" if choice.sparsifier else ""
            trace, token = self._shown.result.trace, self._shown.layers.token
            self.maps.explain(trace, token, remark)
