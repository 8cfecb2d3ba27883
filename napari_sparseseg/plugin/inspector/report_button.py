"""The button that writes all that is known of the shown result as one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtWidgets import QFileDialog, QPushButton

from napari_sparseseg.errors import SparseSegError
from napari_sparseseg.plugin.inspector.comparing import Comparing
from napari_sparseseg.plugin.inspector.places import from_world
from napari_sparseseg.plugin.inspector.targets import targets

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

    from napari_sparseseg.plugin.geometry import Scan
    from napari_sparseseg.plugin.inspector.comparing import Compared
    from napari_sparseseg.plugin.inspector.panel import Inspector
    from napari_sparseseg.progress import CancelToken, Progress
    from napari_sparseseg.session import Session

_ENDING = ".html"
_ABOUT = "Write all that is known of this result as a page, with its data beside it (Alt+R)"
_NOTHING_SHOWN = "Segment a scan first."


class ReportButton(QPushButton):
    """Writes a page and its data of the shown result; for the corner of the inspector.

    What is not known yet is found out first: without a comparison, the one with the dense twin.

    Parameters
    ----------
    inspector : Inspector
        Whose result.
    """

    def __init__(self, inspector: Inspector) -> None:
        super().__init__("Report… (Alt+R)")
        self._inspector = inspector
        self.setShortcut("Alt+R")
        self.setStyleSheet("padding: 0px 8px;")  # the tabs beside it are low
        self.clicked.connect(lambda _: self._choose_file())
        inspector.dock.changed.connect(self._offer)
        self._offer()

    def write(self, page: Path, overwrite: bool = False) -> None:
        """Write a page and its data, beside the window.

        Parameters
        ----------
        page : Path
            An .html file; the data go into a .json file of the same name.
        overwrite : bool
            Replace files that exist.
        """
        from napari_sparseseg.together import check_targets

        inspector, shown = self._inspector, self._inspector.shown
        if shown is None:
            return
        try:  # before the long work, and not after it
            check_targets([page, page.with_suffix(".json")], overwrite=overwrite)
        except SparseSegError as error:
            inspector.dock.refuse(str(error))
            return
        low, tolerance = inspector.notes.low.value(), inspector.curve.loss
        compare = Comparing(shown.answer, shown.runs, targets(shown, ())[0], None, False, low)
        inspection, sweep, point = inspector.inspection, inspector.curve.sweep, self._point()
        dense = shown.dense_twin()

        def work(session: Session, progress: Progress, cancel: CancelToken) -> Compared | None:
            from napari_sparseseg.analysis.document import write_document

            compared = compare(session, progress, cancel) if inspection is None else None
            found = compared.inspection if compared is not None else inspection
            assert found is not None
            if found.low != low:  # the panel asked for it a moment ago
                found = found.noted(dense, low)
            write_document(
                found,
                page,
                sweep=sweep,
                tolerance=tolerance,
                point=point,
                overwrite=overwrite,
                progress=progress,
                cancel=cancel,
            )
            return compared

        def done(compared: Compared | None) -> None:
            if compared is not None:
                shown.remember_dense(compared.dense)
                inspector.show_compared(compared)
            inspector.dock.message.show_file("Wrote the report", page)

        inspector.perform(work, done)

    def _offer(self) -> None:
        there = self._inspector.shown is not None
        self.setEnabled(there)
        self.setToolTip(_ABOUT if there else _NOTHING_SHOWN)

    def _choose_file(self) -> None:
        if not self._inspector.is_ready():
            return
        image = self._inspector.dock.image()
        name = f"{image.name if image is not None else 'report'}{_ENDING}"
        chosen, _ = QFileDialog.getSaveFileName(self, "Write a report", name, "Pages (*.html)")
        if not chosen:
            return
        asked = Path(chosen)
        named = asked.suffix.lower() == _ENDING
        page = asked if named else asked.with_name(asked.name + _ENDING)
        # The dialog has asked about the very name that was given, and about no other.
        self.write(page, overwrite=named and page.exists())

    def _point(self) -> tuple[float, float, float] | None:
        """Return the place of the chosen token, else the middle of the view, RAS mm."""
        inspector, image = self._inspector, self._inspector.dock.image()
        shown = inspector.shown
        if image is None or shown is None:
            return None
        grid = shown.result.trace.grid
        if inspector.token is not None:
            point = grid.centre(inspector.token)
        else:
            point = point_of_view(inspector.viewer, image, shown.request.scan)
        x, y, z = point.tolist()
        return x, y, z


def point_of_view(viewer: napari.Viewer, image: Image, scan: Scan) -> NDArray[np.float64]:
    """Return what lies in the middle of the view, ``(3,)`` RAS mm, inside the scan."""
    world: Any = np.array(viewer.dims.point, dtype=np.float64)
    displayed = list(viewer.dims.displayed)
    world[displayed] = viewer.scene.camera.center[-len(displayed) :]
    index = np.clip(image.world_to_data(world), 0, np.array(scan.data.shape) - 1)
    return from_world(image, scan, tuple(image.data_to_world(index)))
