"""Tests of the project as evidence: one row for each, with the sentences that it met."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.torture.rows import Row
from benchmarks.torture.torture import Torture

REPOSITORY = Path(__file__).parents[2]


def tested(torture: Torture, *patterns: str) -> Iterator[Row]:
    """Run tests in a process of their own, and tell how each ended.

    A test that passed counts as refused where a sentence for users was made in it, and else as
    handled; one that failed is a defect, and one that was left out does not count.

    Parameters
    ----------
    torture : Torture
        Where to work.
    *patterns : str
        Test files, as patterns below the folder ``tests``.
    """
    files = sorted({file for pattern in patterns for file in (REPOSITORY / "tests").glob(pattern)})
    out = torture.folder / "endings.jsonl"
    out.unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "pytest", "-q", "--no-xvfb", "-p", "no:cacheprovider",
        "-p", "benchmarks.torture.listening", f"--endings={out}", *map(str, files),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    if torture.data is not None:
        environment["SPARSESEG_DATA"] = str(torture.data)
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE)
    lines = out.read_text().splitlines() if out.exists() else []
    yield from rows_of([json.loads(line) for line in lines])
    if done.returncode not in (0, 1) or not lines:
        end = done.stdout.decode(errors="replace")[-200:]
        yield Row("tests that could not be run", defects=[f"exit code {done.returncode}: {end}"])


def rows_of(endings: list[dict[str, Any]]) -> list[Row]:
    """Return one row for each test of each file, its parameters counted together."""
    rows: dict[tuple[str, str], Row] = {}
    for ending in endings:
        if ending["outcome"] == "skipped":
            continue
        words = ending["test"].removeprefix("test_").replace("_", " ")
        row = rows.setdefault((ending["file"], ending["test"]), Row(words))
        if ending["outcome"] == "failed":
            row.defects.append(ending["problem"][:300])
        elif ending["messages"]:
            row.refused += 1
            row.keep(ending["messages"][0])
        else:
            row.handled += 1
    return list(rows.values())
