"""How fast the slider is: a re-run of an open session against three kinds of full run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.bench import Bench, describe_case
from benchmarks.fresh import on_disk, press
from benchmarks.targets import PREVIEW, RERUN
from benchmarks.timing import alternate, median_parts, ratio, spread, timed
from benchmarks.volumes import Case
from benchmarks.wall import CASES
from napari_sparseseg.segmenter import Segmenter, Session

RERUN_RATIO = 0.3
FULL_RUNS = {
    "first_press": "first press in a fresh process, every import included",
    "from_disk": "full run, the model loaded from disk",
    "in_memory": "full run, the model in memory",
}
"""What a re-run is compared with, by name."""


def measure(bench: Bench) -> dict[str, Any]:
    """Time re-run, full runs and preview on every scan."""
    return {name: _measure_case(bench, bench.case(name)) for name in CASES}


def _measure_case(bench: Bench, case: Case) -> dict[str, Any]:
    segmenter = Segmenter(bench.sparse, bench.device)
    volume = case.volume
    seconds: dict[str, list[float]] = {name: [] for name in (*FULL_RUNS, "rerun")}
    parts: dict[str, list[dict[str, Any]]] = {"in_memory": [], "rerun": []}
    with on_disk(case) as folder, segmenter.open(volume) as session:
        session.run()
        actions: dict[str, Callable[[], Any]] = {
            "first_press": partial(press, folder, bench),
            "from_disk": lambda: Segmenter(bench.sparse, bench.device).segment(volume),
            "in_memory": lambda: segmenter.segment(volume),
            "rerun": partial(session.run, RERUN_RATIO),
        }
        for name, taken, result in alternate(actions, bench.repeats, bench.device):
            # what starting Python and reading the file took is not the press's
            seconds[name].append(result["seconds"] if name == "first_press" else taken)
            if name in parts:
                parts[name].append(result.report)
        preview = spread(_previews(session, bench))
    spreads = {name: spread(values) for name, values in seconds.items()}
    verdicts = {name: RERUN.judge(ratio(spreads[name], spreads["rerun"])) for name in FULL_RUNS}
    return {
        "volume": describe_case(case),
        "seconds": spreads | {"preview": preview},
        "parts": {name: median_parts(reports) for name, reports in parts.items()},
        "verdicts": verdicts | {"preview": PREVIEW.judge(1000 * preview["median"])},
    }


def _previews(session: Session, bench: Bench) -> list[float]:
    """Drag over the whole range, after one preview that does not count."""
    session.preview(1.0)
    ratios = [float(r) for r in np.linspace(0.05, 1.0, 20)]
    return [timed(partial(session.preview, r), bench.device)[0] for r in ratios]
