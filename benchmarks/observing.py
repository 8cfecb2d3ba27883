"""What the trace costs: the same runs with and without it, in turn."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks.bench import Bench, describe_case
from benchmarks.targets import TRACE
from benchmarks.timing import alternate, ratio, spread
from benchmarks.wall import CASES
from napari_sparseseg.means import Means
from napari_sparseseg.segmenter import Segmenter

_ROUNDS = 3  # a difference of percents needs more rounds than one of factors


def measure(bench: Bench) -> dict[str, Any]:
    """Time full runs with the trace on and off."""
    means = {"on": Means(), "off": replace(Means(), trace=False)}
    loaded = {
        name: Segmenter(bench.sparse, bench.device, means=chosen) for name, chosen in means.items()
    }
    rows = {}
    for name in CASES:
        case = bench.case(name)
        actions = {key: partial(s.segment, case.volume) for key, s in loaded.items()}
        seconds: dict[str, list[float]] = {key: [] for key in actions}
        for key, taken, _ in alternate(actions, _ROUNDS * bench.repeats, bench.device):
            seconds[key].append(taken)
        spreads = {key: spread(values) for key, values in seconds.items()}
        rows[name] = {
            "volume": describe_case(case),
            "seconds": spreads,
            "verdicts": [TRACE.judge(ratio(spreads["on"], spreads["off"]))],
        }
    return rows
