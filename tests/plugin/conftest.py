"""What the plugin's tests share: tiny models, small scans, and a gate that holds a run."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_sparseseg.volume import Volume

CLASSES = ("background", "shell", "core", "rim")
COLORS = ("#000000", "#cd6d4f", "#1fa35c", "#66b2ff")
WAIT = 120_000
"""Milliseconds to wait for a run: the machine may be busy with something else."""


METHOD_SETTINGS = {
    "dense": 1.0, "stp": 0.5, "edge": 0.5, "dtop": 0.5, "svit": 0.5, "apformer": 0.4,
}  # fmt: skip
"""Every method, with a setting at which the tiny models leave tokens out."""


@pytest.fixture(autouse=True)
def fresh_preferences() -> Iterator[None]:
    """Keep what one test has set from the docks of the next: napari remembers it in the process."""
    yield
    settings: Any = sys.modules.get("napari.settings")
    if settings is not None:
        settings._clear_plugin_settings_cache()


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a registry of tiny untrained models: one of every method, and of a second task two."""
    folder = tmp_path_factory.mktemp("weights")
    for method in METHOD_SETTINGS:
        write_model(folder, f"brain-mr-{method}", "Tiny", method)
    for method in ("dense", "dtop"):
        write_model(folder, f"other-mr-{method}", "Tiny again", method)
    return folder


def write_model(folder: Path, name: str, title: str, method: str) -> None:
    """Write and register a tiny untrained model."""
    import torch

    from napari_sparseseg.network import (
        CompletionConfig,
        DecoderConfig,
        NetworkConfig,
        SparseUNETR,
    )
    from napari_sparseseg.weights import ModelInfo, register_model, save_model

    completion = "assembly" if method in ("stp", "edge") else "preserve"
    config = NetworkConfig(
        classes=len(CLASSES),
        window=(32, 32, 32),
        dim=32,
        depth=4,
        heads=2,
        stages=(1, 2, 3),
        sparsifier=method,
        completion=CompletionConfig(dim=24, depth=1, heads=2, kind=completion),
        decoder=DecoderConfig(feature_size=4, finest=2, norm="channel"),
        air_level=0.06,
        air_fraction=0.02,
    )
    torch.manual_seed(1)
    network = SparseUNETR(config)
    with torch.no_grad():  # untrained weights are so small that all voxels get one class
        for key, weights in network.named_parameters():
            weights.add_(0.2 * torch.randn_like(weights))
            if key.endswith("present.bias"):  # an untrained head is never sure of a class
                weights[0] += 6
    info = ModelInfo(
        name=name,
        title=f"{title}, {method}",
        method=method,
        modality="synthetic",
        spacing=4.0,
        classes=CLASSES,
        colors=COLORS,
        default_setting=METHOD_SETTINGS[method],
        network=config.to_dict(),
        license="Apache-2.0",
        path=folder / f"{name}.safetensors",
    )
    save_model(network.state_dict(), info)
    register_model(info)


@pytest.fixture
def weights(tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the tiny models the registry."""
    monkeypatch.setenv("SPARSESEG_WEIGHTS", str(tiny_weights))
    return tiny_weights


def ball(shape: tuple[int, int, int] = (60, 54, 50), seed: int = 0) -> np.ndarray:
    """Make a noisy ball of tissue in air."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1.2, 1.2, n) for n in shape), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    tissue = (radius < 1) * (60 + 40 * (radius < 0.5) + rng.normal(0, 6, shape))
    return np.clip(tissue, 0, None).astype(np.float32)


@pytest.fixture
def scan() -> Volume:
    """Make a small anisotropic scan that fits in a few windows of the tiny models."""
    return Volume(ball(), np.diag([2.0, 2.5, 3.0, 1.0]), "ball")


class Gate:
    """Holds a run, in its own thread, when it reports a certain step.

    Parameters
    ----------
    runner : Runner
        Whose run.
    step : str
        What it reports.
    """

    def __init__(self, runner: Any, step: str) -> None:
        self.step = step
        self.reached = threading.Event()
        self._open = threading.Event()
        runner.progressed.connect(self._on_progress, type=Qt.ConnectionType.DirectConnection)

    def open(self) -> None:
        """Let the run go on, and all later ones through."""
        self._open.set()

    def _on_progress(self, done: int, total: int, what: str) -> None:
        if what == self.step:
            self.reached.set()
            self._open.wait(60)


@pytest.fixture
def hold() -> Any:
    """Give a function that makes gates; all are opened in the end, so that no thread is stuck."""
    gates: list[Gate] = []

    def make(runner: Any, step: str) -> Gate:
        gates.append(Gate(runner, step))
        return gates[-1]

    yield make
    for gate in gates:
        gate.open()


@pytest.fixture
def dock_of(
    weights: Path, make_napari_viewer_proxy: Callable[..., Any]
) -> Callable[..., tuple[Any, Any]]:
    """Give a function that opens a real window with the dock, through napari's plugin system."""
    from napari_sparseseg.plugin.dock import open_dock

    def make(**kwargs: Any) -> tuple[Any, Any]:
        viewer = make_napari_viewer_proxy(**kwargs)
        return viewer, open_dock(viewer)

    return make
