"""Peak memory: of a run of each arm, and of a scan as large as planning CTs get."""

from __future__ import annotations

from typing import Any

from benchmarks.arms import ARMS
from benchmarks.bench import Bench, describe_case
from benchmarks.fresh import on_disk, run
from benchmarks.targets import MEMORY, RESIDENT, SWAP
from benchmarks.volumes import Case
from benchmarks.wall import CASES

LARGE = "planning-ct-600"


def measure(bench: Bench) -> dict[str, Any]:
    """Run every arm on every scan, each in a process of its own."""
    return {name: _measure_case(bench, bench.case(name)) for name in CASES}


def _measure_case(bench: Bench, case: Case) -> dict[str, Any]:
    with on_disk(case) as folder:
        rows = {arm: run(folder, bench, arm) for arm in ARMS}
    share = rows["sparse"]["run"] / rows["dense_twin"]["run"]
    return {"volume": describe_case(case), "arms": rows, "verdicts": [MEMORY.judge(share)]}


def measure_large(bench: Bench) -> dict[str, Any]:
    """Run the sparse model on the largest scan in a fresh process."""
    case = bench.case(LARGE)
    with on_disk(case) as folder:
        row = run(folder, bench, "sparse")
    verdicts = [RESIDENT.judge(row["peak"] / 2**10), SWAP.judge(row["swap"] / 2**10)]
    return {"volume": describe_case(case), **row, "verdicts": verdicts}
