"""Label maps as DICOM segmentations, by highdicom.

This is the one output that carries who the patient is: DICOM asks that a segmentation repeats
patient and study of the series that it belongs to.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg import __version__
from napari_sparseseg.errors import OutputError
from napari_sparseseg.files.atomic import atomic_path
from napari_sparseseg.structures import CATEGORY, SIDES, Code, Structure
from napari_sparseseg.volume import Volume

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom.dataset import Dataset

_PRIVATE = "99SPARSESEG"  # scheme of codes that no standard gives
_TEXT = 64  # longest DICOM text for one line
_SERIES = 1000  # added to the number of the series, so that viewers list the two apart
_TOLERANCE = 0.1  # voxels by which a slice may miss its place in the label map
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

_NEEDED = (
    "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID",
    "SOPClassUID", "Modality", "Rows", "Columns", "PixelSpacing", "ImagePositionPatient",
    "ImageOrientationPatient",
)  # fmt: skip
# A series may leave these empty, and an anonymised one often lacks them.
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
    "StudyDate", "StudyTime", "ReferringPhysicianName",
)  # fmt: skip


def write_dicom_seg(
    labels: Volume,
    structures: Sequence[Structure],
    source: Sequence[Path],
    path: str | os.PathLike[str],
    *,
    report: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a label map as a binary DICOM segmentation, whole or not at all.

    Each slice of the series gets the labels that lie in its place. A frame is written for every
    structure in every slice that holds it; where nothing was found, one empty frame for each
    structure in the first slice, for DICOM knows no segmentation without frames.

    Parameters
    ----------
    labels : Volume
        Integers (I, J, K) on the grid of the series, its axes in any order and direction.
    structures : sequence of Structure
        What the values stand for; other values are left out. One segment each, in this order.
    source : sequence of Path
        The files of the series, one slice each, in any order.
    path : path-like
        The file to write.
    report : mapping, optional
        Report of the run that made the labels: model, version and settings are named as the
        algorithm. Without one the segments count as drawn by hand.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    OutputError
        When the files are no such series, the labels do not lie on its grid, or the file cannot
        be written.
    """
    series, planes = _aligned(labels, read_headers(source))
    numbers = _segment_numbers(planes, structures)
    found = bool(numbers.any())
    if not found:
        series, numbers = series[:1], numbers[:1]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote the patient's name where it is unusual
            segmentation = _segmentation(series, numbers, structures, report, omit_empty=found)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        # The reason may quote the patient: it stays in the chain.
        raise OutputError(
            "The headers of the DICOM series do not follow the standard, so that no segmentation "
            "can be made for it; write .nii.gz or .seg.nrrd instead."
        ) from error
    # Not straight to the disk: where that is full, pydicom puts its traceback into the error.
    content = BytesIO()
    segmentation.save_as(content)
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(content.getbuffer())


def read_headers(source: Sequence[Path]) -> list[Dataset]:
    """Read what a segmentation must know of the series that it belongs to.

    Parameters
    ----------
    source : sequence of Path
        Files of one series.

    Returns
    -------
    list of pydicom.Dataset
        Their headers without pixels, in the same order; what may be empty is there.

    Raises
    ------
    OutputError
        If the files are not the slices of one series in one place.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    if not source:
        raise OutputError(
            "Only for a scan that is a DICOM series can a DICOM segmentation be written; choose "
            "another ending, such as .nii.gz or .seg.nrrd."
        )
    try:
        series: list[Dataset] = [pydicom.dcmread(file, stop_before_pixels=True) for file in source]
    except (OSError, InvalidDicomError) as error:
        raise OutputError(
            "The files of the DICOM series cannot be read any more; put them back, or choose "
            "another ending, such as .nii.gz or .seg.nrrd."
        ) from error
    for header in series:
        _check_header(header, series[0])
    return series


def _check_header(header: Dataset, first: Dataset) -> None:
    complete = all(header.get(key) not in (None, "") for key in _NEEDED)
    if not complete or header.get("NumberOfFrames", 1) not in (None, 1):
        raise OutputError(
            "The DICOM series does not hold one slice with its place in each file, so that no "
            "segmentation can be made for it; write .nii.gz or .seg.nrrd instead."
        )
    if header.SeriesInstanceUID != first.SeriesInstanceUID:
        raise OutputError("The slices come from several DICOM series; choose one of them.")
    for key in _MAY_BE_EMPTY:
        if key not in header:
            setattr(header, key, "")
    if header.PatientSex not in ("M", "F", "O"):
        header.PatientSex = ""


def _aligned(labels: Volume, series: Sequence[Dataset]) -> tuple[list[Dataset], NDArray[Any]]:
    """Return the slices in their order in space, and the labels as (slices, rows, columns)."""
    from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

    normal = _plane(series[0])[:3, 0]
    series = sorted(series, key=lambda header: float(normal @ _plane(header)[:3, 3]))
    rows, columns = int(series[0].Rows), int(series[0].Columns)
    turn = io_orientation(np.linalg.inv(_plane(series[0])) @ labels.affine)
    data = apply_orientation(labels.data, turn)
    affine = labels.affine @ inv_ornt_aff(turn, labels.shape)
    corners = np.array([(0, r, c, 1) for r in (0, rows - 1) for c in (0, columns - 1)])
    missed = [
        (affine @ (corners + np.array((place, 0, 0, 0))).T - _plane(header) @ corners.T)[:3]
        for place, header in enumerate(series)
    ]
    if data.shape != (len(series), rows, columns) or np.abs(missed).max() > _TOLERANCE * min(
        labels.spacing
    ):
        raise OutputError(
            "The labels do not lie on the grid of the DICOM series; choose the series that was "
            "segmented."
        )
    return series, data


def _plane(header: Dataset) -> NDArray[np.float64]:
    """Return (4, 4): (millimetres above the slice, row, column) to RAS mm."""
    along_row, along_column = np.reshape(header.ImageOrientationPatient, (2, 3)).astype(float)
    row_step, column_step = map(float, header.PixelSpacing)
    matrix = np.eye(4)
    matrix[:3, 0] = np.cross(along_row, along_column)
    matrix[:3, 1] = along_column * row_step
    matrix[:3, 2] = along_row * column_step
    matrix[:3, 3] = np.asarray(header.ImagePositionPatient, dtype=float)
    return _LPS_TO_RAS @ matrix


def _segment_numbers(planes: NDArray[Any], structures: Sequence[Structure]) -> NDArray[Any]:
    """Give the segments numbers from 1 without gaps, as DICOM wants them."""
    numbers = np.zeros(planes.shape, np.uint8 if len(structures) < 256 else np.uint16)
    for number, structure in enumerate(structures, start=1):
        numbers[planes == structure.value] = number
    return numbers


def _segmentation(
    series: Sequence[Dataset],
    numbers: NDArray[Any],
    structures: Sequence[Structure],
    report: Mapping[str, Any] | None,
    omit_empty: bool,
) -> Segmentation:
    from highdicom.seg import Segmentation, SegmentationTypeValues
    from pydicom.uid import generate_uid

    model = f" {report['model']}" if report else ""
    return Segmentation(
        source_images=series,
        pixel_array=numbers,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=_descriptions(structures, report),
        series_instance_uid=generate_uid(),
        series_number=max(0, int(series[0].get("SeriesNumber") or 0)) + _SERIES,
        series_description=_text(f"SparseSeg{model}"),
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="napari-sparseseg contributors",
        manufacturer_model_name="napari-sparseseg",
        software_versions=__version__,
        device_serial_number=__version__,
        content_label="SEGMENTATION",
        omit_empty_frames=omit_empty,
        specific_character_set="ISO_IR 192",  # UTF-8: names in any script
    )


def _descriptions(
    structures: Sequence[Structure], report: Mapping[str, Any] | None
) -> list[SegmentDescription]:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
    from pydicom.sr.codedict import codes

    algorithm, kind = None, SegmentAlgorithmTypeValues.MANUAL
    if report:
        kind = SegmentAlgorithmTypeValues.AUTOMATIC
        algorithm = AlgorithmIdentificationSequence(
            name=_text(f"SparseSeg {report['model']}"),
            family=codes.DCM.ArtificialIntelligence,
            version=report["versions"]["napari-sparseseg"],
            parameters=_parameters(report),
        )
    descriptions = []
    for number, structure in enumerate(structures, start=1):
        description = SegmentDescription(
            segment_number=number,
            segment_label=_text(structure.name),
            segmented_property_category=_coded(CATEGORY),
            segmented_property_type=_type_of(structure),
            algorithm_type=kind,
            algorithm_identification=algorithm,
            display_color=CIELabColor.from_rgb(*structure.rgb),
        )
        if structure.code and structure.code.side:
            (item,) = description.SegmentedPropertyTypeCodeSequence
            item.SegmentedPropertyTypeModifierCodeSequence = [_coded(SIDES[structure.code.side])]
        descriptions.append(description)
    return descriptions


def _parameters(report: Mapping[str, Any]) -> dict[str, str]:
    setting = report["setting"]
    return {
        "weights_sha256": report["weights_sha256"],
        "sparsifier": report["sparsifier"],
        **({setting["name"].replace(" ", "_"): f"{setting['value']:g}"} if setting else {}),
    }


def _coded(code: Code) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, "SCT", code.meaning)


def _type_of(structure: Structure) -> Any:
    from highdicom.sr import CodedConcept

    if structure.code:
        return _coded(structure.code)
    name = _text(structure.name)
    return CodedConcept(name, _PRIVATE, name)


def _text(text: str) -> str:
    """Return what a line of DICOM text may hold: no control characters, no backslash."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line.replace("\\", "/")[:_TEXT].strip() or "?"
