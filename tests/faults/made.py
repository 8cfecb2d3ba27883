"""A model and a scan so small that a run takes a hundredth of a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import ModelInfo, register_model, save_model
from tests.network.conftest import make_network, small_config

LIA = np.array([[-1, 0, 0, 20], [0, 0, 1, -15], [0, -1, 0, 31], [0, 0, 0, 1.0]])


def make_model(folder: Path) -> ModelInfo:
    """Write a tiny model with fixed weights and register it; ``SPARSESEG_WEIGHTS`` finds it."""
    network = make_network(small_config())
    info = ModelInfo(
        name="tiny-stp",
        title="Tiny",
        method="stp",
        modality="made-up scans",
        spacing=1.0,
        classes=("background", "shell", "core", "rest"),
        colors=("#000000", "#f2f2f2", "#cd6d4f", "#7a3fd1"),
        default_setting=0.3,
        network=network.config.to_dict(),
        license="Apache-2.0",
        path=folder / "tiny-stp.safetensors",
        card="tiny-stp.md",
    )
    save_model(network.state_dict(), info)
    register_model(info)
    return info


def make_scan(shape: tuple[int, int, int] = (20, 18, 16), seed: int = 0) -> Volume:
    """Make an uneven ellipsoid in air."""
    axes = np.meshgrid(*(np.linspace(-1.1, 1.1, n) for n in shape), indexing="ij")
    inside = np.square(axes).sum(axis=0) < 1
    tissue = 300 + 80 * np.sin(5 * axes[0] + 1) + 60 * np.cos(4 * axes[2] + 2 * axes[1])
    noise = np.random.default_rng(seed).normal(scale=20, size=shape)
    return Volume(np.where(inside, tissue + noise, 0).astype(np.float32), LIA, "scan")


def make_segmenter(folder: Path) -> Segmenter:
    """Load the tiny model on the CPU."""
    return Segmenter(make_model(folder), device="cpu", precision="float32")
