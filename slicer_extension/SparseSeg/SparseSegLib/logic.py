"""From a volume node to result nodes, by way of the engine; no Qt, and nothing pops up.

Everything that it needs is handed in, so that a panel, a script and a test use the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import slicer
import vtk

from SparseSegLib.catalogue import Catalogue, read_catalogue
from SparseSegLib.engine import Engine
from SparseSegLib.failures import WorkerError
from SparseSegLib.install import Installer, InstallError
from SparseSegLib.jobs import Job, Launch, Scan, Setup
from SparseSegLib.orders import Listener, Order, Shown, nothing, origin
from SparseSegLib.scene import (
    ResultWriter,
    SceneError,
    Source,
    fingerprint,
    read_volume,
)
from SparseSegLib.writing import ROLE

if TYPE_CHECKING:
    from SparseSegLib.answers import Grid, RunAnswer, TokenMap

_PAUSE_SECONDS = 0.02


class Logic:
    """Segments volumes of a scene.

    Parameters
    ----------
    scene : vtkMRMLScene
        The scene.
    writer : ResultWriter
        Puts results into it.
    engine : Engine
        Computes them.
    installer : Installer
        Sees to it that the engine is there.
    process_events : callable
        Keeps the application responsive while somebody waits.
    wake : callable
        Is called when there is something to :meth:`poll` for.

    Attributes
    ----------
    shown : dict of Shown
        The newest result of each volume, by the ID of its node.
    on_stopped : callable
        Is called when a cancelled run has stopped, whether or not another one follows it.
    """

    def __init__(
        self,
        scene: Any,
        writer: ResultWriter,
        engine: Engine,
        installer: Installer,
        process_events: Callable[[], None] = nothing,
        wake: Callable[[], None] = nothing,
    ) -> None:
        self.shown: dict[str, Shown] = {}
        self.on_stopped: Callable[[], None] = nothing
        self.writer, self.engine, self.installer = writer, engine, installer
        self._scene, self._process_events = scene, process_events
        self._wake = wake
        self._catalogue: Catalogue | None = None
        self._running: tuple[Order, Listener] | None = None
        self._opened: Any = None
        events = slicer.vtkMRMLScene
        self._tags = [
            scene.AddObserver(events.NodeAboutToBeRemovedEvent, self._on_node_removed),
            scene.AddObserver(events.StartCloseEvent, self._on_scene_closed),
        ]

    @property
    def busy(self) -> bool:
        """Whether a run goes on."""
        return self._running is not None

    # What can be asked

    def catalogue(
        self, on_result: Callable[[Catalogue], None], on_error: Callable[[Exception], None]
    ) -> None:
        """Ask which models there are; the answer is kept for the next time."""

        def result(value: dict[str, Any]) -> None:
            self._catalogue = read_catalogue(value)
            on_result(self._catalogue)

        if self._catalogue is not None:
            on_result(self._catalogue)
        else:
            self._wake()
            self.engine.ask("models", result, on_error)

    def devices(
        self,
        on_result: Callable[[list[dict[str, Any]]], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """Ask which processors there are, with the memory of graphics cards."""
        self._wake()
        self.engine.ask("devices", lambda result: on_result(result["devices"]), on_error)

    def start(self, order: Order, listener: Listener) -> None:
        """Segment; a run that goes on is replaced, and its listener is told nothing."""
        self._running = order, listener
        self._wake()
        try:
            job = self._job(order, read_volume(order.volume, order.region), listener)
        except Exception as error:
            self._fail(error)
            return
        self._opened = order.volume
        self.engine.segment(job)

    def preview(self, order: Order, on_preview: Callable[[Shown], None]) -> None:
        """Show at once what the first stage would let go on, where the engine can tell."""
        shown = self.shown.get(order.volume.GetID())
        if shown is None or shown.order.setup != order.setup or order.setting is None:
            return
        key = fingerprint(order.volume, order.region)
        if key != shown.source.fingerprint:
            return

        def draw(token_map: TokenMap, grid: Grid) -> None:
            if self.shown.get(order.volume.GetID()) is shown:
                self.writer.preview(order.volume, shown.source, grid, token_map, shown.nodes)
                shown.previewed[token_map.key] = token_map
                on_preview(shown)

        self.engine.preview((key, order.setup), order.setting, draw)

    def end_preview(self, volume: Any) -> None:
        """Show the map of a volume's result again, where a preview took its place."""
        shown = self.shown.get(volume.GetID()) if volume is not None else None
        if shown is None or not shown.previewed:
            return
        for token_map in shown.answer.maps:
            if token_map.key in shown.previewed:
                grid = shown.answer.grid
                self.writer.preview(volume, shown.source, grid, token_map, shown.nodes)
        shown.previewed.clear()

    def keep(self, volume: Any) -> str:
        """Leave the result of a volume in the scene; its next run makes new nodes.

        Returns
        -------
        str
            What it came from, which its nodes are named after now; "" if there is none.
        """
        shown = self.shown.pop(volume.GetID(), None)
        if shown is None:
            return ""
        title, nodes = origin(shown.answer.report), shown.nodes
        self.writer.show_map(nodes, None)
        for node_id in (nodes.segmentation, nodes.table, *nodes.maps.values()):
            node = self._scene.GetNodeByID(node_id)
            if node is not None:
                node.SetName(f"{node.GetName()} ({title})")
                node.RemoveAttribute(ROLE)  # the next run does not find it
        return title

    def cancel(self) -> None:
        """Stop the run; its listener gets the kind "cancelled" in less than a second."""
        self.engine.cancel()

    def poll(self) -> bool:
        """Let what has arrived take effect; returns whether there is more to wait for."""
        cancelling = self.engine.cancelling
        self.engine.poll()
        if cancelling and not self.engine.cancelling:
            self.on_stopped()
        return self.busy or self.engine.worker.alive

    def forget_catalogue(self) -> None:
        """Ask again the next time: the engine was installed or removed."""
        self._catalogue = None

    def stop(self) -> None:
        """End the engine and observe the scene no more."""
        self._running = None
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._tags = []
        self.engine.stop()

    def process(
        self,
        volume: Any,
        region: Any = None,
        setup: Setup | None = None,
        setting: float | None = None,
        compare_dense: bool = False,
        listener: Listener | None = None,
        wait: bool = True,
    ) -> Shown | None:
        """Segment a volume without a panel; install nothing and ask nothing.

        Parameters
        ----------
        volume, region, setup, setting, compare_dense
            As for :class:`Order`; the engine's default model if there is no setup.
        listener : Listener, optional
            Who is told, where nobody waits.
        wait : bool
            Wait for the result and return it.

        Raises
        ------
        InstallError, SceneError, WorkerError
            If it does not work out and ``wait`` is set.
        """
        outcome: list[Shown | Exception] = []
        heard = Listener(outcome.append, outcome.append) if wait else listener or Listener()
        setup = setup or Setup("")

        def begin(catalogue: Catalogue) -> None:
            chosen = Setup(
                setup.model or catalogue.default, setup.device, setup.precision, setup.sparsifier
            )
            self.start(Order(volume, region, chosen, setting, compare_dense), heard)

        self.catalogue(begin, heard.on_error)
        while wait and not outcome:
            self.poll()
            self._process_events()
            time.sleep(_PAUSE_SECONDS)
        if outcome and isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0] if outcome else None

    # How it is done

    def _job(self, order: Order, source: Source, listener: Listener) -> Job:
        return Job(
            scan=Scan(source.array_ijk, source.affine, source.name, source.fingerprint),
            setup=order.setup,
            setting=order.setting,
            compare_dense=order.compare_dense,
            on_answer=lambda answer: self._finish(order, source, answer),
            on_error=lambda error: self._fail(error, order),
            on_progress=listener.on_progress,
        )

    def _finish(self, order: Order, source: Source, answer: RunAnswer) -> None:
        before = self.shown.get(order.volume.GetID())
        try:
            nodes = before.nodes if before is not None else self.writer.find(order.volume)
            nodes = self.writer.show(order.volume, source, answer, nodes)
        except Exception as error:
            self._fail(error, order)
            return
        shown = self.shown[order.volume.GetID()] = Shown(order, source, answer, nodes)
        listener = self._take_listener(order)
        if listener is not None:
            listener.on_finished(shown)

    def _fail(self, error: Exception, order: Order | None = None) -> None:
        """Tell who waits for an order, or for any, that it did not work out."""
        listener = self._take_listener(order)
        if listener is not None:
            listener.on_error(error)

    def _take_listener(self, order: Order | None) -> Listener | None:
        """Return who waits for an order, and let nobody wait any more.

        Nobody does if a newer order has taken its place, or it was stopped with the scene.
        """
        if self._running is None or order not in (None, self._running[0]):
            return None
        (_, listener), self._running = self._running, None
        return listener

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_node_removed(self, _scene: Any, _event: str, node: Any) -> None:
        """Let go of a volume that is about to go."""
        self.shown.pop(node.GetID() or "", None)
        if node is self._opened:
            self._opened = None
            self.engine.close()
            self._fail(
                SceneError(
                    f"{node.GetName()} was removed from the scene while it was segmented; the run "
                    "was stopped."
                )
            )

    def _on_scene_closed(self, *_: object) -> None:
        self.shown.clear()
        self._opened = None
        self.engine.close()
        self._fail(SceneError("The scene was closed; the run was stopped."))


def launcher(
    installer: Installer, environment: Callable[[], Mapping[str, str] | None], host: str
) -> Callable[[], Launch]:
    """Return what starts the engine with the Python that the installer names.

    Parameters
    ----------
    installer : Installer
        Knows the Python, and what is missing in it.
    environment : callable
        Gives the environment variables of a child process.
    host : str
        Name and version of the application.
    """

    def launch() -> Launch:
        if missing := installer.missing():
            raise WorkerError(
                "install",
                f"The engine is not installed ({', '.join(missing)} is missing); press Install "
                "engine in the module SparseSeg.",
            )
        command = (installer.python(), "-m", "napari_sparseseg.worker")
        return Launch(command, environment(), host)

    return launch


def sentence_of(error: Exception) -> str:
    """Return what the user is told about an error."""
    if isinstance(error, SceneError | WorkerError | InstallError):
        return str(error)
    return (
        f"Something in the module went wrong ({type(error).__name__}: {error}); see the log, save "
        "your work and press Apply again."
    )
