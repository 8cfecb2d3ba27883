"""docs/reliability.md, from the JSON of what was tried."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.markdown import table

_INTRODUCTION = """\
# How reliable it is

Written by `make torture` from `benchmarks/results/reliability.json`. {machine}

{versions}

Every attempt ends in one of three ways. **Handled**: it gave what it should, or after a fault the
old files or the new ones were whole. **Refused**: one sentence said what is wrong and what to do,
and nothing was changed. **Defect**: a traceback, a result in a wrong place, half a file, changed
labels, memory or a file handle that was not given back. {verdict}"""

_TITLES = {
    "inputs": ("Inputs", "Files of every format, number type and byte order, sound and damaged."),
    "geometry": (
        "Geometry",
        "Scans in every orientation, segmented, and the labels looked up in RAS millimetres by "
        "SimpleITK, which shares no code with the way there.",
    ),
    "faults": (
        "Faults",
        "What was broken while something was written or run. *Killed* is a process that the "
        "system ends at once (`kill -9`), before each step that changes the disk and in the "
        "middle of its bytes; afterwards every file must be the old one or the new one, byte by "
        "byte, nothing else may lie there but hidden `.sparseseg-` files, and writing again must "
        "succeed.",
    ),
    "cycles": (
        "Cycles",
        "The same work again and again in one process. File handles, threads and temporary files "
        "must be as many at the end as after the warm-up, and memory must not grow.",
    ),
    "memory": ("Memory", "Peak memory of a run beside what the budget allowed."),
    "fuzz": ("Fuzzing", "Bytes and messages drawn at random, for everything that reads them."),
}

_NOT_EXERCISED = """\
## What was not exercised

* **A power cut.** Files are flushed to the disk, and so is the folder that names them, before a run
  says that it is done; that the disk keeps its word was not tried.
* **Network drives**, and file systems other than those of Linux.
* **Windows and macOS**: all of it ran on Linux.
* **A graphics card**, unless a row names one: faults of its driver were stood in for.
* **Scanners.** DICOM series were made by programs, in the ways that the standard and known
  archives have them."""


def write_page(found: dict[str, Any], to: Path) -> None:
    """Write the page.

    Parameters
    ----------
    found : dict
        Machine, versions and areas, as the command keeps them.
    to : Path
        The page.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(make_page(found))


def make_page(found: dict[str, Any]) -> str:
    """Return the page."""
    text = [_introduction(found)]
    text += [_section(name, found["areas"].get(name)) for name in _TITLES]
    return "\n\n".join([*text, _NOT_EXERCISED]) + "\n"


def defects(found: dict[str, Any]) -> list[str]:
    """Return every defect of every area."""
    return [
        f"{name}, {row['what']}: {defect}"
        for name, area in found["areas"].items()
        for row in area["rows"]
        for defect in row["defects"]
    ]


def _introduction(found: dict[str, Any]) -> str:
    machine, count = found["machine"], len(defects(found))
    memory = f", {machine['memory_gb']:g} GB" if machine["memory_gb"] else ""
    tried = sum(_tried(row) for area in found["areas"].values() for row in area["rows"])
    return _INTRODUCTION.format(
        machine=f"Run on {machine['processor']}, {machine['cores']} cores{memory}, "
        f"{machine['system']}, Python {machine['python']}.",
        versions=", ".join(f"{name} {number}" for name, number in found["versions"].items()) + ".",
        verdict=f"Of {tried:,} attempts **{count or 'none'}** ended in a defect.",
    )


def _section(name: str, area: dict[str, Any] | None) -> str:
    title, what = _TITLES[name]
    if area is None:
        return f"## {title}\n\nNot tried yet."
    rows = area["rows"]
    parts = [
        f"## {title}",
        f"{what} {sum(map(_tried, rows)):,} attempts in {area['seconds']:.0f} s on {area['date']}.",
        table(_head(rows), _cells(rows)),
    ]
    if any(row["messages"] for row in rows):
        parts.append("Refused with, for example:\n\n" + "\n".join(_messages(rows)))
    if bad := [f"* {row['what']}: {defect}" for row in rows for defect in row["defects"]]:
        parts.append("**Defects:**\n\n" + "\n".join(bad))
    return "\n\n".join(parts)


def _head(rows: list[dict[str, Any]]) -> list[str]:
    return ["what", "tried", "handled", "refused", "defects", *_figures(rows)]


def _figures(rows: list[dict[str, Any]]) -> list[str]:
    """Return the names of all that was measured beside, in their order."""
    return list(dict.fromkeys(name for row in rows for name in row["figures"]))


def _cells(rows: list[dict[str, Any]]) -> Iterator[list[str]]:
    for row in rows:
        counts = (_tried(row), row["handled"], row["refused"], len(row["defects"]))
        figures = (row["figures"].get(name, "") for name in _figures(rows))
        yield [row["what"], *map(str, counts), *(_figure(value) for value in figures)]


def _figure(value: float | int | str) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _messages(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Give the sentences, each once, whatever file they name."""
    seen = set()
    for row in rows:
        for message in row["messages"]:
            kind = re.sub(r"\S*\d\S*|\S*[./]\S+", "", message)
            if kind not in seen:
                seen.add(kind)
                yield f"* {row['what']}: “{message}”"


def _tried(row: dict[str, Any]) -> int:
    return row["handled"] + row["refused"] + len(row["defects"])
