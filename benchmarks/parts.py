"""Where the default run spends its time: its parts, and the operators under them."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch.profiler import ProfilerActivity, profile

from benchmarks.bench import Bench, describe_case
from benchmarks.timing import alternate, median_parts
from napari_sparseseg.segmenter import Segmenter

CASES = ("template-256", "brain-t1", "planning-ct")
"""The first is the scan that the figures of before were taken on."""

_OPERATORS = 12


def measure(bench: Bench) -> dict[str, Any]:
    """Time the parts on every scan, and profile the operators on the last."""
    segmenter = Segmenter(bench.sparse, bench.device)
    rows = {}
    for name in CASES:
        case = bench.case(name)
        action = {name: partial(segmenter.segment, case.volume)}
        rounds = alternate(action, bench.repeats, bench.device)
        parts = median_parts([result.report for _, _, result in rounds])
        rows[name] = {"volume": describe_case(case), "seconds": parts, "shares": shares(parts)}
    return {"cases": rows, "operators_of": name, "operators": _operators(bench, segmenter, name)}


def shares(parts: dict[str, float]) -> dict[str, float]:
    """Return the share of each part in the sum of all."""
    known = {key: seconds for key, seconds in parts.items() if key != "total"}
    return {key: round(seconds / sum(known.values()), 4) for key, seconds in known.items()}


def _operators(bench: Bench, segmenter: Segmenter, name: str) -> list[dict[str, Any]]:
    """Return the operators with the most time of their own, as shares of all operators."""
    on_gpu = bench.device.startswith("cuda")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    volume = bench.case(name).volume
    with profile(activities=activities) as record:
        segmenter.segment(volume)
    events = record.key_averages()
    own = {e.key: e.self_device_time_total if on_gpu else e.self_cpu_time_total for e in events}
    calls = {e.key: e.count for e in events}
    whole = sum(own.values())
    ranked = sorted(own, key=lambda key: -own[key])[:_OPERATORS]
    return [
        {"name": key, "share": round(own[key] / whole, 4), "calls": calls[key]} for key in ranked
    ]
