"""The folder that host and worker share: arrays come and go as ``.npy`` files in it."""

from __future__ import annotations

import itertools
import math
import os
import re
import secrets
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from napari_sparseseg.errors import InputError, OutputError
from napari_sparseseg.files import TEMPORARY, atomic_path
from napari_sparseseg.npy_header import read_npy_header
from napari_sparseseg.volume import check_shape
from napari_sparseseg.worker.failures import INVALID_PARAMS, Refusal

# a plain name: no separator of any system, no hidden file, nothing that climbs out
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}\.npy")
_NUMBERS = "biuf"  # kinds of dtypes that hold one real number a voxel
# nobody may wait for a pipe that lies there in place of a file; a link may lead anywhere
_OPEN = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_OPEN |= getattr(os, "O_BINARY", 0)
_PATIENCE = 1.0  # seconds to wait for a file that is being written when all is to be tidied up


class Folder:
    """The shared folder.

    What an answer needs is written to files of its own (:meth:`files`), which belong to the host
    once they are kept; until then :meth:`close` removes them.

    Parameters
    ----------
    path : Path
        An existing folder that nobody else uses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mark = secrets.token_hex(3)  # a worker before this one may have left files here
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._written: set[Path] = set()
        self._closed = False

    def read(self, name: str, title: str) -> NDArray[Any]:
        """Read the voxels of a scan.

        Parameters
        ----------
        name : str
            Bare name of a ``.npy`` file.
        title : str
            Name of the scan, for messages.

        Returns
        -------
        ndarray
            In native byte order; the file is not needed any more.

        Raises
        ------
        Refusal
            If the name is not that of a file in the folder itself.
        InputError
            If the file is missing or damaged, or does not hold one 3-D scan of real numbers.
        """
        path = self._inside(name)
        try:
            with os.fdopen(os.open(path, _OPEN), "rb") as file:
                _check_header(file, title)
                array = npy.read_array(file, allow_pickle=False)
        except OSError as error:
            raise InputError(
                f"The voxels of {title} cannot be read from {name} ({error.strerror}); try again."
            ) from error
        except (ValueError, EOFError) as error:
            raise InputError(
                f"The voxels of {title} cannot be read: {name} is damaged or no .npy file; write "
                "it again."
            ) from error
        return array.astype(array.dtype.newbyteorder("="), copy=False)

    def files(self) -> Files:
        """Return a place for the files of one answer."""
        return Files(self, f"{next(self._numbers)}-{self._mark}")

    def write(self, name: str, array: NDArray[Any]) -> None:
        """Write one file, whole or not at all, for :class:`Files`.

        Raises
        ------
        OutputError
            If it cannot be written, or the folder was closed.
        """
        path = self.path / name
        with self._lock:
            if self._closed:
                raise OutputError("The worker is ending; start another one.")
            with atomic_path(path, durable=False) as temporary, temporary.open("wb") as file:
                _write_array(file, array)
            self._written.add(path)

    def keep(self, name: str) -> None:
        """Leave a file to the host."""
        self._written.discard(self.path / name)

    def remove(self, name: str) -> None:
        """Remove a file that nobody was told of."""
        self.keep(name)
        with suppress(OSError):
            (self.path / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove all that nobody was told of, finished or not; nothing is written afterwards."""
        entered = self._lock.acquire(timeout=_PATIENCE)
        self._closed = True
        for path in self._written.copy():
            self.remove(path.name)
        for path in self.path.glob(f"{TEMPORARY}*"):
            with suppress(OSError):
                path.unlink(missing_ok=True)
        if entered:
            self._lock.release()

    def _inside(self, name: str) -> Path:
        path = self.path / name if _NAME.fullmatch(name) else None
        if path is None or path.is_symlink():
            raise Refusal(
                "The request cannot be followed: a file is named by a bare name that ends in "
                ".npy, of letters, digits, '-' and '_', and lies in the folder itself.",
                INVALID_PARAMS,
            )
        return path


class Files:
    """The files of one answer: all are kept, or none.

    Parameters
    ----------
    folder : Folder
        Where they lie.
    suffix : str
        What tells them from those of other answers.
    """

    def __init__(self, folder: Folder, suffix: str) -> None:
        self._folder, self._suffix = folder, suffix
        self._names: list[str] = []

    def write(self, title: str, array: NDArray[Any]) -> str:
        """Write an array, and return the name of its file.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        name = f"{title}-{self._suffix}.npy"
        self._folder.write(name, array)
        self._names.append(name)
        return name

    def keep(self) -> None:
        """Leave them to the host."""
        for name in self._names:
            self._folder.keep(name)

    def discard(self) -> None:
        """Remove them."""
        for name in self._names:
            self._folder.remove(name)


def _check_header(file: BinaryIO, title: str) -> None:
    """Make sure that a file holds what its header says before memory is taken for it.

    Raises
    ------
    InputError
        If it holds other things than numbers, or not as many voxels as a scan can have.
    ValueError
        If it is no .npy file, or is not as long as its header says.
    """
    facts = os.fstat(file.fileno())
    if not stat.S_ISREG(facts.st_mode):
        raise ValueError("no regular file")
    shape, dtype = read_npy_header(file)
    if dtype.kind not in _NUMBERS:
        raise InputError(
            f"{title} does not hold numbers ({dtype}); choose a scan with one real number per "
            "voxel."
        )
    check_shape(shape, title)
    if file.tell() + math.prod(shape) * dtype.itemsize != facts.st_size:
        raise ValueError("cut short")
    file.seek(0)


def _write_array(file: BinaryIO, array: NDArray[Any]) -> None:
    """Write an array in the order in which it lies in memory.

    numpy's own function hides the reason when a disk is full.
    """
    if not array.flags.forc:
        array = np.ascontiguousarray(array)
    header = npy.header_data_from_array_1_0(array)
    npy.write_array_header_1_0(file, header)
    file.write((array.T if header["fortran_order"] else array).data)
