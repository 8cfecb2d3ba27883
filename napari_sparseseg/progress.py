"""How long work tells where it is, and how it is asked to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable

from napari_sparseseg.errors import Cancelled

Progress = Callable[[int, int, str], None]
"""Called with (steps done, steps in all, what is being done)."""


def silent(done: int, total: int, step: str) -> None:
    """Tell nobody."""


class CancelToken:
    """A flag that asks a run to stop at its next window; safe to set from any thread."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask the run to stop."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether the run was asked to stop."""
        return self._event.is_set()

    def raise_if_cancelled(self) -> None:
        """Stop here if asked to.

        Raises
        ------
        Cancelled
            If :meth:`cancel` was called.
        """
        if self.cancelled:
            raise Cancelled("The run was cancelled; nothing was changed.")
