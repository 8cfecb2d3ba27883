"""Where the voxels of a file lie: what a header says, judged before anything is read by it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from napari_sparseseg.errors import InputError
from napari_sparseseg.files.unpacking import MAX_RATIO
from napari_sparseseg.volume import check_shape

MAX_FRAMES = 10_000
"""Largest number of frames that is believed."""

_SLACK = 1 << 20  # bytes that a file may hold beyond its voxels


@dataclass(frozen=True)
class Layout:
    """What a header says about the voxels of a file.

    Parameters
    ----------
    file : pathlib.Path
        The file that holds the voxels.
    shape : tuple of int
        Number of voxels (I, J, K) of one frame; the first axis varies fastest in the file.
    dtype : numpy.dtype
        As stored, with the byte order of the file.
    affine : numpy.ndarray
        Matrix (4, 4): voxel index to RAS mm.
    notes : tuple of str
        What a user should know, see `napari_sparseseg.Volume`.
    start : int
        Bytes of the file before the voxels, or before their packed form.
    packed : bool
        Whether what begins at `start` is a zlib or gzip stream; None as long as nobody knows.
    skip : int
        Unpacked bytes of that stream before the voxels.
    frames : int
        Number of frames, one behind the other.
    interleaved : bool
        Whether the values of all frames stand together at every voxel instead.
    scaling : tuple of float
        Slope and intercept that turn stored values into real ones.
    """

    file: Path
    shape: tuple[int, int, int]
    dtype: np.dtype
    affine: np.ndarray
    notes: tuple[str, ...] = ()
    start: int = 0
    packed: bool | None = False
    skip: int = 0
    frames: int = 1
    interleaved: bool = False
    scaling: tuple[float, float] = field(default=(1.0, 0.0))

    @property
    def voxels(self) -> int:
        """Number of voxels of one frame."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def length(self) -> int:
        """Bytes of all frames, unpacked, with what stands before them in the same stream."""
        return self.skip + self.frames * self.voxels * self.dtype.itemsize

    @property
    def limit(self) -> int:
        """Bytes beyond which nothing is unpacked."""
        return self.length + _SLACK


def split_shape(shape: tuple[int, ...], name: str) -> tuple[tuple[int, int, int], int]:
    """Split the shape of a file into that of a frame and the number of frames.

    Raises
    ------
    InputError
        When it is not that of 3-D frames of a workable size.
    """
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    frames = shape[3] if len(shape) == 4 else 1
    check_shape(shape[:3] if len(shape) == 4 else shape, name)
    if not 1 <= frames <= MAX_FRAMES:
        raise InputError(
            f"{name} says that it holds {frames} frames, outside 1 to {MAX_FRAMES}; correct its "
            "header or export it again."
        )
    return (shape[0], shape[1], shape[2]), frames


def check_length(layout: Layout, size: int) -> None:
    """Raise ``EOFError`` when a file of `size` bytes cannot hold what its header says."""
    behind = size - layout.start
    if min(layout.start, layout.skip) < 0 or behind < 0:
        raise EOFError("the voxels begin outside the file")
    if layout.length > (behind * MAX_RATIO if layout.packed else behind):
        raise EOFError("the voxels are cut short")


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading; what is no file of bytes is refused and not waited for.

    Raises
    ------
    InputError
        When `path` is a pipe, a socket or a device.
    """
    _check_regular(path, os.stat(path))
    # A pipe that took the place of the file meanwhile does not block the opening either.
    stream = os.fdopen(os.open(path, os.O_RDONLY | _OPEN_FLAGS), "rb")
    try:
        _check_regular(path, os.fstat(stream.fileno()))
    except InputError:
        stream.close()
        raise
    return stream


_OPEN_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def _check_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InputError(
            f"{path.name} is not a regular file (a pipe, a socket or a device); choose a file on "
            "disk."
        )


def beside(header: Path, name: str) -> Path:
    """Find the file of voxels that a header names.

    Raises
    ------
    InputError
        When it lies outside the folder of the header, or is missing.
    """
    folder = header.parent.resolve()
    path = folder / name
    inside = path.resolve().is_relative_to(folder) and not Path(name).is_absolute()
    if not inside:
        raise InputError(
            f"{header.name} names a file of voxels outside its own folder; put both files into "
            "one folder and correct the name."
        )
    if not path.exists():
        raise InputError(
            f"{header.name} cannot be read without its file of voxels, which is missing; put both "
            "files into one folder."
        )
    return path
