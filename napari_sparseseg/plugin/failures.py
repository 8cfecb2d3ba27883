"""One sentence for whatever went wrong."""

from __future__ import annotations

from napari_sparseseg.errors import SparseSegError
from napari_sparseseg.exhaustion import as_sentence, exhausted

_DRIVER = ("CUDA", "CUDNN", "CUBLAS", "NVML", "NVRTC")
"""How torch names what failed when it was a graphics card, its driver or its libraries."""


def sentence_of(error: Exception) -> str:
    """Say what went wrong; what no user can act on also goes to napari's notifications."""
    if isinstance(error, SparseSegError):
        return str(error)
    if place := exhausted(error):
        return str(as_sentence(place))
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
