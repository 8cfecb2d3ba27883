"""DICOM series made up for the tests: one slice a file, in any order, direction and tilt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

PATIENT = "Müller^Jürgen"
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_series(
    folder: Path, voxels: np.ndarray, affine: np.ndarray, seed: int = 0, **tags: Any
) -> list[Path]:
    """Write voxels (column, row, slice) with an affine to RAS mm; returns the shuffled files.

    Tags replace those of every slice; None leaves one out.
    """
    across = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    shared: dict[str, Any] = {
        "SOPClassUID": CTImageStorage,
        "StudyInstanceUID": generate_uid(),
        "SeriesInstanceUID": generate_uid(),
        "FrameOfReferenceUID": generate_uid(),
        "Modality": "CT",
        "SpecificCharacterSet": "ISO_IR 100",
        "PatientName": PATIENT,
        "PatientID": "4711",
        "PatientBirthDate": "19500102",
        "PatientSex": "M",
        "StudyDate": "20200304",
        "StudyTime": "111213",
        "StudyID": "7",
        "AccessionNumber": "A1",
        "ReferringPhysicianName": "",
        "SeriesNumber": 3,
        "ImageOrientationPatient": [*(LPS[:3, :3] @ across[:, 0]), *(LPS[:3, :3] @ across[:, 1])],
        "PixelSpacing": [spacing[1], spacing[0]],
        "SliceThickness": spacing[2],
        "Columns": voxels.shape[0],
        "Rows": voxels.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
        "RescaleIntercept": 0,
        "RescaleSlope": 1,
    }
    files = []
    for number in range(voxels.shape[2]):
        header = Dataset()
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header.file_meta.MediaStorageSOPClassUID = CTImageStorage
        for key, value in (shared | tags).items():
            if value is not None:
                setattr(header, key, value)
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        header.InstanceNumber = number + 1
        if "ImagePositionPatient" not in tags:
            header.ImagePositionPatient = [
                round(float(c), 6) for c in (LPS @ affine @ [0, 0, number, 1])[:3]
            ]
        header.PixelData = voxels[:, :, number].T.astype("<i2").tobytes()
        files.append(folder / f"slice{number}.dcm")
        header.save_as(files[-1], enforce_file_format=True)
    return [files[n] for n in np.random.default_rng(seed).permutation(len(files))]
