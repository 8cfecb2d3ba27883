"""Which working spacing: ``python -m benchmarks.spacing --data DIR --out FILE.json``.

Two figures for each spacing: the best Dice that any network working at it could reach (the
held-out label maps brought to that spacing as class shares and back, which is what a perfect
network would answer), and the seconds of one untrained network on a window that holds a brain,
with full-resolution convolutions (finest 1, as published) and without (finest 2).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_sparseseg.analysis.metrics import dice_per_class
from napari_sparseseg.canonical import ModelSpace
from napari_sparseseg.devices import resolve_precision
from napari_sparseseg.files import read_volume
from napari_sparseseg.network import CompletionConfig, DecoderConfig, NetworkConfig, SparseUNETR
from napari_sparseseg.scores import PatchScores
from napari_sparseseg.training.anatomy import STRUCTURES, class_of_label

SPACINGS = (1.0, 1.5, 2.0, 3.0)
BRAIN = (160, 192, 160)
"""Millimetres, right-left, front-back, up-down, that hold an adult brain."""


def ceiling(file: Path, spacing: float) -> list[float | None]:
    """Return the Dice of each structure after the way to a spacing and back."""
    scan = read_volume(file)
    truth = class_of_label(np.rint(scan.data).astype(np.int64))
    space = ModelSpace.of(scan, spacing)
    shares = torch.stack([space.to_model(truth == c).bfloat16() for c in range(len(STRUCTURES))])
    return dice_per_class(space.labels_to_volume(PatchScores.whole(shares)), truth, len(STRUCTURES))


def window_seconds(spacing: float, finest: int, repeats: int) -> dict[str, Any]:
    """Time one window at keep ratio 1, half of it air; median and range."""
    window = tuple(int(np.ceil(mm / spacing / 16)) * 16 for mm in BRAIN)
    config = NetworkConfig(
        classes=len(STRUCTURES), window=window, dim=256, depth=8, heads=4, stages=(2, 4, 6),
        completion=CompletionConfig(192, 1, 4), decoder=DecoderConfig(16, finest, "channel"),
        air_level=0.06, air_fraction=0.02,
    )  # fmt: skip
    network = SparseUNETR(config).eval().to_precision(resolve_precision("auto", "cpu"))
    image = torch.zeros(1, 1, *window)
    image[..., : window[2] // 2] = 1.0
    seconds = []
    with torch.inference_mode():
        for _ in range(repeats + 1):
            start = time.perf_counter()
            network(image)
            seconds.append(time.perf_counter() - start)
    timed = seconds[1:]
    return {
        "window": window,
        "median": round(float(np.median(timed)), 4),
        "min": round(min(timed), 4),
        "max": round(max(timed), 4),
    }


def main() -> None:
    """Measure every spacing and write the JSON."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--repeats", type=int, default=5)
    chosen = options.parse_args()
    files = [chosen.data / "brain-labels" / f"training_seg_{n}.nii.gz" for n in ("05", "10")]
    rows = []
    for spacing in SPACINGS:
        dice = np.array([ceiling(file, spacing) for file in files], dtype=np.float64)
        row: dict[str, Any] = {
            "spacing": spacing,
            "ceiling_mean": round(float(np.nanmean(dice)), 4),
            "ceiling_worst_structure": round(float(np.nanmean(dice, axis=0).min()), 4),
        }
        for finest in (1, 2):
            row[f"seconds_finest_{finest}"] = window_seconds(spacing, finest, chosen.repeats)
        rows.append(row)
        print(json.dumps(row), flush=True)
    chosen.out.write_text(json.dumps({"files": [f.name for f in files], "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
