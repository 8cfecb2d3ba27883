"""DICOM series written for the tests, sound or with a chosen defect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

from napari_sparseseg.errors import InputError
from napari_sparseseg.files import Part, parts, read_volume
from napari_sparseseg.volume import Volume

PATIENT = "Doe^Jane^1970"
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
AXIAL = np.array([[-0.7, 0, 0, 90], [0, -0.8, 0, 80], [0, 0, 2.5, -30], [0, 0, 0, 1]])
"""Columns to the left, rows to the back, slices upwards."""

NATIVE = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)

Change = Callable[[int, Dataset], object]


def values(shape: tuple[int, int, int] = (9, 8, 7), seed: int = 0) -> np.ndarray:
    """Make voxels (I, J, K) that no mirror image or turn leaves the same."""
    return np.random.default_rng(seed).integers(0, 2000, shape).astype(np.int16)


def header(modality: str = "CT", number: int = 3) -> Dataset:
    """Make what all slices of a series share."""
    shared = Dataset()
    shared.SOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
    shared.PatientName, shared.PatientID, shared.StudyDate = PATIENT, PATIENT, "19700101"
    shared.SeriesDescription = PATIENT
    shared.Modality, shared.SeriesNumber = modality, number
    shared.SeriesInstanceUID = generate_uid()
    shared.ImageType = ["ORIGINAL", "PRIMARY"]
    return shared


def pixels(
    item: Dataset, plane: np.ndarray, stored: int | None = None, photometric: str = "MONOCHROME2"
) -> None:
    """Give a dataset uncompressed pixels, from an array (J, I) or (frames, J, I)."""
    bits = plane.dtype.itemsize * 8
    item.Rows, item.Columns = plane.shape[-2:]
    item.SamplesPerPixel, item.PhotometricInterpretation = 1, photometric
    item.BitsAllocated, item.BitsStored = bits, stored or bits
    item.HighBit, item.PixelRepresentation = item.BitsStored - 1, int(plane.dtype.kind == "i")
    item.PixelData = plane.tobytes()
    item["PixelData"].VR = "OW" if bits > 8 else "OB"


def place(item: Dataset, affine: np.ndarray, k: int, sharing: Dataset | None = None) -> None:
    """Place a slice: `affine` leads from (column, row, slice) to RAS mm."""
    lps = LPS @ affine
    spacing = np.linalg.norm(lps[:3, :2], axis=0)
    item.ImagePositionPatient = _decimals(lps @ (0, 0, k, 1))[:3]
    sharing = item if sharing is None else sharing
    sharing.ImageOrientationPatient = _decimals((lps[:3, :2] / spacing).T.ravel())
    sharing.PixelSpacing = _decimals(spacing[::-1])


def _decimals(numbers: np.ndarray) -> list[str]:
    return [f"{number:.10f}"[:16] for number in numbers]


def save(item: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write one file; pixels are turned to the byte order of the syntax."""
    item.file_meta = FileMetaDataset()
    item.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    item.SOPInstanceUID = item.get("SOPInstanceUID") or generate_uid()
    little = syntax != ExplicitVRBigEndian
    if not little and item.BitsAllocated == 16:
        item.PixelData = np.frombuffer(item.PixelData, "<u2").astype(">u2").tobytes()
    pydicom.dcmwrite(
        path,
        item,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=little,
        enforce_file_format=True,
    )
    return path


def compressed(item: Dataset, syntax: str, frame: bytes) -> None:
    """Put one compressed frame in place of the pixels."""
    item.PixelData = encapsulate([frame])
    item["PixelData"].VR = "OB"
    item["PixelData"].is_undefined_length = True


def write_series(
    folder: Path,
    data: np.ndarray,
    affine: np.ndarray = AXIAL,
    *,
    shared: Dataset | None = None,
    syntax: str = ExplicitVRLittleEndian,
    stored: int | None = None,
    order: Sequence[int] | None = None,
    change: Change | None = None,
    names: str = "",
) -> list[Path]:
    """Write voxels (I, J, K) as one file a slice.

    Parameters
    ----------
    order : sequence of int, optional
        The slices in the order of their names and instance numbers.
    change : callable, optional
        Changes the dataset of slice k before it is written, or returns False to leave it out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shared = header() if shared is None else shared
    paths = []
    for instance, k in enumerate(range(data.shape[2]) if order is None else order, start=1):
        item = Dataset()
        item.update(shared)
        item.InstanceNumber = instance
        pixels(item, np.ascontiguousarray(data[:, :, k].T), stored)
        place(item, affine, k)
        item.file_meta = FileMetaDataset()
        item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        if change is not None and change(k, item) is False:
            continue
        paths.append(save(item, folder / f"{names or shared.SeriesNumber}-{instance:04d}", syntax))
    return paths


def write_enhanced(
    path: Path, data: np.ndarray, affine: np.ndarray = AXIAL, *, phases: int = 1
) -> Path:
    """Write voxels (I, J, K) as one file with functional groups; a phase adds 1000 to them."""
    item = header("MR", 5)
    item.SOPClassUID = EnhancedMRImageStorage
    planes = [(k, phase) for k in range(data.shape[2]) for phase in range(phases)]
    pixels(item, np.stack([data[:, :, k].T + 1000 * phase for k, phase in planes]))
    item.NumberOfFrames = len(planes)
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    frames = []
    for k, phase in planes:
        frame, position, content, value = Dataset(), Dataset(), Dataset(), Dataset()
        place(sharing := Dataset(), affine, k)
        position.ImagePositionPatient = sharing.ImagePositionPatient
        content.TemporalPositionIndex = phase + 1
        value.RescaleSlope, value.RescaleIntercept = k + 1, -5
        frame.PlanePositionSequence, frame.FrameContentSequence = (
            Items([position]),
            Items([content]),
        )
        frame.PixelValueTransformationSequence = Items([value])
        frames.append(frame)
        measures.PixelSpacing = sharing.PixelSpacing
        orientation.ImageOrientationPatient = sharing.ImageOrientationPatient
    shared.PixelMeasuresSequence = Items([measures])
    shared.PlaneOrientationSequence = Items([orientation])
    item.SharedFunctionalGroupsSequence = Items([shared])
    item.PerFrameFunctionalGroupsSequence = Items(frames)
    return save(item, path)


def assert_same_place(volume: Volume, data: np.ndarray, affine: np.ndarray) -> None:
    """Expect each value of `data` where `affine` has it in RAS, whatever the order of the axes."""
    assert volume.data.size == data.size
    index = np.indices(volume.shape).reshape(3, -1)
    ras = volume.affine[:3, :3] @ index + volume.affine[:3, 3:]
    there = np.linalg.inv(affine[:3, :3]) @ (ras - affine[:3, 3:])
    np.testing.assert_allclose(there, np.rint(there), atol=1e-3)
    expected = data[tuple(np.rint(there).astype(int))]
    np.testing.assert_array_equal(volume.data.ravel(), expected)


def assert_one_sentence(message: str) -> None:
    """Expect one sentence: what is wrong; what to do; nothing about the patient."""
    assert message.endswith(".") and ". " not in message and "\n" not in message
    assert ";" in message
    assert not any(word in message for word in (*PATIENT.split("^"), "19700101"))


def assert_refused(path: Path, match: str, part: str = "") -> None:
    """Expect the same sentence from reading and, for a single part, from the list of parts."""
    try:
        read_volume(path, part=part)
    except InputError as error:
        message = str(error)
    else:
        raise AssertionError(f"{path} was read")
    assert match in message, message
    assert_one_sentence(message)


def only_part(path: Path) -> Part:
    """Return the one part of a path."""
    (part,) = parts(path)
    return part
