"""From what is chosen in the dock to a request for the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sparseseg.errors import InputError
from napari_sparseseg.plugin.geometry import Scan
from napari_sparseseg.plugin.runner import Request
from napari_sparseseg.weights import models

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sparseseg.plugin.controls import Controls

NO_IMAGE = (
    "There is no image to segment; open a scan, or the sample under File > Open Sample > SparseSeg."
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
    )


def assumed_note(name: str) -> str:
    """Say that the place of the patient in a scan was taken for granted."""
    return (
        f"{name} does not say how the patient lies in it: its axes were taken as right, anterior "
        "and superior."
    )
