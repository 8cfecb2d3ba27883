"""How time grows: phantoms of several sizes and several shares of tissue, and a line through them.

The claim: the time in the network is linear in the tokens that ran.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.bench import Bench
from benchmarks.targets import LINEAR
from benchmarks.timing import alternate, median_parts, network_seconds, spread
from benchmarks.volumes import Case, Shape, tile, tissue_share
from napari_sparseseg.segmenter import Segmenter

SIZES: tuple[tuple[Shape, int], ...] = (
    ((1, 1, 1), 1),
    ((2, 1, 1), 2),
    ((2, 2, 1), 4),
    ((2, 2, 2), 8),
)
"""Places and heads in them: four sizes, full."""

SHARES: tuple[tuple[Shape, int], ...] = tuple(((2, 2, 1), filled) for filled in (1, 2, 3, 4))
"""Four shares of tissue at one size."""

NETWORK, TOTAL = "network", "total"


def measure(bench: Bench) -> dict[str, Any]:
    """Time a default run on every phantom and fit each part."""
    base = bench.case("head-256")
    segmenter = Segmenter(bench.sparse, bench.device)
    rows = [
        _measure_phantom(bench, segmenter, tile(base, copies, filled))
        for copies, filled in dict.fromkeys((*SIZES, *SHARES))
    ]
    tokens = [row["token_blocks"] for row in rows]
    fits = {
        part: fit_line(tokens, [row["parts"][part] for row in rows]) for part in rows[0]["parts"]
    }
    return {"rows": rows, "fits": fits, "verdicts": [LINEAR.judge(fits[NETWORK]["r2"])]}


def _measure_phantom(bench: Bench, segmenter: Segmenter, case: Case) -> dict[str, Any]:
    seconds, reports, token_blocks = [], [], 0
    action = {case.name: partial(segmenter.segment, case.volume)}
    for _, taken, result in alternate(action, max(2, bench.repeats // 2), bench.device):
        seconds.append(taken)
        reports.append(result.report)
        token_blocks = int(result.trace.ran.sum())
    parts = median_parts(reports)
    parts[NETWORK] = round(network_seconds(parts), 5)
    parts[TOTAL] = spread(seconds)["median"]
    return {
        "name": case.name,
        "shape": list(case.volume.shape),
        "tissue_share": round(tissue_share(case), 4),
        "tokens": reports[0]["tokens"],
        "token_blocks": token_blocks,
        "gmacs": reports[0]["gmacs"]["run"],
        "seconds": spread(seconds),
        "parts": parts,
    }


def fit_line(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """Fit ``y = intercept + slope * x`` by least squares.

    Returns
    -------
    dict
        "slope", "intercept" and "r2", the share of the variance of y that the line explains (0
        where y does not vary).
    """
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    away = xs - xs.mean()
    slope = float(away @ ys / (away @ away))
    intercept = float(ys.mean() - slope * xs.mean())
    rest = float(((ys - intercept - slope * xs) ** 2).sum())
    spread_of_y = float(((ys - ys.mean()) ** 2).sum())
    return {
        "slope": slope,
        "intercept": intercept,
        "r2": round(1 - rest / spread_of_y, 5) if spread_of_y else 0.0,
    }
