"""How fluid slices are: ``python -m benchmarks.viewer`` (with ``scripts/virtual-display``).

A real napari window holds the large scan of the speed benchmark with everything that the plugin
can show of it. The time of a step goes from the call that moves the slider of the slices to the
moment when the window shows the frame with the new slice.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from benchmarks.machine import describe_machine
from benchmarks.speed import RESULTS, existing
from benchmarks.volumes import Cases
from napari_sparseseg import maps
from napari_sparseseg.analysis.patches import TokenIndex
from napari_sparseseg.plugin.demo import WINDOW, check_display
from napari_sparseseg.plugin.dock import open_dock
from napari_sparseseg.plugin.layers import is_result
from napari_sparseseg.plugin.readers import image_layer

if TYPE_CHECKING:
    import napari

    from napari_sparseseg.plugin.dock import SparseSegDock
    from napari_sparseseg.plugin.inspector.panel import Inspector

SCAN = "planning-ct"
STEPS = 60
"""Slices that are stepped through for each figure, one after the other."""

ALONE, HIDDEN, CONTOURS = "scan alone", "all layers hidden", "contours, no map"
_AXIAL = 0  # of a layer, whose axes are superior, posterior, left
_LONGEST_MS = 120_000  # until a run or a frame is there

Figures = dict[str, float | int]


def points(lowest: float, spacing: float, slices: int, steps: int) -> list[float]:
    """Return the places of the slices in the middle of a slider, one step after the other.

    They lie where the slider itself can stand: between two of its places napari would correct a
    step, and read all layers twice.

    Parameters
    ----------
    lowest, spacing : float
        Where the slider begins, and its step, in world units.
    slices : int
        How many places it has.
    steps : int
        Number of steps; there is one place more.
    """
    first = (slices - steps) // 2
    return [lowest + (first + n) * spacing for n in range(steps + 1)]


def figures(seconds: list[float]) -> Figures:
    """Return median and 95th percentile in milliseconds, and the number of steps."""
    return {
        "median_ms": round(1000 * median(seconds), 2),
        "p95_ms": round(1000 * float(np.percentile(seconds, 95)), 2),
        "steps": len(seconds),
    }


def beyond(rows: dict[str, Figures]) -> dict[str, float]:
    """Return how many milliseconds each row takes more than the scan alone, by medians."""
    alone = rows[ALONE]["median_ms"]
    return {name: round(row["median_ms"] - alone, 2) for name, row in rows.items()}


class Window:
    """A napari window with a scan, the dock and the inspector, whose steps are timed.

    Attributes
    ----------
    title : str
        The scan, for people.
    model : str
        Which model segmented it.
    rows : dict
        The figures that were taken, by what was visible.

    Parameters
    ----------
    viewer : napari.Viewer
        With nothing in it yet.
    data : Path
        Folder of the scans.
    """

    def __init__(self, viewer: napari.Viewer, data: Path) -> None:
        from napari.layers import Layer

        case = Cases(data).get(SCAN)
        self.title, self.model = case.title, ""
        self.rows: dict[str, Figures] = {}
        self._viewer = viewer
        self._dock: SparseSegDock = open_dock(viewer)
        viewer.add_layer(Layer.create(*image_layer(case.volume, SCAN)))
        self._inspector: Inspector = self._dock.open_inspector()
        viewer.window.resize(*WINDOW)
        self._settle()
        viewer.reset_view()
        lowest, highest, spacing = viewer.dims.range[_AXIAL]
        slices = round((highest - lowest) / spacing) + 1
        self._points = points(lowest, spacing, slices, STEPS)

    def measure(self) -> None:
        """Time the scan alone, then with all layers: each map visible in turn."""
        self._time(ALONE)
        self.fill()
        layers = [layer for layer in self._viewer.layers if is_result(layer)]
        panel, shown = self._dock.view.maps, [layer.visible for layer in layers]
        for layer in layers:
            layer.visible = False
        self._time(HIDDEN)
        for layer, visible in zip(layers, shown, strict=True):
            layer.visible = visible
        kinds = [view.kind for view in self._dock.shown.result.trace.views]
        for kind in (maps.NONE, *kinds):
            panel.choose(kind)
            self._time(CONTOURS if kind == maps.NONE else kind)

    def fill(self) -> None:
        """Segment the scan, choose the token in its middle, and compare with the dense twin."""
        self._wait(self._dock.segmented, self._dock.segment)
        shown = self._dock.shown
        result, self.model = shown.result, shown.request.choice.model.name
        voxel = tuple(n // 2 for n in result.labels.shape)
        index = TokenIndex.of(result.trace.grid, result.labels)
        self._inspector.choose_token(index.token_at(voxel))
        self._wait(self._inspector.inspected, self._inspector.compare.compare_with_dense)

    def canvas_size(self) -> list[int]:
        """Return width and height of the canvas in pixels."""
        return [self._canvas().width(), self._canvas().height()]

    def step(self, point: float) -> float:
        """Go to a slice; return the seconds until its frame is shown."""
        self._settle()
        start = time.perf_counter()
        self._wait(self._canvas().frameSwapped, lambda: self._viewer.dims.set_point(_AXIAL, point))
        return time.perf_counter() - start

    def _time(self, name: str) -> None:
        start, *others = self._points
        self.step(start)  # the first frame of a layer makes its textures
        self.rows[name] = figures([self.step(point) for point in others])
        print(f"{name}: {self.rows[name]}", flush=True)

    def _canvas(self) -> Any:
        from qtpy.QtOpenGLWidgets import QOpenGLWidget

        return self._dock.window().findChild(QOpenGLWidget)

    def _settle(self) -> None:
        from qtpy.QtWidgets import QApplication

        for _ in range(3):  # what one round draws may ask for another
            QApplication.processEvents()

    def _wait(self, signal: Any, action: Callable[[], Any]) -> None:
        """Act, then let the window live until a signal comes."""
        from qtpy.QtCore import QEventLoop, QTimer

        loop, clock = QEventLoop(), QTimer()
        clock.setSingleShot(True)
        signal.connect(loop.quit)
        clock.timeout.connect(lambda: loop.exit(1))
        clock.start(_LONGEST_MS)
        action()
        failed = loop.exec()
        signal.disconnect(loop.quit)
        if failed:
            raise RuntimeError(f"Nothing came in {_LONGEST_MS // 1000} s.")


def main(
    data: Annotated[
        Path, typer.Option(envvar="SPARSESEG_DATA", help="Folder with brain-t1 and brain-labels.")
    ],
    out: Annotated[Path, typer.Option(help="JSON file.")] = RESULTS / "viewer.json",
) -> None:
    """Measure steps through 512x512x400 voxels, and write the JSON."""
    import napari

    check_display()
    viewer = napari.Viewer()
    window = Window(viewer, existing(data))
    window.measure()
    facts = {
        "machine": describe_machine("cpu"),
        "napari": napari.__version__,
        "software_opengl": os.environ.get("LIBGL_ALWAYS_SOFTWARE") == "1",
        "window": WINDOW,
        "canvas": window.canvas_size(),
        "scan": window.title,
        "model": window.model,
        "visible": window.rows,
        "more_than_scan_alone_ms": beyond(window.rows),
    }
    viewer.close()
    out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
