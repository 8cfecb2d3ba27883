"""Measure the quality of the models of a task, and write what it says."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.machine import describe_machine
from benchmarks.quality.adopt import adopt
from benchmarks.quality.arms import RANDOM_SEEDS
from benchmarks.quality.cases import CaseSet, case_sets, training_size
from benchmarks.quality.measure import PARTS, Bench, joined, models_of
from benchmarks.quality.outcome import Json
from napari_sparseseg.devices import resolve_device
from napari_sparseseg.errors import InputError
from napari_sparseseg.training.tasks import TASKS

ALWAYS = ("models", "times", "chosen", "defaults")
"""Parts that tell by themselves what they still have to measure, or cost nothing."""
RESULTS = Path(__file__).parents[1] / "results"
_REPOSITORY = Path(__file__).parents[2]
_DATA = Path(os.environ.get("SPARSESEG_DATA") or _REPOSITORY.parent / "shared" / "data")
_VERSIONS = ("napari-sparseseg", "torch", "monai", "numpy", "scipy")
_WIDTH = 1200  # of a line of the JSON: the row of a scan with many structures

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def measure(
    task: Annotated[str, typer.Argument(help=f"One of {', '.join(TASKS)}.")],
    only: Annotated[
        list[str] | None, typer.Option(help=f"Part to measure: {', '.join(PARTS)}.")
    ] = None,
    models: Annotated[
        list[str] | None, typer.Option(help="Name of a model, or path of a weights file.")
    ] = None,
    cases: Annotated[
        int | None, typer.Option(min=1, help="Scans of each set, for a quick try; needs --out.")
    ] = None,
    missing: Annotated[bool, typer.Option(help="Measure only what the JSON lacks.")] = False,
    data: Annotated[Path, typer.Option(help="Folder of all data sets.")] = _DATA,
    runs: Annotated[Path | None, typer.Option(help="Folder of the training runs.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file; what it holds stays.")] = None,
) -> None:
    """Measure a task, one part after the other; each model is written as soon as it is done."""
    check(task, only, cases, out)
    out = out or RESULTS / "quality" / f"{task}.json"
    try:
        sets = {name: every.first(cases) for name, every in case_sets(task, data).items()}
    except InputError as error:
        raise typer.BadParameter(str(error)) from error
    found = resume(out, task, training_size(task, data), sets)
    bench = Bench(task, models_of(task, models), sets, data, runs, missing, found)
    names = [info.name for info in bench.models]
    for name, part in PARTS.items():
        if name not in (only or PARTS):
            continue
        if missing and name in found and name not in ALWAYS:
            continue
        start = time.perf_counter()
        for news in part(bench):
            found[name] = joined(found.get(name), news, names)
            write(out, found)
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)


@app.command()
def page(
    results: Annotated[Path, typer.Option(help="Folder with the JSON files.")] = (
        RESULTS / "quality"
    ),
    docs: Annotated[Path, typer.Option(help="Folder for the page and its pictures.")] = (
        _REPOSITORY / "docs"
    ),
    logs: Annotated[Path, typer.Option(help="Folder with the training logs.")] = (
        RESULTS / "training"
    ),
) -> None:
    """Write docs/results.md and its plots from what was measured."""
    from benchmarks.quality.page import write_page

    write_page(results, docs, logs)


@app.command("adopt")
def adopt_defaults(
    task: Annotated[str, typer.Argument(help=f"One of {', '.join(TASKS)}.")],
    results: Annotated[Path, typer.Option(help="Folder with the JSON files.")] = (
        RESULTS / "quality"
    ),
) -> None:
    """Make the recommended settings of a task the defaults of its models."""
    found = json.loads((results / f"{task}.json").read_text())
    for name in adopt(found):
        print(f"{name} now starts with {found['chosen'][name]['setting']:g}")


def check(task: str, only: list[str] | None, cases: int | None, out: Path | None) -> None:
    """Make sure that what is asked for makes sense.

    Raises
    ------
    typer.BadParameter
        If a name is unknown, or a quick try would overwrite the figures.
    """
    if task not in TASKS:
        raise typer.BadParameter(f"no task {task}; choose one of {', '.join(TASKS)}.")
    unknown = set(only or ()) - set(PARTS)
    if unknown:
        raise typer.BadParameter(f"no part {min(unknown)}; choose among {', '.join(PARTS)}.")
    if cases and out is None:
        raise typer.BadParameter("a quick try needs a file of its own; name it with --out.")


def resume(out: Path, task: str, training: int, sets: Mapping[str, CaseSet]) -> Json:
    """Return what was measured before, or a new beginning.

    Raises
    ------
    typer.BadParameter
        If it was measured on other scans.
    """
    common: Json = {
        "task": task,
        "classes": list(TASKS[task].classes),
        "training": training,
        "sets": {
            name: {"title": every.title, "cases": list(every.names)} for name, every in sets.items()
        },
        "random_seeds": list(RANDOM_SEEDS),
    }
    before: Json = json.loads(out.read_text()) if out.exists() else common
    for key, value in common.items():
        if before.get(key) != value:
            raise typer.BadParameter(
                f"{out} was measured with other {key}: figures of both cannot stand in one table. "
                "Name another file with --out, or delete this one."
            )
    facts = {
        "versions": {name: version(name) for name in _VERSIONS},
        "machine": describe_machine(resolve_device("auto")),
    }
    return {**common, **facts, **{k: v for k, v in before.items() if k not in facts}}


def write(out: Path, found: Json) -> None:
    """Write the JSON, whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_suffix(".part")
    temporary.write_text(lines_of(found) + "\n")
    temporary.replace(out)


def lines_of(value: Any, indent: int = 0) -> str:
    """Return JSON in which what is short stands on one line: a row for each scan."""
    flat = json.dumps(value)
    if len(flat) <= _WIDTH or not isinstance(value, dict | list):
        return flat
    pad = " " * (indent + 1)
    if isinstance(value, dict):
        inner = [f"{json.dumps(k)}: {lines_of(v, indent + 1)}" for k, v in value.items()]
        return "{\n" + ",\n".join(pad + line for line in inner) + "\n" + " " * indent + "}"
    inner = [lines_of(item, indent + 1) for item in value]
    return "[\n" + ",\n".join(pad + line for line in inner) + "\n" + " " * indent + "]"


if __name__ == "__main__":
    app()
