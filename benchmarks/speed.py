"""One command for all figures on speed: ``python -m benchmarks.speed measure`` and ``page``."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import (
    ablation,
    curves,
    floor,
    growth,
    memory,
    network,
    observing,
    parts,
    slider,
    wall,
)
from benchmarks.bench import Bench
from benchmarks.machine import describe_machine
from benchmarks.page import write_page
from benchmarks.volumes import Cases
from napari_sparseseg.devices import resolve_device
from napari_sparseseg.weights import find_model

PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "wall": wall.measure,
    "slider": slider.measure,
    "memory": memory.measure,
    "large": memory.measure_large,
    "trace": observing.measure,
    "growth": growth.measure,
    "ablation": ablation.measure,
    "curves": curves.measure,
    "profile": parts.measure,
    "floor": floor.measure,
    "network": lambda bench: network.measure(bench.device, "auto", bench.repeats),
}
"""Everything that can be measured, by its name in the JSON."""

RESULTS = Path(__file__).parent / "results"
_REPOSITORY = Path(__file__).parents[1]
_MODELS = ("brain-mr-stp", "brain-mr-dense")
_DATA = Path(os.environ.get("SPARSESEG_DATA") or _REPOSITORY.parent / "shared" / "data")

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def measure(
    out: Annotated[Path | None, typer.Option(help="JSON file; what it holds stays.")] = None,
    data: Annotated[Path, typer.Option(help="Folder with brain-t1 and brain-labels.")] = _DATA,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:n.")] = "cpu",
    repeats: Annotated[int, typer.Option(min=1, help="Timed rounds.")] = 7,
    slow_repeats: Annotated[
        int, typer.Option(min=1, help="Timed rounds of what takes minutes.")
    ] = 2,
    only: Annotated[
        list[str] | None, typer.Option(help=f"Part to measure: {', '.join(PARTS)}.")
    ] = None,
    missing: Annotated[bool, typer.Option(help="Measure only what the JSON lacks.")] = False,
) -> None:
    """Measure, one part after the other; each is written as soon as it is done."""
    device = resolve_device(device)
    out = out or RESULTS / ("speed-cuda.json" if device.startswith("cuda") else "speed.json")
    bench = Bench(
        (cases := Cases(existing(data))).get, cases.validation, device, repeats, slow_repeats
    )
    result = resume(out, facts(device))
    for name in chosen_parts(only, missing, result):
        start = time.perf_counter()
        result[name] = PARTS[name](bench)
        out.write_text(json.dumps(result, indent=1) + "\n")
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)


@app.command()
def page(
    results: Annotated[Path, typer.Option(help="Folder with speed.json.")] = RESULTS,
    before: Annotated[
        Path, typer.Option(help="JSON of the slider before this benchmark.")
    ] = RESULTS / "before.json",
    docs: Annotated[Path, typer.Option(help="Folder for the page and its pictures.")] = (
        _REPOSITORY / "docs"
    ),
) -> None:
    """Write docs/performance.md and its plots from what was measured."""
    write_page(results, before, docs)


def existing(data: Path) -> Path:
    """Return the folder of the scans.

    Raises
    ------
    typer.BadParameter
        If it is not there.
    """
    for name in ("brain-t1", "brain-labels"):
        if not (data / name).is_dir():
            raise typer.BadParameter(
                f"{data} holds no folder {name}; give the folder of the scans with --data, or "
                "set SPARSESEG_DATA."
            )
    return data


def facts(device: str) -> dict[str, Any]:
    """Return what all parts of one JSON must have in common: the machine and the models."""
    models = {name: find_model(name).sha256 for name in _MODELS}
    return {"machine": describe_machine(device), "models": models}


def resume(out: Path, common: dict[str, Any]) -> dict[str, Any]:
    """Return what was measured before, or a new beginning.

    Raises
    ------
    typer.BadParameter
        If it was measured on another machine or with other weights.
    """
    if not out.exists():
        return dict(common)
    result: dict[str, Any] = json.loads(out.read_text())
    for key, value in common.items():
        if result.get(key) != value:
            raise typer.BadParameter(
                f"{out} was measured with other {key}: figures of both cannot stand in one table. "
                "Name another file with --out, or delete this one."
            )
    return result


def chosen_parts(only: list[str] | None, missing: bool, result: dict[str, Any]) -> list[str]:
    """Return the parts to measure, in their order.

    Raises
    ------
    typer.BadParameter
        If one is unknown.
    """
    unknown = set(only or ()) - set(PARTS)
    if unknown:
        raise typer.BadParameter(f"no part {min(unknown)}; choose among {', '.join(PARTS)}.")
    return [
        name for name in PARTS if (not only or name in only) and not (missing and name in result)
    ]


if __name__ == "__main__":
    app()
