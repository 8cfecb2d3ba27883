"""The network alone, from a bare checkout with torch: ``python -m benchmarks.network``.

Random weights, and a synthetic window with a ball of tissue in air; the dense twin against the
sparse network at several keep ratios, in turn. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.machine import describe_machine
from benchmarks.timing import alternate, ratio, spreads
from napari_sparseseg.devices import PRECISIONS, resolve_device, resolve_precision
from napari_sparseseg.network import (
    CompletionConfig,
    DecoderConfig,
    NetworkConfig,
    Output,
    SparseUNETR,
)
from napari_sparseseg.weights import find_model

RATIOS = (1.0, 0.7, 0.5, 0.3, 0.2, 0.1)
MODEL = "brain-mr-stp"
DENSE = "dense twin"
SIZES = ("shipped", "base")


def measure(device: str, precision: str, repeats: int, size: str = "shipped") -> dict[str, Any]:
    """Time one window.

    Parameters
    ----------
    device, precision : str
        As of a Segmenter.
    repeats : int
        Timed rounds.
    size : {"shipped", "base"}
        Architecture of the shipped model, or ViT-B with the published decoder at patch 8.
    """
    device, dtype = resolve_device(device), resolve_precision(precision, resolve_device(device))
    config = _config(size)
    dense = _network(replace(config, sparsifier="dense"), dtype, device)
    sparse = _network(replace(config, sparsifier="stp"), dtype, device)
    window = ball_of_tissue(config.window).to(device)
    actions = {DENSE: partial(_run, dense, window, 1.0)}
    actions |= {f"{r:g}": partial(_run, sparse, window, r) for r in RATIOS}
    gmacs: dict[str, float] = {}

    def note(name: str, output: Output) -> None:
        gmacs[name] = (dense if name == DENSE else sparse).macs(output).total / 1e9

    seconds = spreads(alternate(actions, repeats, device), note)
    return {
        "size": size,
        "window": list(config.window),
        "precision": str(dtype).removeprefix("torch."),
        "rows": [
            {
                "name": name,
                "seconds": values,
                "gmacs": round(gmacs[name], 3),
                "dense_over_this": ratio(seconds[DENSE], values),
            }
            for name, values in seconds.items()
        ],
    }


def ball_of_tissue(window: tuple[int, int, int]) -> Tensor:
    """Return ``(1, 1, x, y, z)``: noise in a ball that spans the window, exact 0 around it."""
    axes = (torch.linspace(-1, 1, n) for n in window)
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    noise = torch.rand(window, generator=torch.Generator().manual_seed(0))
    return ((0.3 + 0.7 * noise) * (x**2 + y**2 + z**2 < 1))[None, None]


def _config(size: str) -> NetworkConfig:
    shipped = NetworkConfig.from_dict(find_model(MODEL).network)
    if size == "shipped":
        return shipped
    return replace(
        shipped, dim=768, depth=12, heads=12, stages=(3, 6, 9), options={},
        completion=CompletionConfig(), decoder=replace(DecoderConfig(), norm="channel"),
    )  # fmt: skip


def _network(config: NetworkConfig, dtype: torch.dtype, device: str) -> SparseUNETR:
    torch.manual_seed(0)
    return SparseUNETR(config).eval().to_precision(dtype).to(device)


@torch.inference_mode()
def _run(network: SparseUNETR, window: Tensor, setting: float) -> Output:
    return network.finish(network.prepare(window), setting)


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--device", default="auto")
    options.add_argument("--precision", choices=PRECISIONS, default="auto")
    options.add_argument("--repeats", type=int, default=10)
    options.add_argument("--size", choices=SIZES, default="shipped")
    options.add_argument("--out", type=Path, help="JSON file to write as well")
    chosen = options.parse_args()
    result = {
        "machine": describe_machine(resolve_device(chosen.device)),
        **measure(chosen.device, chosen.precision, chosen.repeats, chosen.size),
    }
    text = json.dumps(result, indent=1)
    if chosen.out:
        chosen.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
