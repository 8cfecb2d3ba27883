"""Which formats there are, and what all of their readers and writers share."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
"""File name endings that can be read and written."""

PAIR_SUFFIXES = (".hdr", ".img")
"""Endings of the two files of Analyze 7.5 and of a NIfTI pair, which are read only."""

READABLE = SUFFIXES + PAIR_SUFFIXES
"""File name endings that can be read."""

ITK_FORMATS = {
    ".nrrd": "NrrdImageIO",
    ".nhdr": "NrrdImageIO",
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
}
"""The reader of ITK for each ending that ITK reads."""

CHUNK = 1 << 20
"""Bytes that are unpacked at once."""


def image_suffix(path: Path, suffixes: tuple[str, ...] = SUFFIXES) -> str | None:
    """Return the ending of an image file, None for another file."""
    name = path.name.lower()
    return next((suffix for suffix in suffixes if name.endswith(suffix)), None)


def storable(data: np.ndarray) -> np.ndarray:
    """Turn the dtypes that no image format knows into the next larger one."""
    if data.dtype.kind == "b":
        return data.astype(np.uint8)
    return data.astype(np.float32) if data.dtype == np.float16 else data


def many_values(file_name: str) -> str:
    """Say that a file holds no scan because it has several values per voxel."""
    return (
        f"{file_name} holds several values per voxel (colour, vector or complex); choose a scan "
        "with one real number per voxel."
    )
