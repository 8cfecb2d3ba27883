"""Work that a reader waits for, while the window draws itself and says so."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from napari_sparseseg.plugin.runner import THREAD_NAME

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

T = TypeVar("T")

_AT_ONCE_SECONDS, _LOOK_SECONDS = 0.3, 0.02


def wait_for(window: QWidget, sentence: str, work: Callable[[], T]) -> T:
    """Do some work in a thread and return what it gives; work that takes long shows a sentence.

    Parameters
    ----------
    window : QWidget
        Takes no clicks and keys meanwhile.
    sentence : str
        What is being done.
    work : callable
        Touches nothing of the window.

    Raises
    ------
    Exception
        Whatever the work raises.
    """
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["result"] = work()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=run, name=THREAD_NAME)
    thread.start()
    thread.join(_AT_ONCE_SECONDS)
    if thread.is_alive():
        _show_until_done(window, sentence, thread)
    if "error" in outcome:
        raise outcome["error"]
    result: T = outcome["result"]
    return result


def _show_until_done(window: QWidget, sentence: str, thread: threading.Thread) -> None:
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QApplication, QProgressDialog

    shown = QProgressDialog(f"{sentence} …", "", 0, 0, window)
    shown.setWindowTitle("SparseSeg")
    shown.setCancelButton(None)
    shown.setWindowFlag(Qt.WindowType.WindowCloseButtonHint, False)
    shown.setWindowModality(Qt.WindowModality.WindowModal)
    shown.setMinimumDuration(0)
    shown.show()
    try:
        while thread.is_alive():
            QApplication.processEvents()
            thread.join(_LOOK_SECONDS)
    finally:
        shown.reset()
        shown.deleteLater()
