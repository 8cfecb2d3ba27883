"""The files of a run: refused before the work starts, written together when it is done."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sparseseg.errors import OutputError
from napari_sparseseg.files import SUFFIXES, atomic_path, write_volume
from napari_sparseseg.report import write_report
from napari_sparseseg.tokens import TRACE_FILES

if TYPE_CHECKING:
    from napari_sparseseg.session import Segmentation


@dataclass(frozen=True)
class Outputs:
    """Where the results of one run go.

    Parameters
    ----------
    labels : Path
        Label map, a file that ends in one of `napari_sparseseg.files.SUFFIXES`.
    trace : Path, optional
        Folder of the trace; it is made where it does not exist.
    report : Path, optional
        Report, a ``.json`` file.
    overwrite : bool
        Replace files that exist.
    """

    labels: Path
    trace: Path | None = None
    report: Path | None = None
    overwrite: bool = False

    def check(self, *inputs: Path) -> None:
        """Make sure that the results can be written as things stand; nothing is changed.

        Parameters
        ----------
        *inputs : Path
            Files that no result may replace.

        Raises
        ------
        OutputError
            If an ending is unknown, two results share a file, a result would replace an input,
            a file exists and may not be replaced, or a folder is missing or read-only.
        """
        if not self.labels.name.lower().endswith(SUFFIXES):
            raise OutputError(
                f"{self.labels.name} has an unknown ending; use one of {', '.join(SUFFIXES)}."
            )
        if self.report is not None and self.report.suffix.lower() != ".json":
            raise OutputError(f"The report {self.report.name} has an unknown ending; use .json.")
        taken = {path.resolve() for path in inputs}
        for file in (*self._single_files, *self._trace_files):
            if file.resolve() in taken:
                raise OutputError(
                    f"{file} is the scan itself or another result; choose another name."
                )
            taken.add(file.resolve())
        for file in self._single_files:
            self._rehearse(file)
        for file in self._trace_files:
            # Where the folder has yet to be made, the one above must take it.
            self._rehearse(next(p for p in (file, *file.parents) if os.path.exists(p.parent)))

    def write(self, result: Segmentation) -> None:
        """Write all results or, when one of them cannot be written, none.

        Raises
        ------
        OutputError
            If one cannot be written; all files and folders are then as before.
        """
        with ExitStack() as stack, ExitStack() as undo:
            for files, write in self._steps(result):
                put_back = stack.enter_context(_remembered(files))
                write()  # whole or not at all, so that only earlier steps need undoing
                undo.callback(put_back)
            undo.pop_all()

    def _steps(self, result: Segmentation) -> Iterator[tuple[Iterable[Path], Callable[[], None]]]:
        overwrite = self.overwrite
        yield [self.labels], lambda: write_volume(result.labels, self.labels, overwrite=overwrite)
        if trace := self.trace:
            yield self._trace_files, lambda: result.trace.save(trace, overwrite=overwrite)
        if report := self.report:
            yield [report], lambda: write_report(result.report, report, overwrite=overwrite)

    @property
    def _single_files(self) -> list[Path]:
        return [self.labels] if self.report is None else [self.labels, self.report]

    @property
    def _trace_files(self) -> list[Path]:
        return [] if self.trace is None else [self.trace / name for name in TRACE_FILES]

    def _rehearse(self, path: Path) -> None:
        """Do all of the writing but its last step."""
        with suppress(_Rehearsed), atomic_path(path, overwrite=self.overwrite):
            raise _Rehearsed


class _Rehearsed(Exception):
    """Leaves the block that would write a file."""


@contextmanager
def _remembered(files: Iterable[Path]) -> Iterator[Callable[[], None]]:
    """Remember files until the block ends; yields what brings them, or their absence, back."""
    older: dict[Path, Path] = {}
    missing = {folder for file in files for folder in file.parents if not os.path.exists(folder)}

    def put_back() -> None:
        for file in files:
            if file in older:
                os.replace(older[file], file)
            else:
                file.unlink(missing_ok=True)
        for folder in sorted(missing, reverse=True):
            with suppress(OSError):  # another program may use it by now
                folder.rmdir()

    try:
        for file in files:
            if os.path.lexists(file):
                older[file] = file.with_name(f".sparseseg-{uuid.uuid4().hex}")
                _duplicate(file, older[file])
        yield put_back
    finally:
        for aside in older.values():
            aside.unlink(missing_ok=True)


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
