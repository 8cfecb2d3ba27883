"""The panel: widgets on one side, logic on the other, parameters between them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import qt
import vtk

from SparseSegLib import words
from SparseSegLib.catalogue import Catalogue
from SparseSegLib.chooser import Choice, ModelChooser
from SparseSegLib.failures import WorkerError
from SparseSegLib.feedback import Feedback
from SparseSegLib.install import InstallError
from SparseSegLib.jobs import Setup
from SparseSegLib.logic import Logic, sentence_of
from SparseSegLib.orders import Listener, Order, Shown, nothing
from SparseSegLib.result_view import ResultView

REST_MS = 250
"""How long the slider has to rest before the engine runs again."""

AUTO = "auto"
PRECISIONS = ((AUTO, "automatic"), ("float32", "float32"), ("bfloat16", "bfloat16"))

APPLY, CANCEL, CANCELLING = "Apply", "Cancel", "Cancelling..."
INSTALL, START = "Install engine", "Start engine"
_TIPS = {
    APPLY: "Segment the volume with these choices",
    CANCEL: "Stop; the scene stays as it is",
    CANCELLING: "",
    INSTALL: "Install what SparseSeg needs into Slicer; you are asked before",
    START: "Ask the engine again which models there are",
}
_NOT_INSTALLED = "The engine is not installed yet; press Install engine to do so."


class Panel:
    """The panel.

    Parameters
    ----------
    ui : object
        The widgets of ``SparseSeg.ui`` by name.
    logic : Logic
        What it drives.

    Attributes
    ----------
    told : Feedback
        Message, progress and log.
    chooser : ModelChooser
        The rows for model, control and setting.
    view : ResultView
        The rows for the result.
    """

    def __init__(self, ui: Any, logic: Logic) -> None:
        self._ui, self._logic = ui, logic
        self._parameters: Any = None
        self._gui_tag: Any = None
        self._observer: Any = None
        self._catalogue = Catalogue()
        self._volume: Any = None
        self._choice: Choice | None = None  # what the parameters say, and the widgets show
        self._look: tuple[float, bool] | None = None
        self._syncing = self._devices_known = self._asking = False
        self._rest = qt.QTimer()
        self._rest.setSingleShot(True)
        self._rest.setInterval(REST_MS)
        self._rest.connect("timeout()", self._run)
        self.told = Feedback(ui)
        self.chooser = ModelChooser(ui, self._on_model, self._on_control, self._on_setting)
        self.view = ResultView(ui, logic.writer, self._on_map)
        logic.engine.worker.on_log = self.told.log
        logic.on_stopped = self._show_state
        self._fill()
        self._connect()
        self._show_state()

    def _fill(self) -> None:
        _offer(self._ui.device, [(AUTO, "automatic")], AUTO)
        _offer(self._ui.precision, PRECISIONS, AUTO)

    def _connect(self) -> None:
        ui = self._ui
        for button, action in (
            (ui.applyButton, self._on_apply),
            (ui.keepButton, self._on_keep),
            (ui.refreshDevices, self._find_devices),
            (ui.removeEngine, self._on_remove_engine),
        ):
            button.connect("clicked(bool)", lambda _=False, action=action: action())
        for combo in (ui.device, ui.precision):
            combo.connect("currentIndexChanged(int)", lambda _: self._on_setup())

    # Its life

    def set_parameters(self, parameters: Any) -> None:
        """Follow other parameters, or none while there is no scene.

        Parameters
        ----------
        parameters : SparseSegParameterNode or None
            What the user chose.
        """
        self._rest.stop()
        if self._parameters is not None:
            self._parameters.disconnectGui(self._gui_tag)
            self._parameters.RemoveObserver(self._observer)
        self._parameters = parameters
        if parameters is not None:
            self._gui_tag = parameters.connectGui(self._ui)
            self._observer = parameters.AddObserver(
                vtk.vtkCommand.ModifiedEvent, lambda *_: self._sync()
            )
        self._volume = self._choice = self._look = None
        self._sync()

    def enter(self) -> None:
        """Ask for the models, if the engine is there; say so if it is not."""
        if self._catalogue.models:
            return
        if self._logic.installer.missing():
            self.told.note(_NOT_INSTALLED)
        else:
            self._ask_catalogue()
        self._show_state()

    def close(self) -> None:
        """Let go of everything."""
        self.set_parameters(None)
        self._logic.engine.worker.on_log = logging.info
        self._logic.on_stopped = nothing

    # What is shown

    def _show_state(self) -> None:
        """Let the buttons offer what can be done now."""
        text = APPLY
        if self._logic.busy:
            text = CANCELLING if self._logic.engine.cancelling else CANCEL
        elif not self._catalogue.models and not self._asking:
            text = INSTALL if self._logic.installer.missing() else START
        button = self._ui.applyButton
        button.setText(text)
        button.setToolTip(_TIPS[text])
        ready = self._volume is not None and self.chooser.model is not None
        button.setEnabled(ready if text == APPLY else text != CANCELLING)
        self._ui.keepButton.setEnabled(self._shown is not None and not self._logic.busy)
        self._ui.removeEngine.setEnabled(not self._logic.busy)

    def _show_result(self) -> None:
        """Show the result of the chosen volume, if there is one."""
        shown, parameters = self._shown, self._parameters
        wanted = "" if parameters is None else parameters.map
        opacity = 1.0 if parameters is None else parameters.opacity
        in_3d = parameters is not None and parameters.show3D
        self.view.show(shown, self._catalogue, wanted, opacity, in_3d)
        self.told.progress(0, 0, "" if shown is None else words.summary(shown.answer.report))
        self._show_state()

    @property
    def _shown(self) -> Shown | None:
        return None if self._volume is None else self._logic.shown.get(self._volume.GetID())

    # Parameters

    def _sync(self) -> None:
        """Bring the widgets that no connection follows to what the parameters say."""
        parameters = self._parameters
        if self._syncing or parameters is None:
            return
        self._syncing = True
        choice = self._chosen()
        if choice != self._choice:
            self._choice = choice
            self.chooser.show(choice)
        _choose(self._ui.device, parameters.device)
        _choose(self._ui.precision, parameters.precision)
        self._syncing = False
        if parameters.inputVolume is not self._volume:
            self._volume = parameters.inputVolume
            self._rest.stop()
            self._show_result()
        look = parameters.opacity, parameters.show3D
        if look != self._look:
            self._look = look
            self.view.show_map(parameters.opacity)
            self.view.show_3d(parameters.show3D)
        self._show_state()

    def _chosen(self) -> Choice:
        """Return model, control and setting as the parameters say."""
        parameters = self._parameters
        if parameters is None:
            return Choice("", "", 0.0)
        return Choice(parameters.model, parameters.sparsifier, parameters.setting)

    def _set(self, **values: object) -> None:
        """Write parameters; the widgets hold them already."""
        if self._parameters is None or self._syncing:
            return
        self._syncing = True
        for name, value in values.items():
            setattr(self._parameters, name, value)
        self._choice = self._chosen()
        self._syncing = False

    def _order(self) -> Order:
        parameters, choice = self._parameters, self.chooser.choice()
        return Order(
            volume=self._volume,
            region=parameters.region,
            setup=Setup(choice.model, parameters.device, parameters.precision, choice.sparsifier),
            setting=choice.setting or None,
            compare_dense=parameters.compareDense,
        )

    # What the user does

    def _on_apply(self) -> None:
        self.told.dismiss()
        if self._ui.applyButton.text == INSTALL:
            self._install()
        elif self._ui.applyButton.text == START:
            self._ask_catalogue()
        elif self._logic.busy:
            self._rest.stop()
            self._logic.cancel()
        else:
            self._run()
        self._show_state()

    def _on_keep(self) -> None:
        self.view.show(None, self._catalogue, "", 1.0, False)
        title = self._logic.keep(self._volume)
        self._show_result()
        if title:
            self.told.note(f"Kept: the nodes are named after {title}.")

    def _on_model(self, choice: Choice) -> None:
        self._remember(choice)
        if self._shown is not None:
            self.told.note("Press Apply to segment with this model.")

    def _on_control(self, choice: Choice) -> None:
        """Run another control at once where there is something to compare it with."""
        self._remember(choice)
        if self._shown is not None:
            self._run()

    def _on_setting(self, choice: Choice) -> None:
        self._set(model=choice.model, setting=choice.setting)
        shown = self._shown
        if shown is None or self._parameters is None:
            return
        order = self._order()
        if shown.order.setup != order.setup:
            self.told.note("Press Apply to segment with this model.")
            return
        self.told.dismiss()
        self._guard(self._logic.preview, order, lambda _: self._show_preview())
        if self._parameters.followSlider:
            self._rest.start()
        else:
            name = self._ui.settingLabel.text.lower()
            self.told.note(f"Press Apply to segment with this {name}.")

    def _on_setup(self) -> None:
        devices, precisions = self._ui.device, self._ui.precision
        self._set(
            device=devices.itemData(devices.currentIndex) or AUTO,
            precision=precisions.itemData(precisions.currentIndex) or AUTO,
        )

    def _on_map(self, wanted: str) -> None:
        self._set(map=wanted)
        if self._parameters is not None:
            self.view.show_map(self._parameters.opacity)

    def _on_remove_engine(self) -> None:
        self.told.dismiss()
        self._logic.engine.stop()  # or Windows would not let its files go
        if not self._guard(self._logic.installer.remove):
            return
        self._logic.forget_catalogue()
        self._catalogue = Catalogue()
        self.chooser.offer(self._catalogue, Choice("", "", 0.0))
        self.told.note("The engine and its models were removed.")
        self._show_state()

    def _remember(self, choice: Choice) -> None:
        self._rest.stop()
        self.told.dismiss()
        self._set(model=choice.model, sparsifier=choice.sparsifier, setting=choice.setting)
        self._show_state()

    def _install(self) -> None:
        self.told.note("Installing the engine; this takes some minutes.")
        try:
            self._logic.installer.ensure()
        except InstallError as error:
            self._on_failed(error)
            return
        self.told.dismiss()
        self._ask_catalogue()

    def _ask_catalogue(self) -> None:
        self._asking = True
        self._logic.catalogue(self._on_catalogue, self._on_failed)

    def _find_devices(self) -> None:
        self._logic.devices(self._on_devices, self._on_failed)

    # What the engine does

    def _run(self) -> None:
        self._rest.stop()
        if self._volume is None or self.chooser.model is None:
            return
        self.told.progress(0, 0, "Starting")
        listener = Listener(self._on_finished, self._on_failed, self.told.progress)
        self._logic.start(self._order(), listener)
        self._show_state()

    def _on_finished(self, shown: Shown) -> None:
        report = shown.answer.report
        self.told.log(f"{report['model']}: {words.summary(report)}")
        self.chooser.remember_seconds(report["model"], report["seconds"]["total"])
        self._show_result()
        if not self._devices_known:  # torch is loaded now, so asking costs nothing
            self._find_devices()

    def _on_failed(self, error: Exception) -> None:
        self._asking = False
        self._logic.end_preview(self._volume)
        self._show_result()
        if isinstance(error, WorkerError) and error.kind == "cancelled":
            self.told.note(str(error))
            return
        self.told.error(sentence_of(error))
        detail = getattr(error, "detail", "")
        self.told.log("\n".join(filter(None, (str(error), detail))))
        if not isinstance(error, WorkerError | InstallError):
            logging.error("SparseSeg", exc_info=error)

    def _show_preview(self) -> None:
        if self._parameters is not None:
            self.view.show_map(self._parameters.opacity)

    def _on_catalogue(self, catalogue: Catalogue) -> None:
        self._asking = False
        self._catalogue = catalogue
        self.chooser.offer(catalogue, self._chosen())
        self._show_state()

    def _on_devices(self, devices: list[dict[str, Any]]) -> None:
        self._devices_known = True
        offered = [(AUTO, "automatic"), *((d["name"], words.device(d)) for d in devices)]
        self._syncing = True
        _offer(
            self._ui.device, offered, AUTO if self._parameters is None else self._parameters.device
        )
        self._syncing = False

    def _guard(self, action: Callable[..., Any], *args: Any) -> Any:
        """Do something, and show what goes wrong."""
        try:
            return action(*args)
        except Exception as error:
            self._on_failed(error)
            return None


def _offer(combo: Any, items: Any, chosen: str) -> None:
    """Fill a combo box with (value, text), and choose one."""
    combo.blockSignals(True)
    combo.clear()
    for value, text in items:
        combo.addItem(text, value)
    combo.blockSignals(False)
    _choose(combo, chosen)


def _choose(combo: Any, value: str) -> None:
    """Choose a value, which is added if it is not there: another computer's device."""
    combo.blockSignals(True)
    if combo.findData(value) < 0:
        combo.addItem(value, value)
    combo.setCurrentIndex(combo.findData(value))
    combo.blockSignals(False)
