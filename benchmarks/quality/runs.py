"""The training runs behind a model: their recipes, in order, and their logs."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.training.recipe import Recipe, load_recipe

RECIPES = Path(__file__).parents[2] / "napari_sparseseg" / "training" / "recipes"
"""Where the recipes of all models lie."""


def chain(path: Path) -> list[Recipe]:
    """Return the recipes of a model's runs, first to last; they lie side by side."""
    recipe = load_recipe(path)
    earlier = chain(path.parent / f"{recipe.start}.toml") if recipe.start else []
    return [*earlier, recipe]


def read_log(log: Path) -> list[dict[str, str]]:
    """Return the lines of a training log; none if it was not kept."""
    if not log.exists():
        return []
    with log.open(newline="") as file:
        return list(csv.DictReader(file))


def length(log: Path) -> tuple[int, float] | None:
    """Return the steps of a run and its seconds; the clock restarts with each resumption."""
    rows = read_log(log)
    if not rows:
        return None
    clock = np.array([float(row["seconds"]) for row in rows])
    pauses = clock[:-1][np.diff(clock) < 0]
    return int(rows[-1]["step"]), float(clock[-1] + pauses.sum())


def column(log: Path, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the steps of a log and the values of one of its columns."""
    rows = read_log(log)
    steps = np.array([float(row["step"]) for row in rows])
    return steps, np.array([float(row[name]) for row in rows])


def tenths(log: Path, name: str) -> list[float]:
    """Return the mean of a column over the first, the last but one and the last tenth of a run.

    Nothing if the log has fewer than ten lines.
    """
    values = column(log, name)[1]
    if values.size < 10:
        return []
    parts = np.array_split(values, 10)
    return [float(parts[n].mean()) for n in (0, -2, -1)]
