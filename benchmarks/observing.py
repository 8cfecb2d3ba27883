"""What the trace costs: the same runs with and without it, in turn."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks.bench import Bench, describe_case
from benchmarks.targets import TRACE
from benchmarks.timing import alternate, ratio, spreads
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
        seconds = spreads(alternate(actions, _ROUNDS * bench.repeats, bench.device))
        rows[name] = {
            "volume": describe_case(case),
            "seconds": seconds,
            "verdicts": [TRACE.judge(ratio(seconds["on"], seconds["off"]))],
        }
    return rows
