"""The engine beside the window: one job at a time in a thread, the latest request wins.

A plain thread, not a pooled worker: it starts at once and can be joined, which closing the dock in
the middle of a run needs, while a pooled worker waits for the event loop that the join would block.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_sparseseg.catalog import Choice
from napari_sparseseg.errors import Cancelled
from napari_sparseseg.exhaustion import forget_locals, release_cards
from napari_sparseseg.plugin.geometry import Scan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_sparseseg.progress import CancelToken, Progress
    from napari_sparseseg.session import Segmentation, Session

THREAD_NAME = "sparseseg"

Work = Callable[["Session", "Progress", "CancelToken"], Any]
"""What is done with an open session; it runs in the job's thread."""


@dataclass(frozen=True, eq=False)
class Request:
    """What to segment, and how.

    Attributes
    ----------
    scan : Scan
        The input.
    choice : Choice
        The model, and its own rule or a control.
    device, precision : str
        As for ``Segmenter``.
    setting : float or None
        Value of the setting in force, None if there is none.
    memory_gb : float or None
        As for ``Segmenter``.
    """

    scan: Scan
    choice: Choice
    device: str
    precision: str
    setting: float | None
    memory_gb: float | None = None

    def shares_session(self, other: Request) -> bool:
        """Tell whether both differ in their setting at most."""
        return (
            self.scan.same_as(other.scan)
            and self.choice == other.choice
            and (self.device, self.precision) == (other.device, other.precision)
            and self.memory_gb == other.memory_gb
        )

    def same_as(self, other: Request) -> bool:
        """Tell whether both ask for the same."""
        return self.shares_session(other) and self.setting == other.setting

    def segment(self, session: Session, progress: Progress, cancel: CancelToken) -> Segmentation:
        """Run it on its session: the :data:`Work` of a plain segmentation."""
        return session.run(self.setting, progress, cancel)


@dataclass(frozen=True, eq=False)
class Answer:
    """A request and its result."""

    request: Request
    result: Segmentation


class Runner(QObject):
    """Runs requests, and longer work on their session, in a thread; keeps the session they share.

    All methods are to be called from the thread of the window, where the signals arrive too.

    Attributes
    ----------
    progressed : Signal(int, int, str)
        Steps done, steps in all (0 if unknown), what is being done.
    devices_found : Signal(list)
        What ``available_devices`` returns, once torch is there to be asked.
    answered : Signal(Answer)
        A run has ended well and no newer request replaced it.
    failed : Signal(Exception)
        A run has failed.
    cancelled : Signal()
        A run was stopped by :meth:`cancel` or :meth:`forget`.
    rested : Signal()
        Nothing runs any more; it comes before the signal or call that tells the outcome.
    """

    progressed = Signal(int, int, str)
    devices_found = Signal(list)
    answered = Signal(object)
    failed = Signal(object)
    cancelled = Signal()
    rested = Signal()
    _ended = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._job: _Job | None = None
        self._next: _Job | None = None
        self._open: _Open | None = None
        self._finder: threading.Thread | None = None
        self._ended.connect(self._on_ended)

    @property
    def busy(self) -> bool:
        """Whether a run is going on, or waits, that somebody will hear of."""
        return any(not job.dropped for job in (self._job, self._next) if job is not None)

    def runs(self, work: Work) -> bool:
        """Tell whether this very work is going on, or waits."""
        return any(job.work is work for job in (self._job, self._next) if job is not None)

    @property
    def follows(self) -> bool:
        """Whether a new setting can build on a session that is there or being made."""
        if self._job is not None:
            return self._next is not None or not self._job.stopped
        return self._open is not None

    def request(self, request: Request) -> None:
        """Run this, in place of whatever runs or waits."""
        self._replace(_Job(request))

    def perform(
        self,
        request: Request,
        work: Work,
        done: Callable[[Any], None],
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        """Do some work on the session of a request, in place of whatever runs or waits.

        Parameters
        ----------
        request : Request
            Whose session, which is opened if it is not there.
        work : callable
            Gets the session, the progress and the token, in the job's thread.
        done : callable
            Gets what the work returns, in the thread of the window, if all went well.
        failed : callable, optional
            Gets the error if not, in place of the signal.
        """
        self._replace(_Job(request, work, done, failed))

    def _replace(self, job: _Job) -> None:
        self._next = job
        if self._job is None:
            self._start()
        else:
            self._job.stop()

    def cancel(self) -> None:
        """Stop the run; returns at once, :attr:`cancelled` follows."""
        self._next = None
        if self._job is not None:
            self._job.stop()

    def drop(self) -> None:
        """Stop the run, if there is one, of which nobody wants to hear; :attr:`rested` follows."""
        self._next = None
        if self._job is not None:
            self._job.dropped = True
            self._job.stop()

    def forget(self) -> None:
        """Stop the run and free the session; returns at once."""
        self.cancel()
        if self._job is not None:
            self._job.forget = True
        else:
            self._free()

    def close(self) -> None:
        """Stop the run, wait for its thread and free the session; no signal follows."""
        self._next = None
        job, self._job = self._job, None
        if job is not None:
            job.stop()
            job.thread.join()
            job.let_go()
        if self._finder is not None:
            self._finder.join()
        self._free()

    def find_devices(self) -> None:
        """Ask torch for the processors; importing it takes seconds, so in a thread."""
        if self._finder is None or not self._finder.is_alive():
            self._finder = threading.Thread(target=self._find_devices, name=THREAD_NAME)
            self._finder.start()

    def preview(self, request: Request) -> NDArray[np.uint8] | None:
        """Return ``Session.preview``, None while no session serves such a request."""
        if self._open is None or not self._open.request.shares_session(request):
            return None
        return None if request.setting is None else self._open.session.preview(request.setting)

    def _start(self) -> None:
        if self._next is None:
            return
        self._job, self._next = self._next, None
        job = self._job
        if self._open is not None and not job.request.shares_session(self._open.request):
            self._free()
        job.thread = threading.Thread(target=self._work, args=(job,), name=THREAD_NAME)
        job.thread.start()

    def _work(self, job: _Job) -> None:
        """Run a job; this and what it calls run in the job's thread."""
        try:
            job.result = self._compute(job)
        except Exception as error:
            job.error = error
        self._ended.emit(job)

    def _compute(self, job: _Job) -> Any:
        if self._open is None:
            self._open = _Open(job.request, self._open_session(job))
        return job.work(self._open.session, self.progressed.emit, job.token())

    def _open_session(self, job: _Job) -> Session:
        request = job.request
        self.progressed.emit(0, 0, "Checking the scan")
        volume = request.scan.volume()
        self.progressed.emit(0, 0, "Loading the model")
        from napari_sparseseg.segmenter import Segmenter

        self._find_devices()
        job.token().raise_if_cancelled()
        choice = request.choice
        segmenter = Segmenter(
            choice.model,
            request.device,
            request.precision,
            sparsifier=choice.sparsifier,
            memory_gb=request.memory_gb,
        )
        return segmenter.open(volume, self.progressed.emit, job.token())

    def _find_devices(self) -> None:
        from napari_sparseseg.devices import available_devices

        self.devices_found.emit(available_devices())

    def _on_ended(self, job: _Job) -> None:
        if job is not self._job:
            return  # it was closed: nobody waits for it any more
        job.thread.join()
        job.let_go()
        self._job = None
        replaced = self._next is not None
        failed = job.stopped or job.error is not None
        if self._open is not None:
            self._open.proven |= not failed
        # what a stopped or failed first run prepared does not stay behind
        unproven = self._open is None or not self._open.proven
        if job.forget or (failed and not replaced and unproven):
            self._free()
        if replaced:
            self._start()
        else:
            self.rested.emit()
            self._tell(job)

    def _tell(self, job: _Job) -> None:
        if job.dropped:
            return
        if job.stopped or isinstance(job.error, Cancelled):
            self.cancelled.emit()
        elif job.error is not None:
            (job.failed or self.failed.emit)(job.error)
        elif job.done is not None:
            job.done(job.result)
        else:
            self.answered.emit(Answer(job.request, job.result))

    def _free(self) -> None:
        """Give back what a session holds, and what a run that failed has left on the card."""
        opened, self._open = self._open, None
        # a card whose driver has failed says so again at every call: the window goes on
        with suppress(RuntimeError):
            if opened is not None:
                opened.session.close()
        del opened
        release_cards()  # the network's memory, now that nothing holds it


@dataclass
class _Open:
    """A session, the request that it was opened for, and whether it has given a result."""

    request: Request
    session: Session
    proven: bool = False


class _Job:
    """One run: its request, what it does, its thread, how to stop it, and what came of it.

    Parameters
    ----------
    request : Request
        Whose session it works on.
    work : callable, optional
        What it does; it segments at the setting of the request if left out.
    done, failed : callable, optional
        Who gets what the work returns, or its error.
    """

    def __init__(
        self,
        request: Request,
        work: Work | None = None,
        done: Callable[[Any], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        self.request, self.done, self.failed = request, done, failed
        self.work = work or request.segment
        self.thread = threading.Thread()
        self.forget = False
        self.stopped = False
        self.dropped = False
        self.result: Any = None
        self.error: Exception | None = None
        self._cancel: CancelToken | None = None

    def token(self) -> CancelToken:
        """Return the token of the run; it is made in its thread, where torch may be imported."""
        from napari_sparseseg.progress import CancelToken

        if self._cancel is None:
            self._cancel = CancelToken()
        if self.stopped:
            self._cancel.cancel()
        return self._cancel

    def let_go(self) -> None:
        """Hold nothing of the session any more; to be called when the thread has ended."""
        if self.error is not None:
            forget_locals(self.error)

    def stop(self) -> None:
        """Ask the run to stop, whether its token exists yet or not."""
        self.stopped = True
        if self._cancel is not None:
            self._cancel.cancel()
