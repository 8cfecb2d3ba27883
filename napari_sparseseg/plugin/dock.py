"""The dock: choose a scan, segment it, see what was pruned, move the slider."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_sparseseg.errors import InputError, SparseSegError
from napari_sparseseg.plugin import preferences
from napari_sparseseg.plugin.asking import CHANGED, notes_of, request_of, scan_notes
from napari_sparseseg.plugin.batch import Batch
from napari_sparseseg.plugin.closing import ClosingWidget
from napari_sparseseg.plugin.controls import Controls
from napari_sparseseg.plugin.failures import sentence_of
from napari_sparseseg.plugin.images import Images
from napari_sparseseg.plugin.inspector.window import InspectorWindow
from napari_sparseseg.plugin.panels import Message, ScrollingColumn
from napari_sparseseg.plugin.result_view import ResultView
from napari_sparseseg.plugin.runner import Answer, Runner
from napari_sparseseg.plugin.shown import Shown
from napari_sparseseg.report import NOTICE
from napari_sparseseg.weights import find_model, models
from napari_sparseseg.words import origin

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

    from napari_sparseseg.plugin.inspector.panel import Inspector

REST_MS = 250
"""How long the slider has to rest before the network runs again."""

_PLUGIN, _WIDGET = "napari-sparseseg", "Sparse segmentation"
_TITLE_BUTTONS = 118
"""Pixels of a dock's title bar that are not its title."""


class SparseSegDock(ClosingWidget):
    """The dock widget.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The viewer that it works on.

    Attributes
    ----------
    message, about : Message
        What came of the last action; what is worth knowing of the chosen scan.
    segmented : Signal(Segmentation)
        A new result is shown.
    changed : Signal()
        Another result is shown, or none.
    refused : Signal(str)
        A request did not work out; the sentence that is shown.
    """

    segmented = Signal(object)
    changed = Signal()
    refused = Signal(str)

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._inspector = InspectorWindow(napari_viewer, self)
        self._images = Images(napari_viewer)
        self.controls = Controls()
        self.message = Message()
        self.about = Message()
        self.view = ResultView(napari_viewer, self._images.results)
        self.runner = Runner()
        self.batch = Batch(
            self._images, self.runner, self.controls, self.message, self._take, self._idle
        )
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(REST_MS)
        self._lay_out()
        self._connect()
        self._offer_models()
        preferences.restore(self.controls, self.view.maps)
        self._offer_images()
        self._show_result()

    # What it looks like

    def _lay_out(self) -> None:
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(6, 6, 6, 6)
        for widget in (self.controls, self.message, self.about, self.view):
            column.addWidget(widget)
        column.addStretch(1)
        self._column = ScrollingColumn(content)
        notice = QLabel(NOTICE)
        notice.setAlignment(Qt.AlignmentFlag.AlignCenter)
        notice.setStyleSheet("font-style: italic; padding: 2px;")
        title = f"{_WIDGET} ({_PLUGIN})"
        self.setMinimumWidth(self.fontMetrics().horizontalAdvance(title) + _TITLE_BUTTONS)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._column, 1)
        layout.addWidget(notice)

    def _connect(self) -> None:
        controls, runner, layers = self.controls, self.runner, self._viewer.layers.events
        controls.image_changed.connect(self._on_image)
        controls.setup_changed.connect(self._on_setup)
        controls.choice_changed.connect(self._on_choice)
        controls.setting_changed.connect(self._on_setting)
        controls.segment.connect(self.segment)
        controls.segment_all.connect(self.segment_all)
        controls.cancel.connect(self.cancel)
        controls.keep.connect(self.keep)
        controls.undo.connect(self.undo)
        controls.inspect.connect(self.open_inspector)
        controls.open_model.connect(self.open_model)
        controls.find_devices.connect(runner.find_devices)
        controls.device_gone.connect(self._on_device_gone)
        self._rest.timeout.connect(self._run)
        runner.progressed.connect(controls.show_progress)
        runner.devices_found.connect(controls.set_devices)
        runner.answered.connect(self._on_answer)
        runner.failed.connect(self._on_failed)
        runner.cancelled.connect(self._on_cancelled)
        runner.rested.connect(self._idle)
        self._events = (layers.inserted, layers.removed, layers.renamed)
        for event in self._events:
            event.connect(self._offer_images)
        self.closing.connect(self._release)
        # The window may go without a word to its docks: see that the thread never outlives it.
        self.destroyed.connect(lambda: runner.close())

    # What there is to choose from

    def _offer_models(self) -> None:
        try:
            self.controls.set_models(models())
        except SparseSegError as error:
            self.message.show_error(str(error))

    def _offer_images(self, event: Any = None) -> None:
        self.controls.set_images((layer.unique_id, layer.name) for layer in self._images.layers())

    def image(self) -> Image | None:
        """Return the chosen image layer, None if there is none."""
        return self._images.find(self.controls.image.currentData())

    @property
    def shown(self) -> Shown | None:
        """What is shown of the chosen image, None if nothing is."""
        return self._images.results.get(self.controls.image.currentData())

    @property
    def busy(self) -> bool:
        """Whether something runs, or will in a moment because the slider has moved."""
        return self.runner.busy or self.batch.active or self._rest.isActive()

    # What the user does

    def segment(self) -> None:
        """Segment the chosen image with the chosen settings, as the button does."""
        self.message.dismiss()
        self._run()

    def segment_all(self) -> None:
        """Segment every open scan with the chosen settings, one after the other."""
        self.message.dismiss()
        self._rest.stop()
        self.view.restore()
        self.batch.start()

    def cancel(self) -> None:
        """Stop the run; the viewer stays as it is."""
        self._rest.stop()
        self._restore_choice()
        if not self.runner.busy:
            self._on_cancelled()  # the slider had moved and its run had not begun
            return
        self.controls.show_progress(0, 0, "Cancelling")
        self.controls.cancel_button.setEnabled(False)
        self.runner.cancel()

    def keep(self) -> None:
        """Leave the shown result in the viewer; the next run makes new layers."""
        image, shown = self.image(), self.shown
        if image is None or shown is None or shown.kept:
            return
        shown.layers.keep(title := origin(shown.result.report))
        shown.layers.show(image, shown.request.scan, shown.result)
        shown.kept = True
        self.message.show_note(f"Kept as {image.name} segmentation ({title}).")
        self._show_result()

    def undo(self) -> None:
        """Show the result before this one again, in place of one that is being made."""
        shown = self.shown
        if shown is None or not shown.earlier:
            return
        shown.go_back()
        self._show_answer(shown)
        self.message.show_note(f"Back to {origin(shown.result.report)}.")

    def open_inspector(self) -> Inspector:
        """Open the inspector below the canvas, or return the one that is open."""
        return self._inspector.open()

    def show_answer(self, answer: Answer) -> None:
        """Show a result that is there already, of the chosen image; undo leads back."""
        shown = self.shown
        if shown is not None:
            shown.show_next(answer)
            self._show_answer(shown)

    def open_model(self, path: str) -> None:
        """Offer the model of a file and choose it, or say why that cannot be.

        Parameters
        ----------
        path : str
            A .safetensors file.
        """
        self.message.dismiss()
        try:
            self.controls.add_model(find_model(Path(path).absolute()))
        except SparseSegError as error:
            self.refuse(str(error))

    def _on_image(self) -> None:
        self._on_setup()
        self._show_notes()
        self._restore_choice()
        self._show_result()

    def _on_setup(self) -> None:
        self.message.dismiss()
        self._rest.stop()
        self.runner.forget()
        self.view.restore()

    def _on_choice(self) -> None:
        """Run another method or control at once where there is something to compare it with."""
        self.message.dismiss()
        self.view.restore()
        if self.shown is not None or (self.runner.busy and self.runner.follows):
            self._run()

    def _on_setting(self) -> None:
        self.message.dismiss()
        shown, follows = self.shown, self.runner.follows
        if follows and shown is not None and self.view.previews():
            self._preview(shown)
        if follows and self.controls.follow.isChecked():
            self._rest.start()
        elif shown is not None:
            name = self.controls.setting.label.text().lower()
            self.message.show_note(f"Press Segment to segment with this {name}.")

    def _on_device_gone(self, device: str) -> None:
        """Run on another device what was asked of one that was there last time."""
        self.message.show_note(f"{device} is not there any more; the device is chosen for you.")
        if self.batch.active:
            self.batch.start()
        elif self.runner.busy and self.runner.follows:
            self._run()

    def _preview(self, shown: Shown) -> None:
        """Show at once what the first stage would let go on, if the shown method can tell."""
        try:
            request = request_of(self.image(), self.controls)
        except SparseSegError:
            return  # the run says so
        if request.shares_session(shown.request):
            preview = self.runner.preview(request)
            if preview is not None:
                self.view.preview(preview)

    # What the engine does

    def _run(self) -> None:
        """Ask the engine for the present choices; the latest request wins."""
        self._rest.stop()
        self.batch.stop()
        self._show_notes()
        try:
            request = request_of(self.image(), self.controls)
        except SparseSegError as error:
            self.refuse(str(error))
            return
        self.controls.set_busy(True)
        self.runner.request(request)

    def _on_answer(self, answer: Answer) -> None:
        image = self.image()
        if image is None or self._rest.isActive():
            return  # the slider has moved on: its run comes in a moment
        if not answer.request.scan.still_is(image):
            self._on_failed(InputError(CHANGED.format(name=image.name)))
            return
        self._take(image, answer)
        told = notes_of(answer, but=answer.request.scan.notes)
        if told:
            self.message.show_notes(told)

    def _take(self, image: Image, answer: Answer) -> None:
        """Show a new answer in the layers of its image."""
        self.view.fill(self._images.take(image, answer), image)
        if image is self.image():
            self._show_result()
        self.segmented.emit(answer.result)

    def _show_answer(self, shown: Shown) -> None:
        """Bring everything to what is shown of the chosen image, in place of what runs."""
        image = self.image()
        assert image is not None
        self._rest.stop()
        self.runner.drop()
        self.view.fill(shown, image)
        self._restore_choice()
        self._show_result()

    def _on_cancelled(self) -> None:
        self.view.restore()
        self.message.show_note(self.batch.stop() or "Cancelled; nothing was changed.")

    def _on_failed(self, error: Exception) -> None:
        self.view.restore()
        self._restore_choice()
        self.refuse(sentence_of(error))

    def refuse(self, sentence: str) -> None:
        """Show why something did not work out."""
        self.message.show_error(sentence)
        self.refused.emit(sentence)

    def _restore_choice(self) -> None:
        """Put method, control and slider back to what is shown."""
        shown = self.shown
        if shown is not None:
            self.controls.show_choice(shown.request.choice, shown.request.setting)

    # What is shown

    def _idle(self) -> None:
        """Show that nothing runs, and in short what is there."""
        self.controls.set_busy(False, self.view.summary())

    def _show_notes(self) -> None:
        """Say what is worth knowing of the chosen scan, as long as it is chosen."""
        self.about.show_notes(scan_notes(self.image()))

    def _show_result(self) -> None:
        shown = self.shown
        self.view.display(shown)
        if not self.runner.busy:
            self._idle()
        self.controls.offer_results(
            keep=shown is not None and not shown.kept,
            undo=shown is not None and bool(shown.earlier),
            visible=shown is not None,
        )
        self._column.fit()
        self.changed.emit()

    def _release(self) -> None:
        """Stop and free everything, and leave nothing behind that works on this dock."""
        self._rest.stop()
        self.runner.close()
        self._idle()
        for event in self._events:
            event.disconnect(self._offer_images)
        self._inspector.close()
        self.view.pointer.let_go()
        self._images.results.clear()


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
