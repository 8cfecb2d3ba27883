"""The dock: choose a scan, segment it, see what was pruned, move the slider."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_sparseseg.errors import InputError, SparseSegError
from napari_sparseseg.plugin.closing import ClosingWidget
from napari_sparseseg.plugin.controls import Controls
from napari_sparseseg.plugin.geometry import Scan
from napari_sparseseg.plugin.layers import ResultLayers, is_result
from napari_sparseseg.plugin.panels import Message, ScrollingColumn
from napari_sparseseg.plugin.result_view import ResultView
from napari_sparseseg.plugin.runner import Answer, Request, Runner, Work
from napari_sparseseg.plugin.shown import Shown
from napari_sparseseg.plugin.words import origin
from napari_sparseseg.report import NOTICE
from napari_sparseseg.weights import find_model, models

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

    from napari_sparseseg.plugin.inspector.panel import Inspector

REST_MS = 250
"""How long the slider has to rest before the network runs again."""

_PLUGIN, _WIDGET = "napari-sparseseg", "Sparse segmentation"
_TITLE_BUTTONS = 118
"""Pixels of a dock's title bar that are not its title."""
_NO_IMAGE = (
    "There is no image to segment; open a scan, or the sample under File > Open Sample > SparseSeg."
)


class SparseSegDock(ClosingWidget):
    """The dock widget.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The viewer that it works on.

    Attributes
    ----------
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
        self._inspector: Inspector | None = None
        self._results: dict[object, Shown] = {}
        self.controls = Controls()
        self.message = Message()
        self.view = ResultView(napari_viewer, self._results)
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
        for widget in (self.controls, self.message, self.view):
            column.addWidget(widget)
        column.addStretch(1)
        self._column = ScrollingColumn(content)
        notice = QLabel(NOTICE)
        notice.setAlignment(Qt.AlignmentFlag.AlignCenter)
        notice.setStyleSheet("font-style: italic; padding: 2px;")
        title = self.fontMetrics().horizontalAdvance(f"{_WIDGET} ({_PLUGIN})")
        self.setMinimumWidth(title + _TITLE_BUTTONS)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._column, 1)
        layout.addWidget(notice)

    def _connect(self) -> None:
        controls, runner, layers = self.controls, self.runner, self._viewer.layers
        controls.image_changed.connect(self._on_image)
        controls.setup_changed.connect(self._on_setup)
        controls.choice_changed.connect(self._on_choice)
        controls.setting_changed.connect(self._on_setting)
        controls.segment.connect(self.segment)
        controls.cancel.connect(self.cancel)
        controls.keep.connect(self.keep)
        controls.undo.connect(self.undo)
        controls.inspect.connect(self.open_inspector)
        controls.open_model.connect(self.open_model)
        controls.find_devices.connect(runner.find_devices)
        self._rest.timeout.connect(self._run)
        runner.progressed.connect(controls.show_progress)
        runner.devices_found.connect(controls.set_devices)
        runner.answered.connect(self._on_answer)
        runner.failed.connect(self._on_failed)
        runner.cancelled.connect(self._on_cancelled)
        for event in (layers.events.inserted, layers.events.removed, layers.events.renamed):
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
        from napari.layers import Image

        layers = [x for x in self._viewer.layers if isinstance(x, Image) and not is_result(x)]
        self.controls.set_images((layer.unique_id, layer.name) for layer in layers)
        known = {layer.unique_id for layer in layers}
        for gone in self._results.keys() - known:
            del self._results[gone]

    def image(self) -> Image | None:
        """Return the chosen image layer, None if there is none."""
        chosen = self.controls.image.currentData()
        return next((x for x in self._viewer.layers if x.unique_id == chosen), None)

    @property
    def shown(self) -> Shown | None:
        """What is shown of the chosen image, None if nothing is."""
        return self._results.get(self.controls.image.currentData())

    # What the user does

    def segment(self) -> None:
        """Segment the chosen image with the chosen settings, as the button does."""
        self.message.dismiss()
        self._run()

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
        title = origin(shown.result.report)
        shown.layers.keep(title)
        shown.layers.show(image, shown.request.scan, shown.result)
        shown.kept = True
        self.message.show_note(f"Kept as {image.name} segmentation ({title}).")
        self._show_result()

    def undo(self) -> None:
        """Show the result before this one again."""
        shown = self.shown
        if shown is None or not shown.earlier:
            return
        shown.go_back()
        self._show_answer(shown)
        self._restore_choice()
        self.message.show_note(f"Back to {origin(shown.result.report)}.")

    def open_inspector(self) -> Inspector:
        """Open the inspector below the canvas, or bring it to the front."""
        from napari_sparseseg.plugin.inspector.panel import TITLE, Inspector

        if self._inspector is None:
            inspector = self._inspector = Inspector(self._viewer, self)
            inspector.closing.connect(self._on_inspector_closed)
            self._viewer.window.add_dock_widget(inspector, name=TITLE, area="bottom")
        return self._inspector

    def _on_inspector_closed(self) -> None:
        self._inspector = None

    def show_answer(self, answer: Answer) -> None:
        """Show a result that is there already, of the chosen image; undo leads back."""
        shown = self.shown
        if shown is not None:
            shown.show_next(answer)
            self._show_answer(shown)
            self._restore_choice()

    def perform(self, work: Work, done: Callable[[Any], None], request: Request) -> None:
        """Do long work on a session beside the window, with progress and Cancel.

        Parameters
        ----------
        work : callable
            See :data:`runner.Work`.
        done : callable
            Gets what it returns, in the thread of the window.
        request : Request
            Whose session it needs.
        """
        self.message.dismiss()
        self._rest.stop()

        def finish(value: Any) -> None:
            self._idle()
            done(value)

        self.controls.set_busy(True, locked=True)
        self.runner.perform(request, work, finish)

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
            self._refuse(str(error))

    def _on_image(self) -> None:
        self._on_setup()
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
        shown = self.shown
        if not self.runner.follows:
            if shown is not None:
                name = self.controls.setting.label.text().lower()
                self.message.show_note(f"Press Segment to segment with this {name}.")
            return
        if shown is not None and self.view.previews():
            self._preview(shown)
        self._rest.start()

    def _preview(self, shown: Shown) -> None:
        """Show at once what the first stage would let go on, if the shown method can tell."""
        try:
            request = self._request()
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
        try:
            request = self._request()
        except SparseSegError as error:
            self._refuse(str(error))
            return
        self.controls.set_busy(True)
        self.runner.request(request)

    def _request(self) -> Request:
        image, choice = self.image(), self.controls.choice()
        if image is None:
            raise InputError(_NO_IMAGE)
        if choice is None:
            models()  # says why there is none
            raise InputError("There is no model to segment with; reinstall napari-sparseseg.")
        controls = self.controls
        return Request(
            Scan.of(image),
            choice,
            controls.device.currentData(),
            controls.precision.currentData(),
            controls.setting.value(),
        )

    def _on_answer(self, answer: Answer) -> None:
        image = self.image()
        if image is None or self._rest.isActive():
            return  # the slider has moved on: its run comes in a moment
        shown = self.shown
        if shown is None:
            shown = self._results[image.unique_id] = Shown(ResultLayers(self._viewer), answer)
        else:
            shown.show_next(answer)
        self._show_answer(shown)
        if answer.request.scan.assumed:
            self.message.show_note(
                f"{image.name} does not say how the patient lies in it: its axes were taken as "
                "right, anterior and superior."
            )
        self.segmented.emit(answer.result)

    def _show_answer(self, shown: Shown) -> None:
        """Bring layers and panels to what is shown of the chosen image."""
        image = self.image()
        assert image is not None
        self.view.fill(shown, image)
        self._show_result()

    def _on_cancelled(self) -> None:
        self._idle()
        self.view.restore()
        self.message.show_note("Cancelled; nothing was changed.")

    def _on_failed(self, error: Exception) -> None:
        self._idle()
        self.view.restore()
        self._restore_choice()
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

    def _restore_choice(self) -> None:
        """Put method, control and slider back to what is shown."""
        shown = self.shown
        if shown is not None:
            self.controls.show_choice(shown.request.choice, shown.request.setting)

    # What is shown

    def _idle(self) -> None:
        """Show that nothing runs, and in short what is there."""
        self.controls.set_busy(False, self.view.summary())

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
        """Stop and free everything."""
        self._rest.stop()
        self.runner.close()
        self._idle()


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
