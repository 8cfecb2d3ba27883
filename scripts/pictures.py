"""What the scripts that take pictures share: pressing something and waiting, letting it settle."""

from __future__ import annotations

import time
from collections.abc import Callable

from qtpy.QtCore import QEventLoop, QTimer, SignalInstance
from qtpy.QtWidgets import QApplication

from napari_sparseseg.errors import SparseSegError
from napari_sparseseg.plugin.dock import SparseSegDock

SETTLE_SECONDS = 1.0


def wait_for(dock: SparseSegDock, done: SignalInstance, press: Callable[[], None]) -> None:
    """Press something and wait for what it brings about.

    Raises
    ------
    SparseSegError
        If the dock refuses.
    """
    refusals: list[str] = []
    loop = QEventLoop()

    def refuse(sentence: str) -> None:
        refusals.append(sentence)
        loop.quit()

    done.connect(loop.quit)
    dock.refused.connect(refuse)
    QTimer.singleShot(0, press)
    loop.exec()
    done.disconnect(loop.quit)
    dock.refused.disconnect(refuse)
    if refusals:
        raise SparseSegError(refusals[0])


def settle(seconds: float = SETTLE_SECONDS) -> None:
    """Let the window draw what it was told to."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.02)
