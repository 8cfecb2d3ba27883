"""One command for the evidence of reliability: ``python -m benchmarks.torture run``."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.machine import describe_machine
from benchmarks.torture import cycles, faults, fuzz, geometry, inputs, memory
from benchmarks.torture.page import defects, write_page
from benchmarks.torture.rows import Row
from benchmarks.torture.torture import ROUNDS, Torture

AREAS: dict[str, Callable[[Torture], Iterable[Row]]] = {
    "inputs": inputs.measure,
    "geometry": geometry.measure,
    "faults": faults.measure,
    "cycles": cycles.measure,
    "memory": memory.measure,
    "fuzz": fuzz.measure,
}
"""Everything that can be tried, by its name in the JSON."""

_REPOSITORY = Path(__file__).parents[2]
_RESULT = _REPOSITORY / "benchmarks" / "results" / "reliability.json"
_PAGE = _REPOSITORY / "docs" / "reliability.md"
_DATA = Path(os.environ.get("SPARSESEG_DATA") or _REPOSITORY.parent / "shared" / "data")
_VERSIONS = (
    "napari-sparseseg", "numpy", "torch", "nibabel", "SimpleITK", "pydicom", "highdicom",
    "safetensors", "hypothesis",
)  # fmt: skip

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def run(
    out: Annotated[Path, typer.Option(help="JSON file; what it holds stays.")] = _RESULT,
    to: Annotated[Path, typer.Option(help="The page to write.")] = _PAGE,
    data: Annotated[Path, typer.Option(help="Folder of real scans.")] = _DATA,
    rounds: Annotated[
        int, typer.Option(min=1, help="Runs in one process; all else is repeated accordingly.")
    ] = ROUNDS,
    only: Annotated[
        list[str] | None, typer.Option(help=f"Area to try: {', '.join(AREAS)}.")
    ] = None,
    missing: Annotated[bool, typer.Option(help="Try only what the JSON lacks.")] = False,
) -> None:
    """Try everything, one area after the other, and write the page; exit code 1 for a defect."""
    found = resume(out)
    for name in chosen(only, missing, found):
        found["areas"][name] = tried(name, rounds, data if data.is_dir() else None)
        _write(out, found)
        print(_line(name, found["areas"][name]), flush=True)
    write_page(found, to)
    raise typer.Exit(1 if defects(found) else 0)


@app.command()
def page(
    out: Annotated[Path, typer.Option(help="JSON file of the results.")] = _RESULT,
    to: Annotated[Path, typer.Option(help="The page to write.")] = _PAGE,
) -> None:
    """Write docs/reliability.md from what was tried."""
    write_page(json.loads(out.read_text()), to)


def tried(name: str, rounds: int, data: Path | None) -> dict[str, Any]:
    """Try an area, and return what came of it.

    Parameters
    ----------
    name : str
        One of :data:`AREAS`.
    rounds : int
        Runs in one process.
    data : Path, optional
        Folder of real scans.
    """
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        rows = [row.to_dict() for row in AREAS[name](Torture(rounds, data, Path(folder)))]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "rounds": rounds,
        "seconds": round(time.perf_counter() - start, 1),
        "rows": rows,
    }


def chosen(only: list[str] | None, missing: bool, found: dict[str, Any]) -> list[str]:
    """Return the areas to try, in their order.

    Raises
    ------
    typer.BadParameter
        If one is unknown.
    """
    unknown = set(only or ()) - set(AREAS)
    if unknown:
        raise typer.BadParameter(f"no area {min(unknown)}; choose among {', '.join(AREAS)}.")
    return [
        name
        for name in AREAS
        if (not only or name in only) and not (missing and name in found["areas"])
    ]


def resume(out: Path) -> dict[str, Any]:
    """Return what was found before, or a new beginning, with this machine and its versions."""
    found: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {"areas": {}}
    return {
        "machine": describe_machine("cpu"),
        "versions": {name: _version(name) for name in _VERSIONS},
        "areas": found["areas"],
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _write(out: Path, found: dict[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_suffix(".part")
    temporary.write_text(json.dumps(found, indent=1) + "\n")
    temporary.replace(out)


def _line(name: str, area: dict[str, Any]) -> str:
    count = sum(len(row["defects"]) for row in area["rows"])
    return f"{name}: {area['seconds']:.0f} s, {len(area['rows'])} rows, {count} defects"


if __name__ == "__main__":
    app()
