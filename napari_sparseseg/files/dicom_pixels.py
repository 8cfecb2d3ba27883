"""The voxels of DICOM frames, by pydicom, and by GDCM where pydicom has no decoder."""

from __future__ import annotations

import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sparseseg.files.codestreams import frame_size
from napari_sparseseg.files.dicom_headers import DEFLATED, Format, Frame, check_deflated

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

AIR = -1000
"""What padding becomes in a CT (HU)."""

NATIVE = {
    "1.2.840.10008.1.2": "Implicit VR Little Endian",
    "1.2.840.10008.1.2.1": "Explicit VR Little Endian",
    DEFLATED: "Deflated Explicit VR Little Endian",
    "1.2.840.10008.1.2.2": "Explicit VR Big Endian",
}
"""Transfer syntaxes whose pixels are not compressed by themselves."""

BY_PYDICOM = {
    "1.2.840.10008.1.2.5": "RLE Lossless",
    "1.2.840.10008.1.2.4.50": "JPEG Baseline",
    "1.2.840.10008.1.2.4.80": "JPEG-LS Lossless",
    "1.2.840.10008.1.2.4.81": "JPEG-LS Near-Lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 Lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
}
"""Compressed ones that pydicom decodes with what this package requires."""

BY_GDCM = {
    "1.2.840.10008.1.2.4.51": "JPEG Extended",
    "1.2.840.10008.1.2.4.57": "JPEG Lossless",
    "1.2.840.10008.1.2.4.70": "JPEG Lossless, first-order prediction",
}
"""Compressed ones that it does not, but GDCM inside SimpleITK."""

_HEADERS = 1 << 16  # bytes of a compressed frame that may be no pixels
_SHORT = np.iinfo(np.int16)
_PIXEL_KEYWORDS = (
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration",
    "PixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
)  # fmt: skip


def format_problem(frame: Frame) -> str:
    """Say what keeps the pixels of a frame from being read; it goes on after the series' name."""
    stored = frame.format
    if stored.samples != 1 or stored.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        return "holds colour images; choose a series with one measured value per voxel"
    if stored.has_table:
        return "gives its values through a table; export it with values that need none"
    if (
        stored.allocated not in (8, 16, 32)
        or not 1 < stored.stored <= stored.allocated
        or stored.high != stored.stored - 1
    ):
        return (
            f"stores its values in an unusual way ({stored.stored} of {stored.allocated} bits); "
            "export it with 8 or 16 bits"
        )
    if stored.syntax not in NATIVE | BY_PYDICOM | BY_GDCM:
        return (
            f"is compressed in a way that cannot be read ({syntax_name(stored.syntax)}); export "
            "it uncompressed or as JPEG 2000 Lossless"
        )
    return ""


def syntax_name(syntax: str) -> str:
    """Return the name of a transfer syntax as the standard has it; a damaged one is not quoted."""
    from pydicom.uid import UID

    if not syntax:
        return "no transfer syntax is given"
    return UID(syntax).name if UID(syntax).is_valid else "an unknown transfer syntax"


def read_slices(frames: Sequence[Frame]) -> tuple[np.ndarray, np.ndarray]:
    """Read the values of frames of one size, with the slope and intercept of each applied.

    Returns
    -------
    data : numpy.ndarray
        Values (slices, rows, columns), int16 where they are whole and fit, else float32.
    padded : numpy.ndarray
        Flat indices of the voxels that are padding; `data` holds another value there.

    Raises
    ------
    Exception
        Whatever the libraries raise on damaged pixels.
    """
    slices: list[Any] = [None] * len(frames)
    padding: list[Any] = [None] * len(frames)
    for place, stored in _stored(frames):
        frame = frames[place]
        padding[place] = np.flatnonzero(_is_padding(stored, frame.format)) + place * stored.size
        slices[place] = _scaled(_without(stored, padding[place] - place * stored.size), frame)
    return np.stack(slices), np.concatenate(padding)


def same_pixels(one: Frame, other: Frame) -> bool:
    """Tell whether two frames hold the same values."""
    (first,), (second,) = ([stored for _, stored in _stored([frame])] for frame in (one, other))
    return (one.slope, one.intercept) == (other.slope, other.intercept) and np.array_equal(
        first, second
    )


def _stored(frames: Sequence[Frame]) -> Iterator[tuple[int, np.ndarray]]:
    """Decode file by file: the place of each frame in the sequence, and its stored values."""
    places: dict[Path, list[int]] = defaultdict(list)
    for place, frame in enumerate(frames):
        places[frame.path].append(place)
    for path, mine in places.items():
        with warnings.catch_warnings(action="ignore"):  # they quote what stands in the header
            check_deflated(path)
            decoded = _decoded(path, [frames[place] for place in mine])
            for place, stored in zip(mine, decoded, strict=True):
                yield place, _checked(stored, frames[place].format)


def _decoded(path: Path, frames: Sequence[Frame]) -> Iterator[np.ndarray]:
    from pydicom import dcmread
    from pydicom.encaps import get_frame
    from pydicom.pixels import iter_pixels

    stored = frames[0].format
    if stored.syntax in NATIVE:
        size = stored.rows * stored.columns * stored.allocated // 8 * frames[0].count
        if stored.syntax != DEFLATED and path.stat().st_size < size:  # before memory is taken
            raise EOFError("the pixels are cut short")
        source = dcmread(path) if stored.syntax == DEFLATED else path
        yield from iter_pixels(source, raw=True, indices=[frame.index for frame in frames])
        return
    file = dcmread(path, specific_tags=list(_PIXEL_KEYWORDS))
    offsets = None
    if "ExtendedOffsetTable" in file:
        offsets = (file.ExtendedOffsetTable, file.ExtendedOffsetTableLengths)
    for frame in frames:
        packed = get_frame(
            file.PixelData, frame.index, number_of_frames=frame.count, extended_offsets=offsets
        )
        yield _unpacked(packed, file, stored)


def _unpacked(packed: bytes, file: Dataset, stored: Format) -> np.ndarray:
    """Decode one compressed frame, which must be of the size that the header says."""
    from pydicom.encaps import encapsulate
    from pydicom.pixels import pixel_array

    # What is many times larger than its own pixels unpacks to many times more.
    if len(packed) > 2 * stored.rows * stored.columns * stored.allocated // 8 + _HEADERS:
        raise ValueError("the compressed frame is larger than its pixels")
    size = frame_size(packed)
    if size is not None and size != (stored.rows, stored.columns):
        raise ValueError("the compressed frame has another size than the header says")
    alone = _alone(file)
    alone.PixelData = encapsulate([packed])
    alone["PixelData"].is_undefined_length = True
    if stored.syntax in BY_GDCM:
        return _by_gdcm(alone)
    return pixel_array(alone, raw=True)


def _alone(file: Dataset) -> Dataset:
    """Return what a decoder needs of a file, for one frame of it."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

    alone = Dataset()
    for keyword in _PIXEL_KEYWORDS[:9]:
        if keyword in file and keyword != "NumberOfFrames":
            setattr(alone, keyword, file[keyword].value)
    alone.PhotometricInterpretation = "MONOCHROME2"  # GDCM would turn the other one over
    alone.SOPClassUID, alone.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    alone.file_meta = FileMetaDataset()
    alone.file_meta.TransferSyntaxUID = file.file_meta.TransferSyntaxUID
    alone.file_meta.MediaStorageSOPClassUID = alone.SOPClassUID
    alone.file_meta.MediaStorageSOPInstanceUID = alone.SOPInstanceUID
    return alone


def _by_gdcm(alone: Dataset) -> np.ndarray:
    """Decode through a file, the only way into GDCM; it knows of no slope and no geometry."""
    import SimpleITK as sitk

    with tempfile.TemporaryDirectory(prefix="sparseseg-") as folder:
        path = Path(folder, "frame.dcm")
        alone.save_as(path, enforce_file_format=True)
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(path))
        return sitk.GetArrayFromImage(reader.Execute()).squeeze(axis=0)


def _checked(stored: np.ndarray, said: Format) -> np.ndarray:
    """Return a copy of own byte order, which may be changed."""
    if stored.shape != (said.rows, said.columns):
        raise ValueError("the frame has another size than the header says")
    return stored.astype(f"{'i' if said.signed else 'u'}{said.allocated // 8}", copy=True)


def _is_padding(stored: np.ndarray, said: Format) -> np.ndarray:
    if said.padding is None:
        return np.zeros(stored.shape, bool)
    low, high = said.padding
    return (stored >= low) & (stored <= high)


def _without(stored: np.ndarray, padded: np.ndarray) -> np.ndarray:
    if padded.size:
        others = np.delete(stored.ravel(), padded)
        stored.flat[padded] = others.min() if others.size else 0
    return stored


def _scaled(stored: np.ndarray, frame: Frame) -> np.ndarray:
    """Apply the slope and the intercept; whole numbers stay whole."""
    slope, intercept = frame.slope, frame.intercept
    low, high = sorted(slope * float(end) + intercept for end in (stored.min(), stored.max()))
    whole = slope.is_integer() and intercept.is_integer()
    if whole and low >= _SHORT.min and high <= _SHORT.max:
        return (stored.astype(np.int64) * int(slope) + int(intercept)).astype(np.int16)
    return (stored * slope + intercept).astype(np.float32)
