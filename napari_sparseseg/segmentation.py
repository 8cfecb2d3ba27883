"""The answer of one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from napari_sparseseg.errors import InputError
from napari_sparseseg.probability import Probabilities
from napari_sparseseg.tokens import TokenTrace
from napari_sparseseg.volume import Volume


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The answer of one run.

    Attributes
    ----------
    labels : Volume
        uint8 class indices on the input's own grid.
    classes, colors : tuple of str
        Class names and colours; index 0 is background.
    report : dict
        Facts and figures of the run, JSON-ready (see :func:`report.make_report`).
    recorded : TokenTrace or None
        The trace, unless the run was not observed.
    probabilities : Probabilities or None
        What the labels were made from, where it was asked for.
    """

    labels: Volume
    classes: tuple[str, ...]
    colors: tuple[str, ...]
    report: dict[str, Any]
    recorded: TokenTrace | None
    probabilities: Probabilities | None = None

    @property
    def trace(self) -> TokenTrace:
        """What happened to every token.

        Raises
        ------
        InputError
            If the run was not observed.
        """
        if self.recorded is None:
            raise InputError("This run was made without a trace; switch it on.")
        return self.recorded
