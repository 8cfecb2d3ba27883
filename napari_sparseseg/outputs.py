"""The files of a run: refused before the work starts, written together when it is done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sparseseg.errors import OutputError
from napari_sparseseg.files import SUFFIXES, write_volume
from napari_sparseseg.report import write_report
from napari_sparseseg.together import Step, check_targets, write_together
from napari_sparseseg.tokens import TRACE_FILES

if TYPE_CHECKING:
    from napari_sparseseg.analysis.inspection import Inspection
    from napari_sparseseg.session import Segmentation

_REPORTS = (".json", ".html")


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
        Report: a ``.json`` file with the facts of the run, or an ``.html`` page for people that
        holds what an inspection found, with a ``.json`` file of the same name beside it.
    overwrite : bool
        Replace files that exist.
    """

    labels: Path
    trace: Path | None = None
    report: Path | None = None
    overwrite: bool = False

    @property
    def has_page(self) -> bool:
        """Whether the report is a page, which needs an inspection."""
        return self.report is not None and self.report.suffix.lower() == ".html"

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
        if self.report is not None and self.report.suffix.lower() not in _REPORTS:
            raise OutputError(
                f"The report {self.report.name} has an unknown ending; use .json or .html."
            )
        check_targets(
            [self.labels, *self._report_files],
            self._trace_files,
            inputs=inputs,
            overwrite=self.overwrite,
        )

    def write(self, result: Segmentation, inspection: Inspection | None = None) -> None:
        """Write all results or, when one of them cannot be written, none.

        Parameters
        ----------
        result : Segmentation
            The run.
        inspection : Inspection, optional
            What a page shows; needed where the report is one.

        Raises
        ------
        OutputError
            If one cannot be written; all files and folders are then as before.
        """
        write_together(self._steps(result, inspection))

    def _steps(self, result: Segmentation, inspection: Inspection | None) -> Iterator[Step]:
        overwrite = self.overwrite
        yield Step(
            (self.labels,), lambda: write_volume(result.labels, self.labels, overwrite=overwrite)
        )
        if trace := self.trace:
            yield Step(self._trace_files, lambda: result.trace.save(trace, overwrite=overwrite))
        if report := self.report:
            yield Step(self._report_files, lambda: self._write_report(result, inspection, report))

    def _write_report(
        self, result: Segmentation, inspection: Inspection | None, report: Path
    ) -> None:
        if not self.has_page:
            write_report(result.report, report, overwrite=self.overwrite)
            return
        from napari_sparseseg.analysis.document import write_document

        assert inspection is not None, "a page shows an inspection"
        write_document(inspection, report, overwrite=self.overwrite)

    @property
    def _report_files(self) -> tuple[Path, ...]:
        if self.report is None:
            return ()
        return (self.report, self.report.with_suffix(".json")) if self.has_page else (self.report,)

    @property
    def _trace_files(self) -> tuple[Path, ...]:
        return () if self.trace is None else tuple(self.trace / name for name in TRACE_FILES)
