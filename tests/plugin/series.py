"""DICOM series to open in the window, written slice by slice."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from .conftest import ball

NAME = "Secret^Person"
"""The patient of every series; it must be seen nowhere."""


def write_series(
    folder: Path,
    number: int = 1,
    shape: tuple[int, int, int] = (30, 28, 24),
    spacing: tuple[float, float, float] = (4.0, 4.0, 5.0),
    missing: Collection[int] = (),
    ending: str = ".dcm",
) -> list[Path]:
    """Write a CT of a ball, axial slices along z, and return its files in their order.

    Parameters
    ----------
    folder : Path
        Made where it does not exist.
    number : int
        Of the series.
    shape : tuple of int
        Columns, rows, slices.
    spacing : tuple of float
        Of columns, rows, slices (mm).
    missing : collection of int
        Slices that are left out.
    ending : str
        Of the names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    voxels = np.rint(ball(shape)).astype(np.int16)
    series, frame = generate_uid(), generate_uid()
    paths = []
    for at in sorted(set(range(shape[2])) - set(missing)):
        path = folder / f"{number:02}-{at:03}{ending}"
        _slice(voxels[:, :, at], number, series, frame, at, spacing).save_as(
            path, enforce_file_format=True
        )
        paths.append(path)
    return paths


def _slice(
    pixels: np.ndarray, number: int, series: str, frame: str, at: int, spacing: tuple[float, ...]
) -> Dataset:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.PatientName, data.PatientID = NAME, "4711"
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = frame, series, frame
    data.Modality, data.SeriesNumber, data.InstanceNumber = "CT", number, at + 1
    data.Columns, data.Rows = pixels.shape
    data.PixelSpacing = [spacing[1], spacing[0]]
    data.SliceThickness = spacing[2]
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.ImagePositionPatient = [-50, -60, at * spacing[2]]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 1
    data.RescaleSlope, data.RescaleIntercept = 1, 0
    data.PixelData = np.ascontiguousarray(pixels.T).tobytes()
    return data
