"""``sparseseg segment``: one scan, one run, its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sparseseg.cli.asked import Asked
from napari_sparseseg.cli.repeated import Repeated
from napari_sparseseg.cli.shared import (
    DeviceOption,
    MemoryOption,
    ModelOption,
    OverwriteOption,
    PartOption,
    PrecisionOption,
    ScanArgument,
    one_interrupt,
    progress_bar,
    read_scan,
)
from napari_sparseseg.cli.summary import summarise
from napari_sparseseg.cli.written import NamesOption, ProbabilitiesOption, ProbabilityOfOption
from napari_sparseseg.methods import controls

if TYPE_CHECKING:
    from napari_sparseseg.analysis.inspection import Inspection
    from napari_sparseseg.outputs import Outputs
    from napari_sparseseg.progress import Progress
    from napari_sparseseg.session import Segmentation, Session


def segment(
    scan: ScanArgument,
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT",
            help="The label map to write, on the scan's own grid: one class index per voxel, 0 is "
            "background. A .nii, .nii.gz, .nrrd, .nhdr, .mha or .mhd file; .seg.nrrd for Slicer; "
            "for a DICOM series also .dcm, a segmentation that repeats the patient's data.",
            show_default=False,
        ),
    ],
    part: PartOption = "",
    model: ModelOption = "",
    keep_ratio: Annotated[
        float | None,
        typer.Option(
            metavar="R",
            help="Fraction of each window's tokens that run through every encoder block, above "
            "0 and up to 1 (dense: nothing is pruned). If left out, the model's own default.",
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="T",
            help="For methods with a threshold in place of a keep ratio ('sparseseg models' "
            "tells): above 0 and up to 1, where nothing is pruned.",
            show_default=False,
        ),
    ] = None,
    sparsifier: Annotated[
        str,
        typer.Option(
            metavar="|".join(controls()),
            help="A control in place of the model's own rule: is the pruning informed?",
            show_default=False,
        ),
    ] = "",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    memory: MemoryOption = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder to write what happened to every token to: importance (score per stage),"
            " kept (0 or 1) and depth (encoder blocks) as NIfTI on the token grid, and "
            "trace.json.",
            show_default=False,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json|FILE.html",
            help="File to write the facts of the run to: tokens, GMACs (10^9 multiply-"
            "accumulates), seconds, memory (MB), voxels and millilitres per structure. As "
            ".html, a page for people: the dense twin is run too, and the page shows where the "
            "two differ; FILE.json is written beside it.",
            show_default=False,
        ),
    ] = None,
    names: NamesOption = None,
    probabilities: ProbabilitiesOption = None,
    probability_of: ProbabilityOfOption = None,
    from_report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Repeat the run that this report tells of, and say whether the labels are the "
            "same: model, setting, sparsifier, device and precision are taken from it. Other "
            "options may not contradict it; --model may name the weights' file.",
            show_default=False,
        ),
    ] = None,
    other_scan: Annotated[
        bool,
        typer.Option(
            "--other-scan", help="With --from-report: use its settings on a scan that it is not of."
        ),
    ] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Segment a scan.

    All outputs are written when the work is done, or none of them.

    With --from-report, exit code 1 tells that the labels differ from those of the report.
    """
    with one_interrupt():
        from napari_sparseseg.files.segments import DICOM
        from napari_sparseseg.outputs import Outputs

        repeated = Repeated.of(from_report, other_scan)
        part = repeated.part(part) if repeated else part
        outputs = Outputs(
            output,
            trace,
            report,
            overwrite,
            names,
            probabilities,
            tuple(probability_of or ()),
            _source(scan, part) if output.suffix.lower() == DICOM else (),
        )
        outputs.check(scan, *(repeated.files if repeated else ()))
        asked = Asked(model, sparsifier, device, precision, keep_ratio, threshold)
        result = _segment(scan, part, outputs, asked, repeated, memory)
    print(summarise(result, output))
    if repeated is not None:
        raise typer.Exit(repeated.tell(result))


def _source(scan: Path, part: str) -> tuple[Path, ...]:
    """Return the files of the series that is segmented, in which a DICOM segmentation is rooted."""
    from napari_sparseseg.files.dicom import source_files

    return source_files(scan, part)


def _segment(
    scan: Path,
    part: str,
    outputs: Outputs,
    asked: Asked,
    repeated: Repeated | None,
    memory: float | None,
) -> Segmentation:
    """Read, segment and write; whatever can be refused is refused before the long work."""
    with progress_bar() as progress:
        progress(0, 1, "Loading the model")
        from napari_sparseseg.report import checksums

        settings = asked.repeating(repeated.record) if repeated else asked.settings()
        outputs.check_classes(settings.model.classes)
        segmenter = settings.segmenter(memory)
        progress(0, 1, "Reading the scan")
        volume = read_scan(scan, part)
        if repeated is not None:
            repeated.check(volume)
        with segmenter.open(volume, progress) as session:
            result = session.run(
                settings.setting, progress, probabilities=outputs.has_probabilities
            )
            inspection = _inspect(session, result, progress) if outputs.has_page else None
            progress(0, 1, "Writing")
            if outputs.report is not None or repeated is not None:
                result.report["checksums"] = checksums(session.volume, result.labels)
        outputs.write(result, inspection)
    return result


def _inspect(session: Session, result: Segmentation, progress: Progress) -> Inspection:
    """Compare a run with its dense twin; a control without a setting has none in its session."""
    from napari_sparseseg.analysis.inspection import inspect

    rule, setting = result.report["sparsifier"], result.report["setting"]
    if rule == "dense" or (setting and setting["value"] == 1):
        dense: Segmentation | None = result
    else:
        dense = session.run(1.0, progress) if setting else None
    progress(0, 1, "Comparing")
    return inspect(session.volume, result, dense=dense, progress=progress)
