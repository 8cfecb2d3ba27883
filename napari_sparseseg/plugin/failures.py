"""One sentence for whatever went wrong."""

from __future__ import annotations

from napari_sparseseg.errors import SparseSegError


def sentence_of(error: Exception) -> str:
    """Say what went wrong; what no user can act on also goes to napari's notifications."""
    if isinstance(error, SparseSegError):
        return str(error)
    from napari.utils.notifications import notification_manager

    notification_manager.receive_error(type(error), error, error.__traceback__)
    return (
        f"The run failed unexpectedly ({type(error).__name__}); the notification below has the "
        "details to report."
    )
