"""``sparseseg segment``: one scan, one run, its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sparseseg.cli.shared import (
    DeviceOption,
    ModelOption,
    OverwriteOption,
    PrecisionOption,
    ScanArgument,
    one_interrupt,
    progress_bar,
)
from napari_sparseseg.cli.written import NamesOption, ProbabilitiesOption, ProbabilityOfOption
from napari_sparseseg.errors import InputError
from napari_sparseseg.methods import Control, check_sparsifier, control_of, controls
from napari_sparseseg.weights import DEFAULT_MODEL, find_model

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
            "background. In one of the same formats, as .seg.nrrd for 3D Slicer, or for a DICOM "
            "series as a .dcm segmentation, which repeats the patient's data.",
            show_default=False,
        ),
    ],
    model: ModelOption = DEFAULT_MODEL,
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
    overwrite: OverwriteOption = False,
) -> None:
    """Segment a scan.

    All outputs are written when the work is done, or none of them.
    """
    with one_interrupt():
        from napari_sparseseg.outputs import Outputs

        outputs = Outputs(
            output,
            trace,
            report,
            overwrite,
            names,
            probabilities,
            tuple(probability_of or ()),
        )
        outputs.check(scan)
        settings = {"--keep-ratio": keep_ratio, "--threshold": threshold}
        result = _segment(scan, outputs, model, settings, device, precision, sparsifier)
    print(_summarise(result, output))


def _segment(
    scan: Path,
    outputs: Outputs,
    model: str,
    settings: dict[str, float | None],
    device: str,
    precision: str,
    sparsifier: str,
) -> Segmentation:
    """Read, segment and write; whatever can be refused is refused before the long work."""
    with progress_bar() as progress:
        progress(0, 1, "Loading the model")
        from napari_sparseseg.files import read_volume
        from napari_sparseseg.methods import checked_setting
        from napari_sparseseg.segmenter import Segmenter

        info = find_model(model)
        outputs.check_classes(info.classes)
        rule = sparsifier or info.method
        check_sparsifier(rule, info.method, info.name)
        control = control_of(info.method, rule)
        setting = _chosen_setting(settings, control, rule)
        if setting is not None:
            checked_setting(setting, control)
        segmenter = Segmenter(info, device, precision, sparsifier)
        progress(0, 1, "Reading the scan")
        volume = read_volume(scan)
        with segmenter.open(volume, progress) as session:
            result = session.run(setting, progress, probabilities=outputs.has_probabilities)
            inspection = _inspect(session, result, progress) if outputs.has_page else None
        progress(0, 1, "Writing")
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


def _chosen_setting(
    settings: dict[str, float | None], control: Control | None, rule: str
) -> float | None:
    """Return the value of the option that sets this rule; refuse the others."""
    for option, value in settings.items():
        if value is not None and (control is None or option != control.option):
            use = f"its {control.name} is set with {control.option}" if control else "leave it out"
            raise InputError(
                f"'{rule}' has no {option.removeprefix('--').replace('-', ' ')}; {use}."
            )
    return settings[control.option] if control else None


def _summarise(result: Segmentation, output: Path) -> str:
    report: dict[str, Any] = result.report
    tokens, gmacs, seconds = report["tokens"], report["gmacs"], report["seconds"]
    parts = ", ".join(
        f"{name.replace('_', ' ')} {value:.1f}"
        for name, value in seconds.items()
        if name != "total"
    )
    share = 100 * gmacs["run"] / gmacs["dense"]
    rule, setting = f"sparsifier {report['sparsifier']}", report["setting"]
    if setting is not None:
        rule += f", {setting['name']} {setting['value']:g}"
    return (
        f"Labels   {output}\n"
        f"Model    {report['model']}, {rule}, "
        f"{report['device']}, {report['precision']}\n"
        f"Tokens   {tokens['total']}: {tokens['kept']} kept to the last block, "
        f"{tokens['pruned']} pruned, {tokens['exited']} exited, {tokens['air']} air\n"
        f"Compute  {gmacs['run']:.3g} GMACs, {share:.0f} % of the dense {gmacs['dense']:.3g}\n"
        f"Time     {seconds['total']:.1f} s ({parts})\n"
        f"Memory   {report['peak_memory_mb']:.0f} MB at the most\n"
        f"{report['notice']}"
    )
