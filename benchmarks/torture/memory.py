"""Peak memory of runs beside what was foreseen and what the budget allowed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks.torture.rows import Row
from benchmarks.torture.suites import REPOSITORY, tested
from benchmarks.torture.torture import Torture

_SCRIPT = REPOSITORY / "tests" / "engine" / "one_measured_run.py"
_BRAIN = {"model": "brain-mr-stp", "spacing": 1.0}
_HIPPOCAMPUS = {"model": "hippocampus-mr-stp", "spacing": 1.0}
CASES: dict[str, dict[str, Any]] = {
    "brain, 90³ voxels of 2 mm": {**_BRAIN, "shape": (90, 90, 90), "spacing": 2.0},
    "brain, 180 x 180 x 160 of 1 mm": {**_BRAIN, "shape": (180, 180, 160)},
    "brain, the same densely": {**_BRAIN, "shape": (180, 180, 160), "setting": 1.0},
    "brain, 512 x 512 x 100 of 0.4 mm": {**_BRAIN, "shape": (512, 512, 100), "spacing": 0.4},
    "brain, 512 x 512 x 300 of 0.4 mm": {**_BRAIN, "shape": (512, 512, 300), "spacing": 0.4},
    "brain, one slice": {**_BRAIN, "shape": (200, 200, 1)},
    "hippocampus, 90 x 90 x 70": {**_HIPPOCAMPUS, "shape": (90, 90, 70)},
    "hippocampus, 160³": {**_HIPPOCAMPUS, "shape": (160, 160, 160)},
    "hippocampus, 160³, four fifths of what it would take": {
        **_HIPPOCAMPUS, "shape": (160, 160, 160), "budget": 0.8,
    },
    "head and neck, 150 x 150 x 120 of 3 mm": {
        "model": "headneck-ct-stp", "shape": (150, 150, 120), "spacing": 3.0,
    },
}  # fmt: skip
"""Runs, as ``tests/engine/one_measured_run.py`` takes them."""


def measure(torture: Torture) -> Iterator[Row]:
    """Measure runs in processes of their own, then run what the tests know of memory."""
    for name, case in CASES.items():
        yield _measured(name, case)
    yield from tested(torture, "engine/test_memory*.py")


def _measured(name: str, case: dict[str, Any]) -> Row:
    row = Row(name)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, str(_SCRIPT), json.dumps(case)]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        kind, _, message = last[0].partition(": ")
        if kind.startswith("napari_sparseseg.errors."):
            row.refuse(message)
        else:
            row.defects.append(last[0][:300])
        return row
    facts = json.loads(done.stdout)
    row.count(_exceeded(facts))
    for what in ("peak", "estimate", "budget"):
        row.figures[f"{what}, MB"] = round(facts[f"{what}_mb"])
    row.figures["steps given up"] = len(facts["steps"])
    return row


def _exceeded(facts: dict[str, Any]) -> Iterator[str]:
    peak, foreseen, allowed = (facts[f"{what}_mb"] for what in ("peak", "estimate", "budget"))
    if peak > foreseen:
        yield f"{peak:.0f} MB at the peak where {foreseen:.0f} were foreseen"
    if foreseen > allowed:
        yield f"{foreseen:.0f} MB were foreseen and {allowed:.0f} allowed"
