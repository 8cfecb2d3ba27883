"""The dock: choose a scan, segment it, see what was pruned, move the slider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, Qt, QTimer, Signal
from qtpy.QtGui import QHideEvent
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_sparseseg.errors import InputError, SparseSegError
from napari_sparseseg.plugin import maps
from napari_sparseseg.plugin.controls import Controls
from napari_sparseseg.plugin.geometry import Scan
from napari_sparseseg.plugin.layers import ResultLayers, is_result
from napari_sparseseg.plugin.panels import (
    MapPanel,
    Message,
    Results,
    ScrollingColumn,
    Structures,
    summary,
)
from napari_sparseseg.plugin.runner import Answer, Request, Runner
from napari_sparseseg.report import NOTICE
from napari_sparseseg.weights import models

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

REST_MS = 250
"""How long the slider has to rest before the network runs again."""

_PLUGIN, _WIDGET = "napari-sparseseg", "Sparse segmentation"
_NO_IMAGE = (
    "There is no image to segment; open a scan, or the sample under File > Open Sample > SparseSeg."
)


class SparseSegDock(QWidget):
    """The dock widget.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The viewer that it works on.

    Attributes
    ----------
    segmented : Signal(Segmentation)
        A result is shown.
    refused : Signal(str)
        A request did not work out; the sentence that is shown.
    """

    segmented = Signal(object)
    refused = Signal(str)

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._results: dict[object, ResultLayers] = {}
        self.controls = Controls()
        self.message = Message()
        self.maps = MapPanel()
        self.structures = Structures()
        self.results = Results()
        self.pointer = QLabel()
        self.runner = Runner()
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(REST_MS)
        self._lay_out()
        self._connect()
        self._offer_models()
        self._offer_images()
        self._show_result()

    # What it looks like

    def _lay_out(self) -> None:
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(6, 6, 6, 6)
        self.pointer.setWordWrap(True)
        self.pointer.setMinimumHeight(self.pointer.fontMetrics().lineSpacing() * 3)
        self.pointer.setAlignment(Qt.AlignmentFlag.AlignTop)
        for widget in (
            self.controls, self.message, self.maps, self.pointer, self.structures, self.results
        ):  # fmt: skip
            column.addWidget(widget)
        column.addStretch(1)
        self._column = ScrollingColumn(content)
        notice = QLabel(NOTICE)
        notice.setAlignment(Qt.AlignmentFlag.AlignCenter)
        notice.setStyleSheet("font-style: italic; padding: 2px;")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._column, 1)
        layout.addWidget(notice)

    def _connect(self) -> None:
        controls, runner, layers = self.controls, self.runner, self._viewer.layers
        controls.image_changed.connect(self._on_image)
        controls.setup_changed.connect(self._on_setup)
        controls.ratio_changed.connect(self._on_ratio)
        controls.segment.connect(self.segment)
        controls.cancel.connect(self.cancel)
        controls.find_devices.connect(runner.find_devices)
        self.maps.chosen.connect(self._on_map)
        self._rest.timeout.connect(self._run)
        runner.progressed.connect(controls.show_progress)
        runner.devices_found.connect(controls.set_devices)
        runner.answered.connect(self._on_answer)
        runner.failed.connect(self._on_failed)
        runner.cancelled.connect(self._on_cancelled)
        for event in (layers.events.inserted, layers.events.removed, layers.events.renamed):
            event.connect(self._offer_images)
        self._viewer.cursor.events.position.connect(self._on_pointer)
        # The window may go without a word to its docks: see that the thread never outlives it.
        self.destroyed.connect(lambda: runner.close())

    # What there is to choose from

    def _offer_models(self) -> None:
        try:
            self.controls.set_models(models())
        except SparseSegError as error:
            self.message.show_error(str(error))

    def _offer_images(self, event: Any = None) -> None:
        from napari.layers import Image

        layers = [x for x in self._viewer.layers if isinstance(x, Image) and not is_result(x)]
        self.controls.set_images((layer.unique_id, layer.name) for layer in layers)
        known = {layer.unique_id for layer in layers}
        self._results = {k: v for k, v in self._results.items() if k in known}

    def _image(self) -> Image | None:
        chosen = self.controls.image.currentData()
        return next((x for x in self._viewer.layers if x.unique_id == chosen), None)

    def _shown(self) -> ResultLayers | None:
        return self._results.get(self.controls.image.currentData())

    # What the user does

    def segment(self) -> None:
        """Segment the chosen image with the chosen settings, as the button does."""
        self.message.dismiss()
        self._run()

    def cancel(self) -> None:
        """Stop the run; the viewer stays as it is."""
        self._rest.stop()
        if not self.runner.busy:
            self._on_cancelled()  # the slider had moved and its run had not begun
            return
        self.controls.show_progress(0, 0, "Cancelling")
        self.controls.cancel_button.setEnabled(False)
        self.runner.cancel()

    def _on_image(self) -> None:
        self._on_setup()
        self._restore_ratio()
        self._show_result()

    def _on_setup(self) -> None:
        self.message.dismiss()
        self._rest.stop()
        self.runner.forget()
        self._restore_maps()

    def _on_ratio(self, ratio: float) -> None:
        self.message.dismiss()
        shown = self._shown()
        if not self.runner.follows:
            if shown is not None:
                self.message.show_note("Press Segment to segment with this keep ratio.")
            return
        preview = self.runner.preview(ratio)
        if shown is not None and shown.result is not None and preview is not None:
            stages = len(shown.result.trace.stages)
            states = maps.preview_map(preview, stages)
            shown.preview(states)
            if self.maps.current() == maps.KEPT:
                self.maps.set_legend(maps.preview_legend(states, stages), maps.PREVIEW_NOTE)
        self._rest.start()

    def _on_map(self, which: str, stage: int) -> None:
        for shown in self._results.values():
            shown.choose(which, stage)
        self._show_map()
        self._on_pointer()

    def _on_pointer(self, event: Any = None) -> None:
        shown = self._shown()
        if shown is None or self._viewer.dims.ndisplay != 2:
            self.pointer.clear()
            return
        place = tuple(self._viewer.cursor.position)
        token, structure = shown.token_at(place), shown.structure_at(place)
        self.pointer.setText(describe(token, structure))

    # What the engine does

    def _run(self) -> None:
        """Ask the engine for the present choices; the latest request wins."""
        self._rest.stop()
        try:
            request = self._request()
        except SparseSegError as error:
            self._refuse(str(error))
            return
        self.controls.set_busy(True)
        self.runner.request(request)

    def _request(self) -> Request:
        image, model = self._image(), self.controls.chosen_model()
        if image is None:
            raise InputError(_NO_IMAGE)
        if model is None:
            models()  # says why there is none
            raise InputError("There is no model to segment with; reinstall napari-sparseseg.")
        controls = self.controls
        return Request(
            Scan.of(image),
            model,
            controls.device.currentData(),
            controls.precision.currentData(),
            controls.keep_ratio(),
        )

    def _on_answer(self, answer: Answer) -> None:
        image = self._image()
        if image is None or self._rest.isActive():
            return  # the slider has moved on: its run comes in a moment
        shown = self._results.get(image.unique_id) or ResultLayers(self._viewer)
        shown.map, shown.stage = self.maps.current(), self.maps.current_stage()
        shown.show(image, answer.request.scan, answer.result)
        self._results[image.unique_id] = shown
        self._show_result()
        if answer.request.scan.assumed:
            self.message.show_note(
                f"{image.name} does not say how the patient lies in it: its axes were taken as "
                "right, anterior and superior."
            )
        self.segmented.emit(answer.result)

    def _on_cancelled(self) -> None:
        self._idle()
        self._restore_maps()
        self._restore_ratio()
        self.message.show_note("Cancelled; nothing was changed.")

    def _on_failed(self, error: Exception) -> None:
        self._idle()
        self._restore_maps()
        self._restore_ratio()
        if isinstance(error, SparseSegError):
            self._refuse(str(error))
            return
        from napari.utils.notifications import notification_manager

        self._refuse(
            f"The run failed unexpectedly ({type(error).__name__}); the notification below has "
            "the details to report."
        )
        notification_manager.receive_error(type(error), error, error.__traceback__)

    def _refuse(self, sentence: str) -> None:
        self.message.show_error(sentence)
        self.refused.emit(sentence)

    def _restore_maps(self) -> None:
        """Take back what slider moves showed ahead of their result."""
        for shown in self._results.values():
            shown.restore()
        self._show_map()

    def _restore_ratio(self) -> None:
        """Put the slider back to what is shown."""
        shown = self._shown()
        if shown is not None and shown.result is not None:
            self.controls.blockSignals(True)
            self.controls.set_ratio(shown.result.report["keep_ratio"])
            self.controls.blockSignals(False)

    # What is shown

    def _idle(self) -> None:
        """Show that nothing runs, and in short what is there."""
        shown = self._shown()
        result = shown.result if shown is not None else None
        saved = maps.blocks_saved(result.trace) if result is not None else 0.0
        self.controls.set_busy(False, summary(result.report, saved) if result is not None else "")

    def _show_result(self) -> None:
        if not self.runner.busy:
            self._idle()
        shown = self._shown()
        panels = (self.maps, self.pointer, self.structures, self.results)
        for panel in panels:
            panel.setVisible(shown is not None)
        if shown is not None and shown.result is not None:
            result = shown.result
            self.maps.set_stages(result.trace.stages)
            self._show_map()
            self.structures.show_report(result.report, result.colors)
            self.results.show_report(result.report, maps.blocks_saved(result.trace))
        self._column.fit()

    def _show_map(self) -> None:
        shown = self._shown()
        if shown is None or shown.result is None:
            return
        legends = {maps.KEPT: maps.kept_legend, maps.DEPTH: maps.depth_legend}
        legend = legends.get(self.maps.current())
        self.maps.set_legend(legend(shown.result.trace) if legend else [])

    # When it goes

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Stop and free everything when the whole window goes; hidden in a tab it works on."""
        super().hideEvent(event)
        window = self.window()
        minimised = event is not None and event.spontaneous()
        if not minimised and window is not None and not window.isVisible():
            self._release()

    def changeEvent(self, event: QEvent | None) -> None:
        """Stop and free everything when napari takes the dock out of the window."""
        super().changeEvent(event)
        moved = event is not None and event.type() == QEvent.Type.ParentChange
        if moved and self.parent() is None:
            self._release()

    def _release(self) -> None:
        self._rest.stop()
        self.runner.close()
        self._idle()


def describe(token: dict[str, Any] | None, structure: str | None) -> str:
    """Put what lies under the pointer into words.

    Parameters
    ----------
    token : dict or None
        A row of :func:`maps.token_table`.
    structure : str or None
        Name of the class.
    """
    if token is None:
        return ""
    facts = [f"Token {token['index']}: {token['state']}, {token['depth']}"]
    for name, value in token.items():
        if name.startswith("importance") and value == value:  # NaN where it was not scored
            facts.append(f"{name}: {value:.2f} (score {token['score']:.3g})")
    facts.append(f"Structure: {structure or 'none'}")
    return "\n".join(facts)


def open_dock(viewer: napari.Viewer) -> SparseSegDock:
    """Open the dock, or bring it to the front.

    Parameters
    ----------
    viewer : napari.Viewer
        Given by napari.
    """
    dock_widget, dock = viewer.window.add_plugin_dock_widget(_PLUGIN, _WIDGET)
    dock_widget.show()
    dock_widget.raise_()
    return dock
