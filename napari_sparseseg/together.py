"""Several files as one: refused before the work starts, written together when it is done."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from napari_sparseseg.errors import OutputError
from napari_sparseseg.files import TEMPORARY, atomic_path
from napari_sparseseg.undisturbed import undisturbed


@dataclass(frozen=True)
class Step:
    """Files that one function writes, whole or not at all.

    Attributes
    ----------
    files : tuple of Path
        What it writes.
    write : callable
        Writes them; when it raises, they are as before.
    """

    files: tuple[Path, ...]
    write: Callable[[], None]


def folder_step(files: Sequence[Path]) -> Step:
    """Make the folder of files, and those above it, where it does not exist."""
    folder = files[0].parent

    def make() -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"The folder {folder} cannot be made ({error.strerror}); choose another one."
            ) from error

    return Step(tuple(files), make)


def content_step(path: Path, content: bytes, *, overwrite: bool = False) -> Step:
    """Write a file of which all bytes are there already."""

    def write() -> None:
        with atomic_path(path, overwrite=overwrite) as temporary:
            temporary.write_bytes(content)

    return Step((path,), write)


def check_targets(
    files: Sequence[Path],
    in_folder: Sequence[Path] = (),
    *,
    inputs: Sequence[Path] = (),
    overwrite: bool = False,
) -> None:
    """Make sure that files can be written as things stand; nothing is changed.

    Parameters
    ----------
    files : sequence of Path
        Files in folders that must exist.
    in_folder : sequence of Path
        Files in folders that are made where they do not exist.
    inputs : sequence of Path
        Files that none of them may replace.
    overwrite : bool
        Whether files that exist may be replaced.

    Raises
    ------
    OutputError
        If two are the same file, one would replace an input or an existing file, or a folder is
        missing or read-only.
    """
    taken = {path.resolve() for path in inputs}
    for file in (*files, *in_folder):
        if file.resolve() in taken:
            raise OutputError(
                f"{file} is the scan itself or another result, or a report that is read; choose "
                "another name."
            )
        taken.add(file.resolve())
    for file in files:
        _rehearse(file, overwrite)
    for file in in_folder:
        # Where the folder has yet to be made, the one above must take it.
        _rehearse(next(p for p in (file, *file.parents) if os.path.exists(p.parent)), overwrite)


def write_together(steps: Iterable[Step]) -> None:
    """Take all steps or, when one of them fails, none.

    Raises
    ------
    OutputError
        If a file cannot be written; all files and folders are then as before. Where a file cannot
        be brought back either, because the disk went away, the message names the copy of it.
    """
    with undisturbed() as let_through, ExitStack() as stack, ExitStack() as undo:
        for step in steps:
            put_back = stack.enter_context(_remembered(step.files))
            step.write()  # whole or not at all, so that only earlier steps need undoing
            undo.callback(put_back)
            let_through()
        undo.pop_all()


def _rehearse(path: Path, overwrite: bool) -> None:
    """Do all of the writing but its last step."""
    with undisturbed(), suppress(_Rehearsed), atomic_path(path, overwrite=overwrite):
        raise _Rehearsed


class _Rehearsed(Exception):
    """Leaves the block that would write a file."""


@contextmanager
def _remembered(files: Iterable[Path]) -> Iterator[Callable[[], None]]:
    """Remember files until the block ends; yields what brings them, or their absence, back."""
    older: dict[Path, Path] = {}
    missing = {folder for file in files for folder in file.parents if not os.path.exists(folder)}

    def put_back() -> None:
        stranded = ""
        for file in files:
            try:
                if file in older:
                    os.replace(older[file], file)
                else:
                    file.unlink(missing_ok=True)
            except OSError as error:
                stranded = stranded or _stranded(file, older.pop(file, None), error)
        for folder in sorted(missing, reverse=True):
            with suppress(OSError):  # another program may use it by now
                folder.rmdir()
        if stranded:
            raise OutputError(stranded)

    try:
        for file in files:
            if os.path.lexists(file):
                older[file] = file.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
                _duplicate(file, older[file])
        yield put_back
    finally:
        for aside in older.values():
            with suppress(OSError):  # one copy too many is no reason to fail
                aside.unlink(missing_ok=True)


def _stranded(file: Path, copy: Path | None, error: OSError) -> str:
    """Tell where what could not be brought back is now."""
    if copy is not None and os.path.lexists(copy):
        return (
            f"{file} cannot be brought back ({error.strerror}); what it held before is in {copy}, "
            "rename that."
        )
    return f"The results cannot be taken back ({error.strerror}); delete {file} if it is there."


def _duplicate(file: Path, copy: Path) -> None:
    try:
        os.link(file, copy)
    except OSError:  # a file system without hard links
        try:
            shutil.copy2(file, copy)
        except OSError as error:
            raise OutputError(
                f"{file} cannot be replaced ({error.strerror}); choose another name."
            ) from error
