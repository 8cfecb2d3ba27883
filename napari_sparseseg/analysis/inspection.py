"""All that can be told of one result, gathered once for a panel, a page or a command."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_sparseseg.analysis.attribution import (
    Attribution,
    StructureTokens,
    attribute,
    structure_tokens,
)
from napari_sparseseg.analysis.compare import SAME, Comparison, compare, matched
from napari_sparseseg.analysis.notes import LOW_CONFIDENCE, SafetyNote, safety_notes
from napari_sparseseg.analysis.patches import TokenIndex
from napari_sparseseg.progress import CancelToken, Progress
from napari_sparseseg.volume import Volume

if TYPE_CHECKING:
    from napari_sparseseg.session import Segmentation

DENSE = "dense twin"
"""Title of what a result is compared with where nothing else is given."""


@dataclass(frozen=True, eq=False)
class Inspection:
    """What was found of one result.

    Attributes
    ----------
    scan : Volume
        What was segmented.
    result : Segmentation
        The observed run.
    other : Volume or None
        What it is compared with: class indices (uint8) on the scan's grid.
    other_title : str
        Its name: "dense twin", "reference my.nii.gz" ...; "" if there is none.
    comparison : Comparison or None
        With that.
    attribution : Attribution or None
        The voxels that differ from it, by the fate of their tokens.
    structures : tuple of StructureTokens
        The tokens of each structure of the result, by their fate.
    notes : tuple of SafetyNote
        Against the dense twin, or on confidence alone if it is not there.
    low : float
        Confidence below which a place was noted.
    """

    scan: Volume
    result: Segmentation
    other: Volume | None
    other_title: str
    comparison: Comparison | None
    attribution: Attribution | None
    structures: tuple[StructureTokens, ...]
    notes: tuple[SafetyNote, ...]
    low: float = LOW_CONFIDENCE

    def noted(self, dense: Segmentation | None, low: float) -> Inspection:
        """Return the same with the places noted below another confidence.

        Parameters
        ----------
        dense, low
            As for :func:`safety_notes`.
        """
        return replace(self, notes=safety_notes(self.result, dense, low), low=low)

    def to_dict(self) -> dict[str, Any]:
        """Return all figures, JSON-ready; nothing of the scan but the report's geometry."""
        return {
            "report": self.result.report,
            "compared_with": self.other_title or None,
            "comparison": self.comparison and self.comparison.to_dict(),
            "attribution": self.attribution and self.attribution.to_dict(),
            "structures": [structure.to_dict() for structure in self.structures],
            "notes": [note.to_dict() for note in self.notes],
            "low_confidence": self.low,
        }


def inspect(
    scan: Volume,
    result: Segmentation,
    *,
    dense: Segmentation | None = None,
    other: Volume | None = None,
    other_title: str = "",
    resample: bool = False,
    low: float = LOW_CONFIDENCE,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> Inspection:
    """Find out all that can be told of a result.

    Parameters
    ----------
    scan : Volume
        What was segmented.
    result : Segmentation
        The observed run.
    dense : Segmentation, optional
        The same session's run at setting 1.
    other : Volume, optional
        What to compare with: a reference or another result; the dense twin if left out. With
        both, the dense twin tells which differences from the reference are new.
    other_title : str
        Its name.
    resample : bool
        Bring it to the scan's grid if it has another.
    low : float
        Confidence below which a place is noted.
    progress, cancel
        As for :func:`compare`.

    Raises
    ------
    InputError
        If the run was not observed, or what it is compared with holds labels that are no class
        or, without `resample`, has another grid.
    Cancelled
        If the token was set.
    """
    trace, labels, classes = result.trace, result.labels, result.classes
    index = TokenIndex.of(trace.grid, labels)
    notes = safety_notes(result, dense, low)
    structures = structure_tokens(trace, index, labels.data, classes)
    reference: Volume | None = None
    dense_errors = None
    if other is not None:
        reference = matched(other, labels, classes, resample=resample)
        if dense is not None:
            dense_errors = dense.labels.data != reference.data
    elif dense is not None:
        reference, other_title = dense.labels, DENSE
    if reference is None:
        return Inspection(scan, result, None, "", None, None, structures, notes, low)
    comparison = compare(labels, reference, classes, progress=progress, cancel=cancel)
    errors, from_twin = comparison.difference != SAME, other is None
    attribution = attribute(trace, index, errors, dense_errors, from_twin=from_twin)
    return Inspection(
        scan, result, reference, other_title, comparison, attribution, structures, notes, low
    )
