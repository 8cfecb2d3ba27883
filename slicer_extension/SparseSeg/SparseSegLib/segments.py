"""Labels as segments, which a new result fills in place.

A segment keeps its ID, and with it whether it is shown, from one result to the next. A structure
that was not found stays as an empty segment, so that its absence can be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

from SparseSegLib.colors import parse_color
from SparseSegLib.volumes import array_to_matrix, fill_image

if TYPE_CHECKING:
    from SparseSegLib.answers import Structure

LABELMAP, SURFACE = "Binary labelmap", "Closed surface"


def fill_segmentation(
    segmentation_node: Any,
    labels: np.ndarray,
    structures: Sequence[Structure],
    affine: np.ndarray,
    start: tuple[int, ...],
) -> None:
    """Put labels into a segmentation: one layer that all segments share.

    Parameters
    ----------
    segmentation_node : vtkMRMLSegmentationNode
        The node; its parent transform is that of the volume already.
    labels : ndarray of uint8
        (I, J, K); what belongs to no structure is background.
    structures : sequence of Structure
        One segment each.
    affine : ndarray
        (4, 4): index into the whole volume to RAS in the space of the node.
    start : tuple of int
        Where in the volume the labels begin.
    """
    segmentation = segmentation_node.GetSegmentation()
    image = slicer.vtkOrientedImageData()
    fill_image(image, labels, start)
    image.SetImageToWorldMatrix(array_to_matrix(affine))
    surface = segmentation.ContainsRepresentation(SURFACE)
    was_modifying = segmentation_node.StartModify()
    try:
        segmentation.RemoveRepresentation(SURFACE)
        _keep_only(segmentation, {_id_of(structure) for structure in structures})
        for structure in structures:
            _fill_segment(segmentation, structure, image)
        if surface:
            segmentation_node.CreateClosedSurfaceRepresentation()
    finally:
        segmentation_node.EndModify(was_modifying)


def show_surface(segmentation_node: Any, shown: bool) -> None:
    """Show the segments in 3D, or free the memory that their surfaces take."""
    if shown:
        segmentation_node.CreateClosedSurfaceRepresentation()
    else:
        segmentation_node.RemoveClosedSurfaceRepresentation()
    segmentation_node.GetDisplayNode().SetVisibility3D(shown)


def _id_of(structure: Structure) -> str:
    return structure.name


def _keep_only(segmentation: Any, wanted: set[str]) -> None:
    for segment_id in segmentation.GetSegmentIDs():
        if segment_id not in wanted:
            segmentation.RemoveSegment(segment_id)


def _fill_segment(segmentation: Any, structure: Structure, image: Any) -> None:
    """Fill the segment of a structure, which is made if it is not there."""
    segment = segmentation.GetSegment(_id_of(structure))
    if segment is not None:
        segment.SetLabelValue(structure.value)
        segment.AddRepresentation(LABELMAP, image)
        return
    segment = slicer.vtkSegment()
    segment.SetName(structure.name)
    segment.SetColor(parse_color(structure.color)[:3])
    segment.SetLabelValue(structure.value)
    if structure.terminology is not None:
        segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), structure.terminology)
    segment.AddRepresentation(LABELMAP, image)
    segmentation.AddSegment(segment, _id_of(structure))
