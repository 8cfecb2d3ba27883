"""Spoilt input for everything that reads what others wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.torture.rows import Row
from benchmarks.torture.torture import Torture

EXAMPLES = 5000
"""Inputs for each entry point at the default length."""


def measure(torture: Torture) -> Iterator[Row]:
    """Fuzz every entry point in a process with bounded memory; its death is a defect."""
    command = [sys.executable, "-m", "tests.fuzz"]
    command += ["--examples", str(torture.share(EXAMPLES, least=10)), "--seed", "2"]
    answer = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    for line in answer.stdout.splitlines():
        found = json.loads(line)
        yield Row(
            found["name"],
            handled=found["handled"],
            refused=found["refused"],
            defects=[defect[-300:] for defect in found["defects"]],
            messages=found["messages"],
        )
    if answer.returncode:
        yield Row("the process", defects=[f"it died: {answer.stderr[-250:]}"])
