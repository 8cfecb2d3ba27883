"""How far each part is from what this machine could do: operations and bytes at measured rates.

The floor of a part is the longer of two times: its operations at the rate of a large matrix
product, and the bytes that it cannot avoid reading or writing at the rate of a large copy.
"""

from __future__ import annotations

from math import prod
from statistics import median
from typing import Any

import torch

from benchmarks.bench import Bench, describe_case
from benchmarks.growth import NETWORK
from benchmarks.timing import alternate, median_parts, network_seconds, timed
from napari_sparseseg.canonical import ModelSpace
from napari_sparseseg.segmenter import Segmenter

CASE = "planning-ct"
_SIZE = 2048
_COPIED = 2**28  # bytes, far beyond any cache
_TRIALS = 10


def measure(bench: Bench) -> dict[str, Any]:
    """Measure both rates, then the parts of the default run against them."""
    segmenter = Segmenter(bench.sparse, bench.device)
    case = bench.case(CASE)
    rates = {
        "operations": matrix_rate(bench.device, segmenter.dtype),
        "bytes": copy_rate(bench.device),
    }
    results = [
        result
        for _, _, result in alternate(
            {CASE: lambda: segmenter.segment(case.volume)}, bench.repeats, bench.device
        )
    ]
    parts = median_parts([result.report for result in results])
    work = work_of_parts(segmenter, results[0].report, case.volume)
    seconds = {
        "preprocess": parts["preprocess"],
        NETWORK: network_seconds(parts),
        "restore": parts["restore"],
    }
    return {
        "volume": describe_case(case),
        "precision": segmenter.precision,
        "rates": rates,
        "parts": {name: floor_of(work[name], seconds[name], rates) for name in seconds},
    }


def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """Return the operations per second of a 2048^3 matrix product."""
    a, b = (torch.rand(_SIZE, _SIZE, device=device).to(dtype) for _ in range(2))
    torch.mm(a, b)
    return 2 * _SIZE**3 / median(timed(lambda: torch.mm(a, b), device)[0] for _ in range(_TRIALS))


def copy_rate(device: str) -> float:
    """Return the bytes per second that a copy reads and writes, both counted."""
    source = torch.zeros(_COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    return (
        2 * _COPIED / median(timed(lambda: target.copy_(source), device)[0] for _ in range(_TRIALS))
    )


def work_of_parts(segmenter: Segmenter, report: dict[str, Any], volume: Any) -> dict[str, Any]:
    """Return the operations and unavoidable bytes of each part of a run.

    The way to the model grid reads the scan and writes its image in float32. The network reads
    its weights once and the image, and writes class probabilities in its own precision where
    there is tissue. The way back reads those and writes a byte for each voxel of the scan.
    """
    config, width = segmenter.network.config, segmenter.dtype.itemsize
    image = 4 * prod(ModelSpace.of(volume, segmenter.info.spacing).shape)
    tissue = report["tokens"]["total"] - report["tokens"]["air"]
    scores = tissue * config.patch**3 * config.classes * width
    weights = sum(p.numel() * p.element_size() for p in segmenter.network.parameters())
    return {
        "preprocess": {"operations": 0.0, "bytes": volume.data.nbytes + image},
        NETWORK: {"operations": 2e9 * report["gmacs"]["run"], "bytes": weights + image + scores},
        "restore": {"operations": 0.0, "bytes": scores + volume.data.size},
    }


def floor_of(work: dict[str, float], seconds: float, rates: dict[str, float]) -> dict[str, float]:
    """Return a part's work, its seconds, its floor, and how many times the floor it takes."""
    floor = max(work[kind] / rates[kind] for kind in rates)
    return {
        **work,
        "seconds": seconds,
        "floor": round(floor, 6),
        "times": round(seconds / floor, 2),
    }
