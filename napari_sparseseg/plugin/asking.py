"""From what is chosen in the dock to a request for the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sparseseg.errors import InputError
from napari_sparseseg.plugin.geometry import Scan
from napari_sparseseg.plugin.runner import Request
from napari_sparseseg.weights import models

if TYPE_CHECKING:
    from collections.abc import Collection

    from napari.layers import Image

    from napari_sparseseg.plugin.controls import Controls
    from napari_sparseseg.plugin.runner import Answer

NO_IMAGE = (
    "There is no image to segment; open a scan, or the sample under File > Open Sample > SparseSeg."
)

CHANGED = (
    "{name} was changed while it was segmented, so that the result is dropped; press Segment to "
    "segment it as it is now."
)


def request_of(image: Image | None, controls: Controls) -> Request:
    """Ask for an image with the present choices.

    Raises
    ------
    InputError
        If there is no image or it is none that can be segmented.
    ModelError
        If there is no model.
    """
    choice = controls.choice()
    if image is None:
        raise InputError(NO_IMAGE)
    if choice is None:
        models()  # says why there is none
        raise InputError("There is no model to segment with; reinstall napari-sparseseg.")
    return Request(
        Scan.of(image),
        choice,
        controls.device.currentData(),
        controls.precision.currentData(),
        controls.setting.value(),
        controls.memory.value() or None,
    )


def scan_notes(image: Image | None) -> tuple[str, ...]:
    """Return what is worth knowing of a scan before it is segmented."""
    try:
        return () if image is None else Scan.of(image).notes
    except InputError:
        return ()  # the run says why it cannot be segmented


def notes_of(answer: Answer, but: Collection[str] = ()) -> list[str]:
    """Return what is worth knowing of a scan and its run, each sentence once.

    Parameters
    ----------
    answer : Answer
        The request, whose scan has notes, and its result, whose report has.
    but : collection of str
        Sentences that are shown elsewhere.
    """
    notes = (*answer.request.scan.notes, *answer.result.report.get("notes", ()))
    return [note for note in dict.fromkeys(notes) if note not in but]
