"""The headers of DICOM files: which files there are, and what each frame says of itself."""

from __future__ import annotations

import math
import os
import stat
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sparseseg.errors import InputError
from napari_sparseseg.files.formats import CHUNK

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MAX_FILES = 20_000
"""Files and folders that are looked at in one folder and below."""

MAX_DEPTH = 16
"""Levels of folders that are looked at."""

MAX_INFLATED = 1 << 30
"""Bytes that one deflated file may unpack to."""

DEFLATED = "1.2.840.10008.1.2.1.99"
"""The transfer syntax of files that are packed as a whole."""

MARKS = {
    "image type": ("FrameType", "ImageType"),
    "echo": ("EffectiveEchoTime", "EchoTime", "EchoNumbers"),
    "b-value": ("DiffusionBValue",),
    "time": ("TemporalPositionIndex", "TemporalPositionIdentifier"),
    "phase": ("NominalPercentageOfCardiacPhase", "NominalCardiacTriggerDelayTime", "TriggerTime"),
    "acquisition": ("FrameAcquisitionNumber", "AcquisitionNumber"),
}
"""What may tell frames at one place apart, and the attributes that say it, the best one first."""

_PREAMBLE = 128
_KEYWORDS = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber",
    "Modality", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel",
    "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness",
    "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", *(word for words in MARKS.values() for word in words),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Format:
    """How the pixels of a frame are stored, as its header says."""

    syntax: str
    rows: int
    columns: int
    photometric: str
    samples: int
    allocated: int
    stored: int
    high: int
    signed: bool
    padding: tuple[int, int] | None
    """Lowest and highest stored value that is padding."""
    has_table: bool
    """Whether stored values become real ones through a table, not a slope."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One slice of a scan: a file of its own, or a frame of a file with many.

    Positions and directions are those of DICOM: millimetres left, posterior, superior. What a
    header does not say, or not in a usable way, is None.
    """

    path: Path
    index: int
    count: int
    """Frames in the file."""
    sop_class: str
    uid: str
    series: str
    number: int
    instance: int
    modality: str
    format: Format
    spacing: tuple[float, ...] | None
    """Between rows and between columns (mm)."""
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    thickness: float | None
    between: float | None
    slope: float
    intercept: float
    marks: tuple[Any, ...]
    """The values of `MARKS`."""


def is_dicom_file(path: Path) -> bool:
    """Tell whether a path is that of a DICOM file, by its first bytes, whatever its ending."""
    if not path.exists() or not stat.S_ISREG(path.stat().st_mode):  # a pipe would never end
        return False
    with open(path, "rb") as stream:
        return stream.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"


def dicom_files(folder: Path, *, below: bool = True) -> tuple[Path, ...]:
    """Find the DICOM files of a folder and, if wanted, below it; links to folders are left out.

    Raises
    ------
    InputError
        When there are more than `MAX_FILES` files and folders.
    OSError
        When a folder or file may not be read: slices would be missing without a word.
    """
    found: list[Path] = []
    seen = 0
    for place, folders, names in os.walk(folder, onerror=_raise):
        depth = len(Path(place).relative_to(folder).parts)
        folders[:] = sorted(folders) if below and depth < MAX_DEPTH else []
        seen += len(names) + len(folders)
        if seen > MAX_FILES:
            raise InputError(
                f"{folder} holds more than {MAX_FILES} files; choose the folder of one scan."
            )
        found += [path for name in sorted(names) if is_dicom_file(path := Path(place, name))]
    return tuple(found)


def _raise(error: OSError) -> None:
    raise error


def read_frames(path: Path) -> tuple[Frame, ...]:
    """Read the header of a DICOM file.

    Returns
    -------
    tuple of Frame
        One for each frame; none for what is no image, such as a report or a directory. A file
        with many frames that does not say where each of them lies gives one without a place.

    Raises
    ------
    Exception
        Whatever pydicom raises on a damaged file.
    """
    from pydicom import dcmread

    # A library's warnings quote what stands in the header.
    with warnings.catch_warnings(action="ignore"):
        check_deflated(path)
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(_KEYWORDS))
        if not {"Rows", "Columns", "BitsAllocated"} <= set(header.dir()):
            _check_no_image(header)
            return ()
        syntax = str(header.file_meta.get("TransferSyntaxUID", ""))
        count = int(_number(header.get("NumberOfFrames")) or 1)
        places = header.get("PerFrameFunctionalGroupsSequence") or ()
        if len(places) != count:
            return (_frame(path, 0, count, syntax, (header,)),)
        shared = _groups((header.get("SharedFunctionalGroupsSequence") or [()])[0])
        return tuple(
            _frame(path, index, count, syntax, (*_groups(place), *shared, header))
            for index, place in enumerate(places)
        )


def _check_no_image(header: Dataset) -> None:
    """Raise ``ValueError`` when an image lacks its size: pydicom takes a cut header as it is."""
    from pydicom.uid import UID

    kind = header.file_meta.get("MediaStorageSOPClassUID") or header.get("SOPClassUID") or ""
    if not kind or "Image Storage" in UID(kind).name:
        raise ValueError("the header is cut short")


def check_deflated(path: Path) -> None:
    """Raise ``ValueError`` when a deflated file unpacks to more than `MAX_INFLATED` bytes."""
    from pydicom.filereader import read_file_meta_info

    with open(path, "rb") as stream:
        if DEFLATED.encode() not in stream.read(1 << 12):
            return
    meta = read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != DEFLATED:
        return
    unpacker, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with open(path, "rb") as stream:
        stream.seek(_PREAMBLE + 4 + 12 + int(meta.FileMetaInformationGroupLength))
        while chunk := unpacker.unconsumed_tail or stream.read(CHUNK):
            size += len(unpacker.decompress(chunk, CHUNK))
            if size > MAX_INFLATED:
                raise ValueError("the file unpacks to more than it may")


def _groups(functional: Any) -> tuple[Dataset, ...]:
    """Return the items of the functional groups of one frame, or those shared by all."""
    return tuple(element.value[0] for element in functional if element.VR == "SQ" and element.value)


def _frame(path: Path, index: int, count: int, syntax: str, headers: Sequence[Dataset]) -> Frame:
    def get(*keywords: str) -> Any:
        return next((h[word].value for word in keywords for h in headers if word in h), None)

    return Frame(
        path=path,
        index=index,
        count=count,
        sop_class=str(get("SOPClassUID") or ""),
        uid=str(get("SOPInstanceUID") or ""),
        series=str(get("SeriesInstanceUID") or ""),
        number=int(_number(get("SeriesNumber")) or 0),
        instance=int(_number(get("InstanceNumber")) or 0) if count == 1 else index,
        modality=_code(get("Modality")),
        format=_format(syntax, get),
        spacing=_numbers(get("PixelSpacing"), 2),
        position=_numbers(get("ImagePositionPatient"), 3),
        orientation=_numbers(get("ImageOrientationPatient"), 6),
        thickness=_number(get("SliceThickness")),
        between=_number(get("SpacingBetweenSlices")),
        slope=_or(_number(get("RescaleSlope")), 1.0),
        intercept=_or(_number(get("RescaleIntercept")), 0.0),
        marks=tuple(_mark(get(*words)) for words in MARKS.values()),
    )


def _format(syntax: str, get: Any) -> Format:
    stored = int(_number(get("BitsStored")) or 0)
    signed = _number(get("PixelRepresentation")) == 1
    return Format(
        syntax=syntax,
        rows=int(_number(get("Rows")) or 0),
        columns=int(_number(get("Columns")) or 0),
        photometric=str(get("PhotometricInterpretation") or "").strip().upper(),
        samples=int(_or(_number(get("SamplesPerPixel")), 1)),
        allocated=int(_number(get("BitsAllocated")) or 0),
        stored=stored,
        high=int(_or(_number(get("HighBit")), stored - 1)),
        signed=signed,
        padding=_padding(get("PixelPaddingValue"), get("PixelPaddingRangeLimit"), signed),
        has_table=bool(get("ModalityLUTSequence")),
    )


def _padding(value: Any, limit: Any, signed: bool) -> tuple[int, int] | None:
    first = _number(value)
    if first is None:
        return None
    ends = [int(first), int(_or(_number(limit), first))]
    if signed:  # often written as if it were unsigned
        ends = [end - (1 << 16) if 1 << 15 <= end < 1 << 16 else end for end in ends]
    return min(ends), max(ends)


def _number(value: Any) -> float | None:
    """Return a finite number, None for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _numbers(values: Any, count: int) -> tuple[float, ...] | None:
    if not isinstance(values, Sequence) and not hasattr(values, "__iter__"):
        return None
    found = [_number(value) for value in values]
    numbers = tuple(number for number in found if number is not None)
    return numbers if len(found) == len(numbers) == count else None


def _or(number: float | None, otherwise: float) -> float:
    return otherwise if number is None else number


def _mark(value: Any) -> Any:
    if value is None or value == "":
        return None
    if (number := _number(value)) is not None:
        return number
    return tuple(map(str, value)) if hasattr(value, "__iter__") else None


def _code(value: Any) -> str:
    """Return a modality; what is no short code of capitals may be anything, even a name."""
    code = str(value or "").strip()
    return code if code.isascii() and code.isalpha() and code.isupper() and len(code) <= 8 else ""
