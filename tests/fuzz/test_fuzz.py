"""The fast part of the fuzzing; ``python -m tests.fuzz --examples 5000`` is the long one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ENTRIES = (
    "read nifti", "read nifti packed", "read nifti 2", "read nifti pair", "read analyze",
    "read nrrd", "read nrrd packed", "read nrrd detached",
    "read metaimage", "read metaimage packed", "read metaimage detached",
    "read dicom", "read dicom implicit", "read dicom, one file",
    "weights, bytes", "weights, header", "weights, metadata", "weights, network",
    "model index", "model index, bytes", "training checkpoint",
    "trace, stp", "trace.json, stp", "trace, apformer", "trace.json, apformer",
    "report", "report, bytes",
    "worker, voxels", "worker, file names", "worker, lines",
)  # fmt: skip
EXAMPLES = 25


@pytest.fixture(scope="module")
def ended(repository: Path) -> dict[str, dict[str, Any]]:
    """Fuzz everything in a process of its own, whose memory is bounded: a crash is seen too."""
    answer = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--examples", str(EXAMPLES)],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    outcomes = [json.loads(line) for line in answer.stdout.splitlines()]
    tail = answer.stderr[-2000:]
    assert answer.returncode == 0, f"it died behind {[o['name'] for o in outcomes][-1:]}: {tail}"
    return {outcome["name"]: outcome for outcome in outcomes}


def test_every_entry_point_was_tried(ended: dict[str, dict[str, Any]]) -> None:
    assert sorted(ended) == sorted(ENTRIES)


@pytest.mark.parametrize("entry", ENTRIES)
def test_spoilt_input_ends_in_a_result_or_in_one_sentence(
    ended: dict[str, dict[str, Any]], entry: str
) -> None:
    outcome = ended[entry]

    assert not outcome["defects"], outcome["defects"][0]
    assert outcome["handled"] + outcome["refused"] >= EXAMPLES
