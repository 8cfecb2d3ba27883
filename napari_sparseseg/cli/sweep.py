"""``sparseseg sweep``: one scan at many settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sparseseg.analysis.swept import TOLERANCE, checked_tolerance
from napari_sparseseg.cli.shared import (
    DeviceOption,
    MemoryOption,
    ModelOption,
    OverwriteOption,
    PartOption,
    PrecisionOption,
    ResampleOption,
    ScanArgument,
    number,
    one_interrupt,
    progress_bar,
    read_scan,
    table,
)
from napari_sparseseg.memory import check_room_for_engine
from napari_sparseseg.methods import METHODS
from napari_sparseseg.weights import DEFAULT_MODEL, find_model

if TYPE_CHECKING:
    from napari_sparseseg.analysis.sweep import Sweep, SweepPoint


def sweep(
    scan: ScanArgument,
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Folder to write sweep.json, sweep.csv and sweep.png to; made if it does not "
            "exist.",
            show_default=False,
        ),
    ],
    part: PartOption = "",
    settings: Annotated[
        str | None,
        typer.Option(
            "--ratios",
            "--settings",
            metavar="S,S,...",
            help="Keep ratios, or for methods with a threshold its values, above 0 and up to 1; "
            "1 is always run. If left out, 1,0.7,0.5,0.3,0.2,0.1, or for a threshold six even "
            "steps.",
            show_default=False,
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The true label map: Dice is measured against it too, and the proposal is made "
            "by it.",
            show_default=False,
        ),
    ] = None,
    resample: ResampleOption = False,
    model: ModelOption = DEFAULT_MODEL,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    memory: MemoryOption = None,
    no_random: Annotated[
        bool,
        typer.Option("--no-random", help="Leave out the control, as many tokens drawn at random."),
    ] = False,
    tolerance: Annotated[
        float,
        typer.Option(
            metavar="T",
            help="Mean Dice that the proposed setting may lose against setting 1.",
        ),
    ] = TOLERANCE,
    overwrite: OverwriteOption = False,
) -> None:
    """Segment a scan at many settings, to see what Dice, time and compute lose or gain.

    All files are written when the work is done, or none of them.
    """
    with one_interrupt():
        swept = _sweep(
            scan, part, out, settings, reference, resample, model, device, precision, memory,
            not no_random, tolerance, overwrite,
        )  # fmt: skip
    print(_summarise(swept, tolerance, out))


def _sweep(
    scan: Path,
    part: str,
    out: Path,
    settings: str | None,
    reference: Path | None,
    resample: bool,
    model: str,
    device: str,
    precision: str,
    memory: float | None,
    random: bool,
    tolerance: float,
    overwrite: bool,
) -> Sweep:
    """Read, run and write; whatever can be refused is refused before the long work."""
    with progress_bar() as progress:
        progress(0, 1, "Loading the model")
        check_room_for_engine()
        from napari_sparseseg.analysis.compare import matched
        from napari_sparseseg.analysis.sweep import (
            SWEEP_FILES,
            planned_settings,
            read_settings,
            sweep,
            write_sweep,
        )
        from napari_sparseseg.files import read_volume
        from napari_sparseseg.segmenter import Segmenter
        from napari_sparseseg.together import check_targets

        inputs = [scan] if reference is None else [scan, reference]
        check_targets([], [out / n for n in SWEEP_FILES], inputs=inputs, overwrite=overwrite)
        checked_tolerance(tolerance)
        info = find_model(model)
        asked = None if settings is None else read_settings(settings)
        planned = planned_settings(METHODS[info.method].control, asked)
        segmenter = Segmenter(info, device, precision, memory_gb=memory)
        progress(0, 1, "Reading the scan")
        volume, truth = read_scan(scan, part), None
        if reference is not None:
            truth = matched(read_volume(reference), volume, info.classes, resample=resample)
        with segmenter.open(volume, progress) as session:
            result = sweep(session, planned, reference=truth, random=random, progress=progress)
        progress(0, 1, "Writing")
        proposed = result.propose(tolerance).setting
        write_sweep(result, out, proposed=proposed, overwrite=overwrite)
    return result


def _summarise(swept: Sweep, tolerance: float, out: Path) -> str:
    from napari_sparseseg.analysis.sweep import SWEEP_FILES

    facts = swept.facts
    return (
        f"Model     {swept.model}, {facts['device']}, {facts['precision']}\n\n"
        f"{table(_rows(swept))}\n\n"
        f"Proposal  {_proposal(swept, tolerance)}\n"
        f"Files     {', '.join(str(out / name) for name in SWEEP_FILES)}\n"
        f"{facts['notice']}"
    )


def _proposal(swept: Sweep, tolerance: float) -> str:
    proposed, dense = swept.propose(tolerance), swept.points[0]
    than = "the reference" if swept.has_reference else "the dense twin"
    if swept.quality(dense) is None:
        return f"none: {than} holds no structure, so that no setting can be told from another"
    return (
        f"{swept.control} {proposed.setting:g}: the smallest here that loses at most "
        f"{tolerance:g} of the mean Dice to {than}\n"
        f"          {proposed.seconds:.2f} s where 1 takes {dense.seconds:.2f} s, "
        f"{100 * proposed.gmacs / swept.dense_gmacs:.0f} % of the dense GMACs"
    )


def _rows(swept: Sweep) -> list[list[str]]:
    """Return one row a setting under a head; Dice is the mean over the structures."""
    random = {point.setting: point for point in swept.random}
    head = [swept.control, "Dice to dense"]
    head += ["Dice to reference"] if swept.has_reference else []
    head += ["random: Dice"] if random else []
    head += ["s", "GMACs", "tokens kept"]
    return [head, *(_row(swept, p, random.get(p.setting)) for p in swept.points)]


def _row(swept: Sweep, point: SweepPoint, random: SweepPoint | None) -> list[str]:
    row = [f"{point.setting:g}", number(point.mean_to_dense, 4)]
    row += [number(point.mean_to_reference, 4)] if swept.has_reference else []
    row += [number(swept.quality(random), 4)] if random else []
    return [*row, f"{point.seconds:.2f}", f"{point.gmacs:.1f}", str(point.tokens.get("kept", "-"))]
