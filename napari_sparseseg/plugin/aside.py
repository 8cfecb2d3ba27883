"""Short work beside the window that needs no session: it neither waits for a run nor ends one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from qtpy.QtCore import QObject, Signal

from napari_sparseseg.plugin.runner import THREAD_NAME

T = TypeVar("T")


class Aside(QObject):
    """Does short work in a thread; only what was asked for last is heard of.

    All methods are to be called from the thread of the window, where the outcome arrives too.
    """

    _ended = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._latest: _Errand | None = None
        self._threads: list[threading.Thread] = []
        self._ended.connect(self._on_ended)

    @property
    def busy(self) -> bool:
        """Whether somebody waits for an outcome."""
        return self._latest is not None

    def ask(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        """Do some work, in place of what was asked for before.

        Parameters
        ----------
        work : callable
            Called in a thread of its own.
        done : callable
            Gets what it returns, in the thread of the window.
        """
        errand = self._latest = _Errand(work, done)
        errand.thread = threading.Thread(target=self._run, args=(errand,), name=THREAD_NAME)
        self._threads.append(errand.thread)
        errand.thread.start()

    def drop(self) -> None:
        """Hear no more of what was asked for; it ends by itself."""
        self._latest = None

    def close(self) -> None:
        """Wait for all threads; nobody hears of them."""
        self.drop()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _run(self, errand: _Errand) -> None:
        try:
            errand.result = errand.work()
        except Exception as error:
            errand.error = error
        self._ended.emit(errand)

    def _on_ended(self, errand: _Errand) -> None:
        if errand.thread in self._threads:
            self._threads.remove(errand.thread)
        if errand is not self._latest:
            return
        self._latest = None
        if errand.error is not None:
            raise errand.error  # a fault of ours, which napari shows and logs
        errand.done(errand.result)


@dataclass(eq=False)
class _Errand:
    """What is done, who hears of it, in which thread, and what came of it."""

    work: Callable[[], Any]
    done: Callable[[Any], None]
    thread: threading.Thread | None = None
    result: Any = None
    error: Exception | None = None
