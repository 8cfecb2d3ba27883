"""The files of a run: refused before the work starts, written together when it is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sparseseg.errors import OutputError
from napari_sparseseg.files import write_labels, write_names
from napari_sparseseg.files.segments import DICOM, check_ending
from napari_sparseseg.report import write_report
from napari_sparseseg.structures import Structure, class_indices, structures_of
from napari_sparseseg.together import Step, check_targets, write_together
from napari_sparseseg.tokens import TRACE_FILES

if TYPE_CHECKING:
    from napari_sparseseg.analysis.inspection import Inspection
    from napari_sparseseg.session import Segmentation

_REPORTS = (".json", ".html")
_PROBABILITIES = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Outputs:
    """Where the results of one run go.

    Parameters
    ----------
    labels : Path
        Label map, a file that ends in one of `napari_sparseseg.files.LABEL_SUFFIXES`.
    trace : Path, optional
        Folder of the trace; it is made where it does not exist.
    report : Path, optional
        Report: a ``.json`` file with the facts of the run, or an ``.html`` page for people that
        holds what an inspection found, with a ``.json`` file of the same name beside it.
    overwrite : bool
        Replace files that exist.
    names : Path, optional
        Table of what the values of the label map stand for.
    probabilities : Path, optional
        Class probabilities, a NIfTI file; the run must keep them.
    probability_of : tuple of str
        Classes whose probabilities are wanted; all if empty.
    source : tuple of Path
        Files of the DICOM series that is segmented, which a DICOM segmentation refers to.
    """

    labels: Path
    trace: Path | None = None
    report: Path | None = None
    overwrite: bool = False
    names: Path | None = None
    probabilities: Path | None = None
    probability_of: tuple[str, ...] = ()
    source: tuple[Path, ...] = ()

    @property
    def has_page(self) -> bool:
        """Whether the report is a page, which needs an inspection."""
        return self.report is not None and self.report.suffix.lower() == ".html"

    @property
    def has_probabilities(self) -> bool:
        """Whether the run must keep its probabilities."""
        return self.probabilities is not None

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
            a file exists and may not be replaced, a folder is missing or read-only, or a DICOM
            segmentation is asked for where no DICOM series is segmented.
        """
        check_ending(self.labels)
        if self.report is not None and self.report.suffix.lower() not in _REPORTS:
            raise OutputError(
                f"The report {self.report.name} has an unknown ending; use .json or .html."
            )
        self._check_probabilities()
        if self.labels.suffix.lower() == DICOM:
            from napari_sparseseg.files.dicom_seg import read_headers

            read_headers(self.source)
        beside = [path for path in (self.names, self.probabilities) if path is not None]
        check_targets(
            [self.labels, *beside, *self._report_files],
            self._trace_files,
            inputs=(*inputs, *self.source),
            overwrite=self.overwrite,
        )

    def check_classes(self, classes: Sequence[str]) -> None:
        """Make sure that a model has the classes whose probabilities are wanted.

        Raises
        ------
        InputError
            If not.
        """
        class_indices(classes, self.probability_of)

    def _check_probabilities(self) -> None:
        if self.probabilities is None:
            if self.probability_of:
                raise OutputError(
                    "Classes were chosen for probabilities, but no file for these; name one, or "
                    "choose no classes."
                )
        elif not self.probabilities.name.lower().endswith(_PROBABILITIES):
            raise OutputError(
                f"The probabilities {self.probabilities.name} have an unknown ending; use .nii or "
                ".nii.gz."
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
        structures = structures_of(result.classes, result.colors)
        yield Step((self.labels,), lambda: self._write_labels(result, structures))
        if names := self.names:
            yield Step((names,), lambda: write_names(structures, names, overwrite=overwrite))
        if probabilities := self.probabilities:
            yield Step((probabilities,), lambda: self._write_probabilities(result, probabilities))
        if trace := self.trace:
            yield Step(self._trace_files, lambda: result.trace.save(trace, overwrite=overwrite))
        if report := self.report:
            yield Step(self._report_files, lambda: self._write_report(result, inspection, report))

    def _write_labels(self, result: Segmentation, structures: Sequence[Structure]) -> None:
        write_labels(
            result.labels,
            structures,
            self.labels,
            source=self.source,
            report=result.report,
            overwrite=self.overwrite,
        )

    def _write_probabilities(self, result: Segmentation, path: Path) -> None:
        from napari_sparseseg.probability import write_probabilities

        assert result.probabilities is not None, "the run was asked to keep them"
        indices = class_indices(result.classes, self.probability_of)
        write_probabilities(
            result.probabilities, result.classes, indices, path, overwrite=self.overwrite
        )

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
