"""A file written whole or not at all."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_sparseseg.errors import OutputError

TEMPORARY = ".sparseseg-"
"""How the names of files begin that are not finished, or that wait to be put back.

A program that is killed leaves them; nothing reads them, and they may be deleted when no run is
going on. They are not tidied up by a later run: one of them may be all that is left of an older
file, and another program may be writing in the same folder.
"""


@contextmanager
def atomic_path(
    path: str | os.PathLike[str], *, overwrite: bool = False, durable: bool = True
) -> Iterator[Path]:
    """Give a temporary path that becomes `path` when the block succeeds.

    Parameters
    ----------
    path : path-like
        The file to write, in an existing folder.
    overwrite : bool
        Replace an existing file.
    durable : bool
        Wait until it is on the disk under its name; a file that is read at once and then removed
        need not be.

    Yields
    ------
    pathlib.Path
        An empty file in the same folder, with the same full suffix (``.nii.gz``), to write to.
        When the block raises, it is removed and `path` is as before.

    Raises
    ------
    OutputError
        When `path` exists, its folder is missing or read-only, or the disk is full; also for an
        ``OSError`` that the block raises.
    """
    path = Path(path)
    suffixes = path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]
    with replaced(path, "".join(suffixes), overwrite, durable) as temporary:
        yield temporary


@contextmanager
def replaced(path: Path, suffix: str, overwrite: bool, durable: bool = True) -> Iterator[Path]:
    """Do the work of :func:`atomic_path` with a chosen suffix of the temporary file."""
    temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}{suffix}"
    try:
        _check_target(path, overwrite)
        # Not tempfile: its files are private, this one shall have the usual permissions.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        if durable:
            flush(temporary)
        _check_target(path, overwrite)  # another program may have written it meanwhile
        os.replace(temporary, path)
        if durable:
            settle(path.parent)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {_reason(error)}.") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def flush(file: Path) -> None:
    """Wait until what a file holds is on the disk."""
    with open(file, "rb+") as stream:
        os.fsync(stream.fileno())


def settle(folder: Path) -> None:
    """Wait until the names of the files in a folder are on the disk, where the system can."""
    with suppress(OSError):  # Windows opens no folders, some network drives flush none
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _check_target(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give the name of a file in it.")
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent} is not an existing folder; create it or choose another.")
    if not overwrite and os.path.lexists(path):
        raise OutputError(f"{path} exists already; allow overwriting or choose another name.")


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space or choose another folder"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "the folder is read-only; choose another folder"
    if error.errno == errno.EFBIG:
        return "the file is too large for this disk; choose another folder"
    return f"{error.strerror or error}; choose another name or folder"
