"""The parts of a path that can be read: the series of a folder, the frames of a file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Part:
    """One of the scans that a path holds.

    Parameters
    ----------
    key : str
        What `napari_sparseseg.files.read_volume` takes as its part.
    title : str
        What it is, for people, without anything about the patient.
    problem : str
        The sentence for which reading it would be refused, empty when it can be read.
    """

    key: str
    title: str
    problem: str = ""


def parts(path: str | os.PathLike[str]) -> tuple[Part, ...]:
    """List what a path holds; see `Part`.

    Parameters
    ----------
    path : path-like
        A file that ends in one of `READABLE`, a folder with DICOM files or a DICOM file.

    Returns
    -------
    tuple of Part
        The DICOM series in the order of their numbers, or the frames of a file in theirs; one
        for a path with a single one. Headers are read, no voxels.

    Raises
    ------
    InputError
        When the path cannot be read at all.
    """
    from napari_sparseseg.files.reading import frames, is_dicom

    path = Path(path)
    if is_dicom(path):
        from napari_sparseseg.files.dicom import dicom_series

        return tuple(series.part for series in dicom_series(path))
    return frames(path)
