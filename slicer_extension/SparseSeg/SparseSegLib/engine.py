"""What the panel asks of the engine: open a scan once, run it at any setting, the latest wins.

Standard library and numpy only. It keeps track of what the engine has open, so that a slider move
costs one ``run`` and another scan or model costs an ``open`` before it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from SparseSegLib.answers import AnswerError, Grid, TokenMap, read_grid, read_map, read_run
from SparseSegLib.failures import WorkerError, cancelled
from SparseSegLib.jobs import Job, Launch, Setup
from SparseSegLib.leftovers import private_folder
from SparseSegLib.runner import Refusal, State, Worker


class Engine:
    """The engine with one scan open.

    Parameters
    ----------
    launch : callable
        Says how the engine is started, whenever it has to be.
    worker : Worker, optional
        The process and its protocol.
    folder : Path, optional
        Where private folders are made; the system's temporary folder if left out.
    """

    def __init__(
        self,
        launch: Callable[[], Launch],
        worker: Worker | None = None,
        folder: Path | None = None,
    ) -> None:
        self.worker = worker or Worker()
        self._launch, self._folder = launch, folder
        self._job: Job | None = None
        self._after_cancel: Job | None = None
        self._request: int | None = None
        self._open: tuple[Hashable, Setup] | None = None
        self._opening: tuple[Hashable, Setup] | None = None
        self._grid: Grid | None = None
        self._preview: tuple[float, Callable[[TokenMap, Grid], None]] | None = None
        self._previewing = False
        self._files = 0
        self._sent = ""

    @property
    def busy(self) -> bool:
        """Whether somebody waits for a run."""
        return self._job is not None or self._after_cancel is not None

    @property
    def cancelling(self) -> bool:
        """Whether a run was told to stop and has not yet."""
        return self.worker.state is State.CANCELLING

    # What can be asked

    def ask(
        self, method: str, on_result: Callable[[dict[str, Any]], None], on_error: Refusal
    ) -> None:
        """Ask for something that needs no scan: "models" or "devices"."""
        try:
            self._start()
            self.worker.request(method, {}, on_result, on_error, background=True)
        except WorkerError as error:
            on_error(error)

    def segment(self, job: Job) -> None:
        """Run a job; it replaces the one before, which is told nothing."""
        if self.cancelling:
            self._after_cancel = job
            return
        self._job = job
        try:
            self._start()
            if job.session == self._open:
                self._run(job)
            elif job.session != self._opening:
                self._send_scan(job)
        except WorkerError as error:
            self._fail(error)

    def preview(
        self,
        session: tuple[Hashable, Setup],
        setting: float,
        on_map: Callable[[TokenMap, Grid], None],
    ) -> None:
        """Ask what the first stage would let go on, if this session is open; the latest wins."""
        if session == self._open and self.worker.alive and not self.cancelling:
            self._preview = setting, on_map
            self._ask_preview()

    def cancel(self) -> None:
        """Stop the run; its ``on_error`` gets the kind "cancelled" in less than a second."""
        waiting, self._after_cancel = self._after_cancel, None
        if self._request is not None:
            self.worker.cancel(self._request)
        if waiting is not None:
            waiting.on_error(cancelled())

    def close(self) -> None:
        """Let go of the open scan and its memory; a run that goes on is stopped, told nothing."""
        self._job = self._after_cancel = self._preview = None
        if self._request is not None:
            self.worker.cancel(self._request)
        self._open = self._opening = None
        if self.worker.alive:
            self.worker.request("close", {}, background=True)

    def stop(self) -> None:
        """End the engine; what waits is told nothing."""
        self._job = self._after_cancel = self._preview = None
        self._forget()
        self.worker.stop()

    def poll(self) -> None:
        """Let what has arrived take effect; called by a timer."""
        self.worker.poll()
        if not self.cancelling and self._after_cancel is not None:
            job, self._after_cancel = self._after_cancel, None
            self.segment(job)

    # How it is done

    def _start(self) -> None:
        if self.worker.alive:
            return
        self._forget()
        launch = self._launch()
        try:
            folder = private_folder(self._folder)
        except OSError as error:
            raise _no_room(error) from error
        self.worker.start(launch.command, folder, launch.environment, launch.host)

    def _forget(self) -> None:
        self._open = self._opening = self._grid = self._request = None
        self._previewing = False

    def _send_scan(self, job: Job) -> None:
        self._open, self._opening = None, job.session
        volume = {
            "data": self._write(job.scan.array),
            "affine": np.asarray(job.scan.affine, dtype=float).tolist(),
            "name": job.scan.name,
        }
        setup = job.setup
        self._drop_request()
        self._sent = volume["data"]
        self._ask(
            "open",
            {
                "volume": volume,
                "model": setup.model,
                "device": setup.device,
                "precision": setup.precision,
                "sparsifier": setup.sparsifier,
            },
            lambda result: self._on_opened(job.session, result),
        )

    def _on_opened(self, session: tuple[Hashable, Setup], result: Mapping[str, Any]) -> None:
        self._grid = read_grid(result)
        self._open, self._opening = session, None
        if self._job is not None and self._job.session == session:
            self._run(self._job)

    def _run(self, job: Job) -> None:
        self._ask(
            "run",
            {"setting": job.setting, "compare_dense": job.compare_dense},
            lambda result: self._on_answer(job, result),
        )

    def _on_answer(self, job: Job, result: Mapping[str, Any]) -> None:
        assert self._grid is not None and self.worker.folder is not None
        answer = read_run(result, self.worker.folder, self._grid)
        self._job = None
        job.on_answer(answer)

    def _ask(
        self,
        method: str,
        params: Mapping[str, Any],
        on_result: Callable[[Any], None],
    ) -> None:
        """Ask for a step of the present job, and for nothing else; what fails, fails the job."""

        def result(value: dict[str, Any]) -> None:
            self._request = None
            self._remove_sent()
            try:
                on_result(value)
            except AnswerError as error:
                self._break_off(error)

        def error(refusal: WorkerError) -> None:
            self._request = None
            self._remove_sent()
            self._fail(refusal)

        def progress(done: int, total: int, text: str) -> None:
            if self._job is not None:
                self._job.on_progress(done, total, text)

        self._drop_request()
        self._request = self.worker.request(method, params, result, error, progress)

    def _ask_preview(self) -> None:
        if self._previewing or self._preview is None:
            return
        (setting, on_map), self._preview = self._preview, None
        self._previewing = True

        def result(value: dict[str, Any]) -> None:
            self._previewing = False
            assert self.worker.folder is not None
            try:
                shown = read_map(value, self.worker.folder)
            except AnswerError as error:
                self._break_off(error)
                return
            if shown is not None and self._grid is not None:
                on_map(shown, self._grid)
            self._ask_preview()

        def error(_: WorkerError) -> None:  # the run that follows says why
            self._previewing = False
            if self.worker.alive:
                self._ask_preview()

        self.worker.request("preview", {"setting": setting}, result, error, background=True)

    def _break_off(self, error: AnswerError) -> None:
        """End an engine that does not keep to the protocol."""
        self.worker.kill_tree()
        sentence = "The engine sent an incomplete answer; press Apply to start it again."
        self._fail(WorkerError("protocol", sentence, str(error)))

    def _fail(self, error: WorkerError) -> None:
        """Tell the present job that it did not work out."""
        job, self._job = self._job, None
        if not self.worker.alive or self._opening is not None or error.kind != "cancelled":
            self._open = self._opening = None  # whatever is open now, it is not to be relied on
        if job is not None:
            job.on_error(error)

    def _write(self, array: np.ndarray) -> str:
        """Write voxels for the engine; returns the name of the file."""
        self._files += 1
        name = f"input-{self._files}.npy"
        assert self.worker.folder is not None
        try:
            np.save(self.worker.folder / name, array, allow_pickle=False)
        except OSError as error:
            self._remove(name)
            raise _no_room(error) from error
        return name

    def _drop_request(self) -> None:
        """Let nobody wait for the step before; the newer one makes the engine stop it."""
        if self._request is not None:
            self.worker.drop(self._request)
            self._request = None
            self._remove_sent()

    def _remove_sent(self) -> None:
        """Delete the voxels that were sent: they were read, or nobody wants them read."""
        sent, self._sent = self._sent, ""
        self._remove(sent)

    def _remove(self, name: str) -> None:
        if name and self.worker.folder is not None:
            with suppress(OSError):  # Windows: the engine has it open; it goes with the folder
                (self.worker.folder / name).unlink()


def _no_room(error: OSError) -> WorkerError:
    return WorkerError(
        "output",
        f"The scan cannot be handed to the engine through {tempfile.gettempdir()} "
        f"({error.strerror or error}); free some space there and press Apply again.",
    )
