"""The inspector: tabs below the canvas that ask what the pruning of the shown result did."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QTabWidget, QVBoxLayout

from napari_sparseseg.plugin.closing import ClosingWidget
from napari_sparseseg.plugin.inspector.compare_tab import CompareTab
from napari_sparseseg.plugin.inspector.curve_tab import CurveTab
from napari_sparseseg.plugin.inspector.notes_tab import NotesTab
from napari_sparseseg.plugin.inspector.places import show_place, to_world
from napari_sparseseg.plugin.inspector.report_button import ReportButton
from napari_sparseseg.plugin.inspector.tab import Tab
from napari_sparseseg.plugin.inspector.token_tab import TokenTab
from napari_sparseseg.plugin.shown import Shown

if TYPE_CHECKING:
    import napari

    from napari_sparseseg.analysis.inspection import Inspection
    from napari_sparseseg.plugin.dock import SparseSegDock
    from napari_sparseseg.plugin.inspector.comparing import Compared
    from napari_sparseseg.plugin.runner import Answer, Work

TITLE = "SparseSeg inspector"
CHANGED = "{name} was changed since it was segmented; press Segment, then try again."
BUSY = "A run is going on; wait for it or cancel it, then try again."
LEAST_HEIGHT = 230
"""Pixels: a table of some rows and a curve can be read in it, and the canvas keeps its place."""


class Inspector(ClosingWidget):
    """Tabs that inspect the result which the dock shows.

    Attributes
    ----------
    token_chosen : Signal(int)
        Another token is looked at, its place in the flattened token grid.
    inspected : Signal(Inspection)
        A comparison is done.
    dock : SparseSegDock
        Whose results.
    viewer : napari.Viewer
        Where they are shown.
    inspection : Inspection or None
        What the last comparison found, while it holds.
    token : int or None
        The token that is looked at.

    Parameters
    ----------
    viewer : napari.Viewer
        Where the results are shown.
    dock : SparseSegDock
        Whose results.
    """

    token_chosen = Signal(int)
    inspected = Signal(object)

    def __init__(self, viewer: napari.Viewer, dock: SparseSegDock) -> None:
        super().__init__()
        self.viewer, self.dock = viewer, dock
        self.inspection: Inspection | None = None
        self.token: int | None = None
        self.tokens = TokenTab(self)
        self.compare = CompareTab(self)
        self.notes = NotesTab(self)
        self.curve = CurveTab(self)
        self._lay_out()
        self._answer: Answer | None = None
        self._work: Work | None = None
        dock.changed.connect(self._on_changed)
        self.closing.connect(self._release)
        self._on_changed()

    @property
    def tabs(self) -> tuple[Tab, ...]:
        """The tabs, from the left."""
        return self.tokens, self.compare, self.notes, self.curve

    @property
    def shown(self) -> Shown | None:
        """What the dock shows of the chosen image."""
        return self.dock.shown

    def _lay_out(self) -> None:
        self.pages = QTabWidget()
        self.pages.setDocumentMode(True)
        for tab in self.tabs:
            self.pages.setTabToolTip(self.pages.addTab(tab, tab.title), tab.about)
        self.report = ReportButton(self)
        self.pages.setCornerWidget(self.report)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 0, 4, 4)
        layout.addWidget(self.pages)
        self.setMinimumHeight(LEAST_HEIGHT)

    # What the tabs ask for

    def is_ready(self) -> bool:
        """Tell whether the shown result can be worked on; the dock says why not."""
        image, shown = self.dock.image(), self.shown
        if image is None or shown is None:
            return False
        if self.dock.busy:  # new work would end it
            self.dock.message.show_note(BUSY)
            return False
        if not shown.request.scan.still_is(image):
            self.dock.refuse(CHANGED.format(name=image.name))
            return False
        return True

    def perform(self, work: Work, done: Callable[[Any], None], locked: bool = True) -> None:
        """Do long work on the session of the shown result, unless something else runs.

        The dock shows progress and Cancel.

        Parameters
        ----------
        work : callable
            See :data:`runner.Work`.
        done : callable
            Gets what it returns, unless another result is shown by then.
        locked : bool
            Whether the dock's choices wait for it; else it gives way when the user changes them.
        """
        shown = self.shown
        if shown is None or not self.is_ready():
            return
        answer = shown.answer

        def finish(value: Any) -> None:
            if self.shown is shown and shown.answer is answer:
                done(value)

        self._work = work
        self.dock.message.dismiss()
        self.dock.controls.set_busy(True, locked=locked)
        self.dock.runner.perform(answer.request, work, finish)

    def show_compared(self, compared: Compared) -> None:
        """Show what a comparison of the shown result found, and where it differs."""
        image, shown = self.dock.image(), self.shown
        if image is not None and shown is not None:
            self.compare.difference.show(image, shown, compared)
            self.show_inspection(compared.inspection)

    def show_inspection(self, inspection: Inspection) -> None:
        """Tell every tab what was found."""
        self.inspection = inspection
        for tab in self.tabs:
            tab.show_inspection(inspection)
        self.inspected.emit(inspection)

    def take_notes(self, inspection: Inspection) -> None:
        """Take the same findings with other notes."""
        self.inspection = inspection
        self.notes.show_inspection(inspection)

    def choose_token(self, token: int, go: bool = False) -> None:
        """Look at a token of the shown result.

        Parameters
        ----------
        token : int
            Its place in the flattened token grid.
        go : bool
            Whether the view goes there.
        """
        shown = self.shown
        if shown is None:
            return
        self.token = token
        if go:
            self.go_to(shown.result.trace.grid.centre(token))
        for tab in self.tabs:
            tab.show_token(token)
        self.token_chosen.emit(token)

    def go_to(self, point: NDArray[np.floating]) -> None:
        """Bring a point of the patient, ``(3,)`` RAS mm, into the middle of the view."""
        image, shown = self.dock.image(), self.shown
        if image is not None and shown is not None:
            show_place(self.viewer, to_world(image, shown.request.scan, point))

    def _on_changed(self) -> None:
        """Drop what was found of the result before; a result that was only kept is the same."""
        answer = self.shown.answer if self.shown is not None else None
        if answer is self._answer is not None:
            return
        self._answer, self.inspection, self.token = answer, None, None
        for tab in self.tabs:
            tab.show_inspection(None)
            tab.show_result(self.shown)

    def _release(self) -> None:
        """Follow the dock no more, and stop work of which nobody would see the end."""
        self.dock.changed.disconnect(self._on_changed)
        if self._work is not None and self.dock.runner.runs(self._work):
            self.dock.cancel()


def open_inspector(viewer: napari.Viewer) -> Inspector:
    """Open the inspector below the canvas, or bring it to the front.

    Parameters
    ----------
    viewer : napari.Viewer
        Given by napari.
    """
    from napari_sparseseg.plugin.dock import open_dock

    return open_dock(viewer).open_inspector()
