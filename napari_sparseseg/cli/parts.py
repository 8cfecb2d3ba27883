"""``sparseseg parts``: the scans that a folder or a file holds."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sparseseg.cli.shared import one_interrupt

if TYPE_CHECKING:
    from napari_sparseseg.files import Part


def list_parts(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", help="A folder with DICOM files, or a file.", show_default=False
        ),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print key, title and problem as JSON.")
    ] = False,
) -> None:
    """List the scans of a folder or file, for --part: key, what it is, why it cannot be read.

    Headers are read, no voxels. Nothing about the patient is printed.
    """
    with one_interrupt("The listing was cancelled."):
        from napari_sparseseg.files import parts

        found = parts(path)
    if as_json:
        print(json.dumps([asdict(part) for part in found], indent=2))
    else:
        print(_listed(found))


def _listed(found: tuple[Part, ...]) -> str:
    width = max(len(part.key) for part in found)
    lines = []
    for part in found:
        lines.append(f"{part.key.ljust(width)}  {part.title}")
        if part.problem:
            lines.append(f"{' ' * width}  {part.problem}")
    return "\n".join(lines)
