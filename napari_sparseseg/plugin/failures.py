"""One sentence for whatever went wrong, and nothing that it holds on to."""

from __future__ import annotations

import traceback

from napari_sparseseg.errors import SparseSegError

_DRIVER = ("CUDA", "CUDNN", "CUBLAS", "NVML", "NVRTC")
"""How torch names what failed when it was a graphics card, its driver or its libraries."""


def sentence_of(error: Exception) -> str:
    """Say what went wrong; what no user can act on also goes to napari's notifications."""
    if isinstance(error, SparseSegError):
        return str(error)
    if is_of_driver(error):
        return (
            "The graphics card or its driver failed in the middle of the run; choose the CPU, or "
            "close napari and open it again."
        )
    from napari.utils.notifications import notification_manager

    notification_manager.receive_error(type(error), error, error.__traceback__)
    return (
        f"The run failed unexpectedly ({type(error).__name__}); the notification below has the "
        "details to report."
    )


def is_of_driver(error: Exception) -> bool:
    """Tell whether torch passes on what a graphics card or its driver said."""
    words = str(error).upper()
    return isinstance(error, RuntimeError) and any(name in words for name in _DRIVER)


def forget_locals(error: BaseException) -> None:
    """Let go of all that the functions which an error came through still hold.

    Its traceback can be shown as before; but whoever keeps the error, as napari's list of
    notifications does, no longer keeps a network and a session with it.
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        traceback.clear_frames(each.__traceback__)
        waiting += (each.__cause__, each.__context__)
