"""``sparseseg compare``: two label maps, and with a trace where in the tokens they differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sparseseg.cli.shared import ResampleOption, number, one_interrupt, table
from napari_sparseseg.weights import find_model

if TYPE_CHECKING:
    from napari_sparseseg.analysis.attribution import Attribution
    from napari_sparseseg.analysis.compare import Comparison
    from napari_sparseseg.volume import Volume

_LARGEST_LABEL = 255  # labels are bytes


def compare(
    labels: Annotated[
        Path,
        typer.Argument(metavar="PRED", help="The label map to judge.", show_default=False),
    ],
    reference: Annotated[
        Path,
        typer.Argument(
            metavar="REF",
            help="The label map to judge it by: a true one, or that of another run.",
            show_default=False,
        ),
    ],
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Trace of the run that gave PRED, from 'sparseseg segment --trace': tells in "
            "which tokens the two differ.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH",
            help="Model whose class names the labels have; numbers if left out.",
            show_default=False,
        ),
    ] = None,
    resample: ResampleOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Compare a label map with another: Dice, distances (mm), volumes (ml), voxels."""
    with one_interrupt("The comparison was cancelled."):
        comparison, attribution = _compare(labels, reference, trace, model, resample)
    print(_as_json(comparison, attribution) if as_json else _summarise(comparison, attribution))


def _compare(
    labels: Path, reference: Path, trace: Path | None, model: str | None, resample: bool
) -> tuple[Comparison, Attribution | None]:
    from napari_sparseseg.analysis.attribution import attribute
    from napari_sparseseg.analysis.compare import SAME, compare
    from napari_sparseseg.analysis.patches import TokenIndex
    from napari_sparseseg.files import read_volume
    from napari_sparseseg.tokens import TokenTrace

    names = find_model(model).classes if model else None
    recorded = TokenTrace.load(trace) if trace else None
    mine, theirs = read_volume(labels), read_volume(reference)
    comparison = compare(mine, theirs, names or _numbered(mine, theirs), resample=resample)
    if recorded is None:
        return comparison, None
    index = TokenIndex.of_whole(recorded.grid, mine)
    return comparison, attribute(recorded, index, comparison.difference != SAME)


def _numbered(*maps: Volume) -> tuple[str, ...]:
    """Name the labels of maps after their numbers; what is no label is for others to refuse."""
    highest = max(float(m.data.max(initial=0, where=m.data <= _LARGEST_LABEL)) for m in maps)
    return ("background", *(f"label {n}" for n in range(1, int(highest) + 1)))


def _as_json(comparison: Comparison, attribution: Attribution | None) -> str:
    from napari_sparseseg.report import NOTICE

    found: dict[str, Any] = {"notice": NOTICE, "comparison": comparison.to_dict()}
    if attribution is not None:
        found["attribution"] = attribution.to_dict()
    return json.dumps(found, indent=2)


def _summarise(comparison: Comparison, attribution: Attribution | None) -> str:
    from napari_sparseseg.report import NOTICE

    counts = comparison.counts
    parts = [
        table(_class_rows(comparison)),
        f"Voxels   {counts['added']} added, {counts['lost']} lost, {counts['changed']} of another "
        "structure",
    ]
    if attribution is not None:
        parts += [table(_share_rows(attribution)), attribution.verdict]
    return "\n\n".join([*parts, NOTICE])


def _class_rows(comparison: Comparison) -> list[list[str]]:
    head = ["structure", "Dice", "HD95 (mm)", "ml", "reference ml", "change (ml)"]
    rows = [
        [
            entry.name,
            number(entry.dice, 4),
            number(entry.hd95, 2),
            f"{entry.millilitres:.3f}",
            f"{entry.reference_millilitres:.3f}",
            f"{entry.change:+.3f}",
        ]
        for entry in comparison.classes
        if entry.millilitres or entry.reference_millilitres
    ]
    return [head, *rows, ["mean", number(comparison.mean_dice, 4), *[""] * 4]]


def _share_rows(attribution: Attribution) -> list[list[str]]:
    head = ["tokens", "number", "of the volume", "of the differences", "differing voxels"]
    rows = [
        [
            share.fate,
            str(share.tokens),
            f"{100 * attribution.volume_share(share):.1f} %",
            f"{100 * attribution.error_share(share):.1f} %",
            str(share.errors),
        ]
        for share in attribution.shares
        if share.tokens
    ]
    return [head, *rows]
