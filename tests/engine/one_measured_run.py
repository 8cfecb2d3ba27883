"""One run in a process of its own: prints what its report says of its memory as JSON.

``python one_measured_run.py '{"model": ..., "shape": ..., "spacing": ..., ...}'``
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import torch

from napari_sparseseg.means import Means
from napari_sparseseg.memory import GB
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.volume import Volume


def full_scan(shape: tuple[int, int, int], spacing: float) -> Volume:
    """Make a scan that is tissue up to its edges, int16, air below 0 as in a CT."""
    x, y, z = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    data = np.empty(shape, np.int16)
    rng = np.random.default_rng(0)
    for k, height in enumerate(z):
        inside = (x[:, None] / 0.97) ** 2 + (y / 0.97) ** 2 + height**2 < 1.4
        waves = 300 * np.sin(9 * x[:, None] + 5 * height) * np.cos(8 * y)
        data[..., k] = np.where(inside, waves + rng.normal(100, 40, shape[:2]), -1000)
    return Volume(data, np.diag([spacing] * 3 + [1.0]), "scan")


def measure(
    model: str,
    shape: tuple[int, int, int],
    spacing: float,
    precision: str = "float32",
    setting: float | None = None,
    means: dict[str, bool] | None = None,
    budget: float | None = None,
) -> dict[str, Any]:
    """Run once; the budget is a share of what the run would take without one."""
    torch.set_num_threads(1)
    switches = Means(**(means or {}))
    scan = full_scan(shape, spacing)
    memory_gb = None
    if budget is not None:
        with Segmenter(model, "cpu", precision, means=switches).open(scan) as session:
            memory_gb = budget * session.planning.facts()["estimate_mb"] * 2**20 / GB
    segmenter = Segmenter(model, "cpu", precision, means=switches, memory_gb=memory_gb)
    with segmenter.open(scan) as session:
        result = session.run(setting)
    return {**result.report["memory"], "windows": len(session.places)}


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
