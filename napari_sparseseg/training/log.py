"""The log of a training run: a CSV that an interrupted run goes on with."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from napari_sparseseg.files import atomic_path


def open_log(path: Path, columns: Sequence[str], step: int) -> None:
    """Begin a log, or cut off what an interrupted run wrote behind its last checkpoint.

    Parameters
    ----------
    path : Path
        The CSV.
    columns : sequence of str
        Its head; the first column is the step.
    step : int
        Step of the checkpoint.
    """
    rows = [list(columns)]
    if path.exists():
        with path.open(newline="") as file:
            rows += [row for row in list(csv.reader(file))[1:] if int(row[0]) <= step]
    with atomic_path(path, overwrite=True) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def write_row(path: Path, cells: Sequence[object]) -> None:
    """Add a line."""
    with path.open("a", newline="") as file:
        csv.writer(file).writerow(cells)
