"""Work that Ctrl-C must not break off in the middle."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def undisturbed() -> Iterator[Callable[[], None]]:
    """Hold Ctrl-C, and the wish that the process end, back until the block is left.

    Only the main thread is ever interrupted by them; in another one this does nothing.

    Yields
    ------
    callable
        To be called where the work can be given up: raises ``KeyboardInterrupt`` if either came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    came: list[int] = []

    def let_through() -> None:
        if came:
            came.clear()
            raise KeyboardInterrupt

    def hold(number: int, _: object) -> None:
        came.append(number)

    before = {number: signal.signal(number, hold) for number in _SIGNALS}
    try:
        yield let_through
    finally:
        for number, handler in before.items():
            if handler is not None:  # not one of Python's
                signal.signal(number, handler)
        for arrived in came:
            signal.raise_signal(arrived)
