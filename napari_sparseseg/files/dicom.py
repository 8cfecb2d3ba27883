"""DICOM: the scans of a folder or a file, and the choice of one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from napari_sparseseg.errors import ChoiceNeeded, InputError
from napari_sparseseg.files.dicom_headers import Frame, dicom_files, read_frames
from napari_sparseseg.files.dicom_series import DicomSeries, listed
from napari_sparseseg.files.formats import READABLE
from napari_sparseseg.files.reading import is_dicom
from napari_sparseseg.volume import Volume

_LISTED = 8


def read_dicom(path: Path, part: str = "") -> Volume:
    """Read one scan of a folder or a DICOM file; see :func:`dicom_series`.

    Raises
    ------
    InputError
        When there is none, or several and none or none of them is chosen; and as
        `DicomSeries.read` does.
    """
    return _chosen(path, dicom_series(path), part).read()


def source_files(path: str | os.PathLike[str], part: str = "") -> tuple[Path, ...]:
    """Return the DICOM files that a scan is read from.

    Parameters
    ----------
    path : path-like
        A folder or a DICOM file.
    part : str
        The key of the scan where there are several.

    Returns
    -------
    tuple of pathlib.Path
        In the order of the third voxel axis; one where a file holds all slices. Empty for files
        of other formats.

    Raises
    ------
    InputError
        As :func:`read_dicom` does, for all that headers can tell.
    """
    path = Path(path)
    if not is_dicom(path):
        return ()
    series = _chosen(path, dicom_series(path), part)
    if series.part.problem:
        raise InputError(series.part.problem)
    return series.files


def dicom_series(path: Path) -> tuple[DicomSeries, ...]:
    """Find the scans of a folder and below it, or that of a file; headers are read alone.

    A file with a single slice stands for the scan that it belongs to, from the same folder.

    Raises
    ------
    InputError
        When there is none, or something may not be read.
    """
    try:
        if path.is_dir():
            return _of_folder(path, dicom_files(path))
        return _of_file(path)
    except PermissionError as error:
        raise InputError(f"{path} may not be read; change its permissions.") from error
    except MemoryError as error:
        raise InputError(
            f"{path} has headers that do not fit into memory; choose the folder of one scan."
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read; check the name and the drive.") from error


def _of_folder(folder: Path, files: Sequence[Path]) -> tuple[DicomSeries, ...]:
    frames, damaged = _headers(files)
    if not frames:
        endings = ", ".join(READABLE)
        raise InputError(
            f"{folder} is a folder without DICOM images that can be read; choose a folder with a "
            f"DICOM series, or an image file ({endings})."
        )
    notes = []
    if damaged:
        left_out = "1 DICOM file" if damaged == 1 else f"{damaged} DICOM files"
        notes.append(f"{left_out} of the folder could not be read and did not take part.")
    return listed(frames, tuple(notes))


def _of_file(path: Path) -> tuple[DicomSeries, ...]:
    frames, _ = _headers([path])
    if not frames:
        raise InputError(
            f"{path.name} cannot be read: it is damaged or holds no image; choose a DICOM image or "
            "the folder of a series."
        )
    if frames[0].count > 1:
        return listed(frames, ())
    around = _of_folder(path.parent, dicom_files(path.parent, below=False))
    mine = [
        series
        for series in around
        if path in {f.path for f in series.frames} | {copy.path for _, copy in series.copies}
    ]
    if not mine:
        raise InputError(f"{path} does not exist any more; choose it again.")
    note = "The file is one slice of a series; all slices of it in the same folder were read."
    return tuple(
        replace(series, notes=(note, *series.notes)) if len(series.frames) > 1 else series
        for series in mine
    )


def _headers(files: Sequence[Path]) -> tuple[list[Frame], int]:
    """Return the frames of all files, and how many files are too damaged to tell."""
    frames: list[Frame] = []
    damaged = 0
    for file in files:
        try:
            frames += read_frames(file)
        except (PermissionError, MemoryError):
            raise
        except Exception:  # pydicom raises a zoo of types on a damaged file
            damaged += 1
    return frames, damaged


def _chosen(path: Path, found: Sequence[DicomSeries], part: str) -> DicomSeries:
    choices = _choices(found)
    if part:
        for series in found:
            if series.part.key == part:
                return series
        raise ChoiceNeeded(f"{path} holds no series '{part}'; choose one of: {choices}.")
    usable = [series for series in found if not series.part.problem]
    if len(usable) > 1:
        raise ChoiceNeeded(f"{path} holds {len(usable)} series; choose one of: {choices}.")
    return usable[0] if usable else found[0]


def _choices(found: Sequence[DicomSeries]) -> str:
    usable = [series.part for series in found if not series.part.problem]
    shown = [f"{part.key} ({part.title})" for part in usable[:_LISTED]]
    rest = len(usable) - len(shown)
    return ", ".join([*shown, f"and {rest} more"] if rest else shown) or "none can be read"
