"""A failure that is planted: a network that finds a small spot, and a rule that leaves it out.

The scan is a block of tissue with a bright spot of 4 x 4 x 4 voxels inside one token. A tiny
network learns this one scan in a few seconds. Its sparsifier is then made to leave out two tokens:
the one that holds the spot, and one at the top that is a quarter air. Those of DToP exit as shell;
those of STP are pruned, and their patches drawn without a look at the image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from napari_sparseseg.intensity import normalise
from napari_sparseseg.network import (
    CompletionConfig,
    DecoderConfig,
    NetworkConfig,
    SparseUNETR,
)
from napari_sparseseg.network.sparsifiers import Decision, Scores
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import ModelInfo, save_model

CLASSES = ("background", "shell", "spot")
FIRST = (5, 3, 6)
"""First voxel of the tissue, which is also that of a token."""
SPOT = tuple(slice(a + b, a + b + 4) for a, b in zip(FIRST, (18, 18, 10), strict=True))
SPOT_ROW, TOP_ROW = 25, 2
"""Places among the 27 tokens with tissue: the last row's middle, the first row's top."""

_MOST_STEPS = 300
_WRONG = 10  # voxels of the scan at which it is learned
_HOUNSFIELD = (-1000.0, 0.0, 250.0)  # by class
_DECODER = DecoderConfig(4, 2, "channel")
_CONFIG = NetworkConfig(
    classes=len(CLASSES),
    window=(32, 32, 32),
    dim=32,
    depth=4,
    heads=2,
    stages=(1, 2, 3),
    sparsifier="dtop",
    completion=CompletionConfig(24, 1, 2, "preserve"),
    decoder=_DECODER,
    air_level=0.06,
    air_fraction=0.02,
)


_CONFIGS = {
    "dtop": _CONFIG,
    "stp": replace(_CONFIG, sparsifier="stp", decoder=replace(_DECODER, detail="open")),
}


def true_labels() -> np.ndarray:
    """22 planes of tissue along S, 24 along the other axes."""
    labels = np.zeros((34, 30, 35), dtype=np.uint8)
    x, y, z = FIRST
    labels[x : x + 24, y : y + 24, z : z + 22] = 1
    labels[SPOT] = 2
    return labels


def planted_scan() -> Volume:
    """The scan in Hounsfield units, 1 mm voxels, off the origin."""
    noise = np.random.default_rng(0).normal(0, 8, true_labels().shape)
    affine = np.eye(4)
    affine[:3, 3] = (-20.0, 7.0, 100.0)
    data = np.array(_HOUNSFIELD)[true_labels()] + noise
    return Volume(data.astype(np.float32), affine, "planted")


def trained_model(folder: Path, method: str = "dtop") -> ModelInfo:
    """Teach a tiny network the scan, at setting 1, and write it."""
    window = tuple(slice(first, first + 32) for first in FIRST)
    after = [(0, 8)] * 3
    voxels = np.pad(planted_scan().data, after, constant_values=_HOUNSFIELD[0])[window]
    labels = torch.from_numpy(np.pad(true_labels(), after)[window].astype(np.int64))[None]
    image = normalise(torch.from_numpy(voxels), "ct")[None, None]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SparseUNETR(_CONFIGS[method]).train()
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
        for _ in range(_MOST_STEPS):
            logits = network(image, 1.0)
            if int((logits.argmax(dim=1) != labels).sum()) <= _WRONG:
                break
            loss = F.cross_entropy(logits, labels, weight=torch.tensor([1, 1, 20.0]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    info = ModelInfo(
        name=f"planted-{method}",
        title="Planted",
        method=method,
        modality="made-up scans",
        spacing=1.0,
        classes=CLASSES,
        colors=("#000000", "#cd6d4f", "#1fa35c"),
        default_setting=0.5,
        network=_CONFIGS[method].to_dict(),
        license="Apache-2.0",
        intensity="ct",
        path=folder / f"planted-{method}.safetensors",
    )
    save_model(network.state_dict(), info)
    return info


def leaving_out(*rows: int, exits: bool = True) -> Callable[[int, Scores, float], Decision]:
    """Make a rule that leaves out these tokens at the first stage, and no others.

    They exit as shell, or are pruned.
    """

    def decide(stage: int, scores: Scores, setting: float) -> Decision:
        keep = torch.ones(len(scores.importance), dtype=torch.bool)
        if stage == 0 and setting < 1:
            keep[list(rows)] = False
        return Decision(keep, label=torch.ones(len(keep), dtype=torch.long) if exits else None)

    return decide
