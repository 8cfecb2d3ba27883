"""What is foreseen of a run's memory beside what is measured, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LIBRARIES = 100
"""MB that the estimate allows for what libraries set aside; they rarely take it all."""

CASES: dict[str, dict[str, Any]] = {
    "one window": {"model": "brain-mr-stp", "shape": (90, 90, 90), "spacing": 2.0},
    "several windows": {
        "model": "headneck-ct-stp",
        "shape": (150, 150, 120),
        "spacing": 3.0,
        "setting": 1.0,
    },
    "many small windows": {"model": "hippocampus-mr-dtop", "shape": (90, 90, 70), "spacing": 1.0},
    "whole windows": {
        "model": "hippocampus-mr-stp",
        "shape": (60, 70, 60),
        "spacing": 1.0,
        "means": {"skip_air": False, "skip_windows": False, "active_blocks": False},
    },
    "16 bit": {
        "model": "brain-mr-stp",
        "shape": (180, 180, 160),
        "spacing": 1.0,
        "precision": "bfloat16",
    },
    "attention of its own": {
        "model": "headneck-ct-apformer",
        "shape": (150, 130, 100),
        "spacing": 3.0,
        "setting": 0.3,
    },
    "large field": {"model": "brain-mr-stp", "shape": (512, 512, 100), "spacing": 0.4},
}
"""Sizes, methods and means of runs; the longer list of :mod:`benchmarks.torture` can add more."""


def measured(case: dict[str, Any]) -> dict[str, Any]:
    """Give what a run in its own process reports of its memory."""
    script = Path(__file__).with_name("one_measured_run.py")
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(case)], capture_output=True, text=True, check=True
    )
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


@pytest.mark.skipif(sys.platform != "linux", reason="peaks of a process are told by Linux alone")
@pytest.mark.parametrize("name", CASES)
def test_a_run_takes_no_more_than_was_foreseen_and_no_third_of_it(name: str) -> None:
    facts = measured(CASES[name])

    assert facts["steps"] == []
    assert facts["peak_mb"] <= facts["estimate_mb"]
    assert facts["estimate_mb"] - LIBRARIES <= 3 * facts["peak_mb"]
    assert facts["estimate_mb"] <= facts["budget_mb"]


@pytest.mark.skipif(sys.platform != "linux", reason="peaks of a process are told by Linux alone")
def test_a_run_that_had_to_give_something_up_stays_within_its_budget() -> None:
    facts = measured(CASES["many small windows"] | {"budget": 0.9})

    assert facts["steps"] and facts["windows"] > 4
    assert facts["peak_mb"] <= facts["estimate_mb"] <= facts["budget_mb"]
