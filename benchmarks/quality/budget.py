"""What the training of every shipped model cost."""

from __future__ import annotations

from pathlib import Path

from benchmarks.quality.outcome import Json
from benchmarks.quality.runs import RECIPES, chain, length
from napari_sparseseg.weights import models

LOGS = Path(__file__).parents[1] / "results" / "training"
"""Logs of the runs of the shipped models."""


def measure(task: str, data: Path, runs: Path | None, logs: Path = LOGS) -> dict[str, Json]:
    """Return steps and minutes of every shipped model, those of its starts included.

    Parameters
    ----------
    task : str
        Name of the task.
    data, runs : Path or None
        As every part gets them; not used.
    logs : Path
        Folder with ``<run>.csv`` of every run.
    """
    found = {}
    for info in models():
        if info.task != task:
            continue
        parts = [length(logs / f"{r.name}.csv") for r in chain(RECIPES / f"{info.name}.toml")]
        known = [part for part in parts if part]
        found[info.name] = {
            "steps": sum(steps for steps, _ in known),
            "minutes": round(sum(seconds for _, seconds in known) / 60, 1),
        }
    return found
