"""Work that takes its time: one job after the other in one thread, the latest request wins.

One thread for all: graphics libraries keep their plans for each thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from napari_sparseseg.progress import CancelToken
from napari_sparseseg.worker.wire import Id, Message

REPLACED_BY: dict[str, tuple[str, ...]] = {
    "open": ("open", "run"),
    "run": ("run",),
    "close": ("open", "run"),
}
"""Which requests a newer one cancels. A run waits for the ``open`` before it: it needs its scan."""


@dataclass(eq=False)
class Job:
    """A request that waits or is worked on.

    Attributes
    ----------
    message : Message
        The request.
    id : str or int
        Its id.
    token : CancelToken
        Asks it to stop.
    answered : bool
        Whether it has got its answer.
    """

    message: Message
    id: Id
    token: CancelToken = field(default_factory=CancelToken)
    answered: bool = False


class Jobs:
    """A queue of jobs and the thread that works on them.

    Parameters
    ----------
    work : callable
        Does a job, in the thread; raises nothing.
    drop : callable
        Is given each job that was cancelled before its turn came.
    """

    def __init__(self, work: Callable[[Job], None], drop: Callable[[Job], None]) -> None:
        self._work, self._drop = work, drop
        self._waiting: deque[Job] = deque()
        self._current: Job | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="sparseseg", daemon=True)
        self._thread.start()

    def add(self, job: Job) -> None:
        """Put a job in the queue, and cancel those that it replaces."""
        replaced = REPLACED_BY.get(job.message.method, ())
        with self._changed:
            dropped = self._stop(lambda other: other.message.method in replaced)
            self._waiting.append(job)
            self._changed.notify()
        self._tell(dropped)

    def cancel(self, id_: Id) -> None:
        """Cancel the job of an id, if there still is one."""
        with self._changed:
            dropped = self._stop(lambda job: job.id == id_)
        self._tell(dropped)

    def holds(self, *, id_: Id | None = None, method: str | None = None) -> bool:
        """Tell whether a job of this id, or of this method, has yet to be answered."""
        with self._changed:
            return any(
                not job.answered and (id_ == job.id or method == job.message.method)
                for job in self._all()
            )

    def close(self, patience: float) -> Job | None:
        """Cancel everything and wait for the thread.

        Parameters
        ----------
        patience : float
            Seconds to wait.

        Returns
        -------
        Job or None
            The job that did not stop in time.
        """
        with self._changed:
            self._closed = True
            dropped = self._stop(lambda job: True)
            self._changed.notify()
        self._tell(dropped)
        self._thread.join(patience)
        return self._current if self._thread.is_alive() else None

    def _all(self) -> list[Job]:
        return [*self._waiting, *([self._current] if self._current else [])]

    def _stop(self, which: Callable[[Job], bool]) -> list[Job]:
        """Cancel some jobs; returns those that were waiting, which are taken out."""
        for job in self._all():
            if which(job):
                job.token.cancel()
        dropped = [job for job in self._waiting if job.token.cancelled]
        self._waiting = deque(job for job in self._waiting if not job.token.cancelled)
        return dropped

    def _tell(self, dropped: list[Job]) -> None:
        for job in dropped:
            self._drop(job)

    def _loop(self) -> None:
        while (job := self._next()) is not None:
            self._work(job)
            with self._changed:
                self._current = None

    def _next(self) -> Job | None:
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            self._current = self._waiting.popleft() if self._waiting else None
            return self._current
