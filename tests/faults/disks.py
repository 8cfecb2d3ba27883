"""A real disk that is full, or cannot be written; needs the right to mount one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from napari_sparseseg.errors import OutputError
from tests.faults.commands import snapshot
from tests.faults.killing import Writer

_SIZE = 4 * 2**20
_PAGE = 4096
_FREE = (0, 1, 2, 5, 12)
"""Pages that a full disk has left."""


@contextmanager
def small_disk(at: Path) -> Iterator[Path]:
    """Mount a small disk in memory.

    Raises
    ------
    PermissionError
        If this process may not.
    """
    at.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(at)]
    if subprocess.run(command, capture_output=True).returncode:
        raise PermissionError("no disk may be mounted here")
    try:
        yield at
    finally:
        subprocess.run(["umount", str(at)], check=True)


def full(writer: Writer, at: Path) -> Iterator[str | None]:
    """Write over older files on a disk with less and less left, all of which must stay.

    Parameters
    ----------
    writer : Writer
        What is written.
    at : Path
        Where to mount the disk.

    Yields
    ------
    str or None
        What was said; None where there was room enough.
    """
    for pages in _FREE:
        with small_disk(at) as disk:
            writer.write(disk, 0)
            _fill(disk / "filling", pages)
            yield _refused(writer, disk)
        at.rmdir()


def read_only(writer: Writer, at: Path) -> Iterator[str | None]:
    """Write over older files on a disk that takes nothing; yields as :func:`full`."""
    with small_disk(at) as disk:
        writer.write(disk, 0)
        subprocess.run(["mount", "-o", "remount,ro", str(at)], check=True)
        said = _refused(writer, disk)
        assert said is not None, "a disk that cannot be written took the files"
        yield said
    at.rmdir()


def _fill(file: Path, pages: int) -> None:
    with open(file, "wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"x" * _PAGE)
        except OSError:
            stream.truncate(stream.tell() - pages * _PAGE)


def _refused(writer: Writer, disk: Path) -> str | None:
    before = snapshot(disk)
    try:
        writer.write(disk, 1)
    except OutputError as error:
        assert snapshot(disk) == before, "it refused, and changed a file"
        return str(error)  # an error that is kept keeps the file open that could not be written
    return None


def skip_without_disks(at: Path) -> None:
    """Skip a test where no disk may be mounted."""
    try:
        with small_disk(at):
            pass
    except PermissionError as error:
        pytest.skip(str(error))
    finally:
        at.rmdir()
