"""What the tests of the engine share: a tiny model with fixed weights, and scans made for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from cli_checks import LIA, Answer, Sparseseg

from napari_sparseseg.cli import main
from napari_sparseseg.files import write_volume
from napari_sparseseg.means import Means
from napari_sparseseg.network import CompletionConfig, DecoderConfig, NetworkConfig, SparseUNETR
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.session import Session
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import ModelInfo, register_model, save_model

TINY = NetworkConfig(
    classes=5,
    window=(32, 32, 32),
    dim=32,
    depth=4,
    heads=2,
    stages=(1, 2, 3),
    completion=CompletionConfig(24, 1, 2),
    decoder=DecoderConfig(4, 2, "channel"),
    air_level=0.06,
    air_fraction=0.02,
)


DEFAULT_SETTINGS = {"stp": 0.3, "dense": 1.0, "dtop": 0.095, "svit": 0.1, "apformer": 0.2}
"""Methods that there is a tiny model of, and the setting it starts with."""

OPEN = replace(TINY.decoder, detail="open", context="open")
"""The decoder of ``tiny-open``, which is STP with active blocks at two levels."""


def tiny_network(sparsifier: str = "stp", decoder: DecoderConfig = TINY.decoder) -> SparseUNETR:
    """Build the tiny network with fixed weights, strong enough to give a varied label map."""
    kind: Literal["assembly", "preserve"] = (
        "assembly" if sparsifier in ("stp", "dense") else "preserve"
    )
    completion = replace(TINY.completion, kind=kind)
    config = replace(TINY, sparsifier=sparsifier, completion=completion, decoder=decoder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SparseUNETR(config)
        for parameter in network.parameters():
            parameter.data += 0.15 * torch.randn_like(parameter)
    return network


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute in one thread: a tiny network gains nothing from more, which wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelInfo]:
    """Write and register ``tiny-stp``, ``tiny-dense`` and so on, which work at 1 mm."""
    folder = tmp_path_factory.mktemp("weights")
    infos = {}
    networks = {sparsifier: tiny_network(sparsifier) for sparsifier in DEFAULT_SETTINGS}
    for name, network in (networks | {"open": tiny_network(decoder=OPEN)}).items():
        method = network.config.sparsifier
        info = ModelInfo(
            name=f"tiny-{name}",
            title=f"Tiny {name}",
            method=method,
            modality="made-up scans",
            spacing=1.0,
            classes=("background", "shell", "core", "spot", "rest"),
            colors=("#000000", "#f2f2f2", "#cd6d4f", "#7a3fd1", "#e8d9a0"),
            default_setting=DEFAULT_SETTINGS[method],
            network=network.config.to_dict(),
            license="Apache-2.0",
            path=folder / f"tiny-{name}.safetensors",
            card=f"tiny-{name}.md",
        )
        save_model(network.state_dict(), info)
        register_model(info)
        infos[info.name] = info
    return infos


@pytest.fixture
def registry(tiny_models: dict[str, ModelInfo], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the tiny models the shipped ones; gives their folder."""
    folder = tiny_models["tiny-stp"].path.parent
    monkeypatch.setenv("SPARSESEG_WEIGHTS", str(folder))
    return folder


@pytest.fixture(scope="session")
def segmenter(tiny_models: dict[str, ModelInfo]) -> Segmenter:
    """Load the tiny model in float32 on the CPU."""
    return Segmenter(tiny_models["tiny-stp"], device="cpu", precision="float32")


@pytest.fixture(scope="session")
def one_by_one(tiny_models: dict[str, ModelInfo]) -> Segmenter:
    """Load the same model for a run in which each window is a call of its own."""
    means = Means(pack_windows=False)
    return Segmenter(tiny_models["tiny-stp"], device="cpu", precision="float32", means=means)


@pytest.fixture(scope="session")
def make_scan() -> Callable[..., Volume]:
    """Give a function that makes a scan: an uneven ellipsoid in air, unlike any mirror image."""

    def make(
        shape: tuple[int, int, int] = (40, 36, 33),
        affine: np.ndarray | None = None,
        margin: int = 3,
    ) -> Volume:
        axes = [np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape]
        x, y, z = np.meshgrid(*axes, indexing="ij")
        reach = [max(0.2, 1 - 2 * margin / n) for n in shape]
        inside = (x / reach[0]) ** 2 + (y / reach[1]) ** 2 + (z / reach[2]) ** 2 < 1
        waves = np.sin(5 * x + 1) + np.cos(7 * y * x) + np.sin(4 * z + 2 * y)
        noise = np.random.default_rng(1).normal(size=shape)
        data = np.where(inside, 300 + 80 * waves + 20 * noise, 0).astype(np.float32)
        return Volume(data, np.eye(4) if affine is None else affine, "scan")

    return make


@pytest.fixture(scope="session")
def session(segmenter: Segmenter, make_scan: Callable[..., Volume]) -> Iterator[Session]:
    """Open a scan that takes four windows, two of them side by side along two axes."""
    with segmenter.open(make_scan((56, 48, 24))) as session:
        assert len(session.places) == 4
        yield session


@pytest.fixture
def sparseseg(
    registry: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Sparseseg:
    """Give the command, run in this process, with the tiny models as the shipped ones."""

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["sparseseg", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return Answer(left.value.code or 0, out, err)

    return call


@pytest.fixture
def scan(make_scan: Callable[..., Volume], tmp_path: Path) -> Path:
    """Write a scan of 20 x 18 x 16 mm, stored in LIA orientation."""
    path = tmp_path / "scan.nii.gz"
    write_volume(make_scan((20, 18, 16), LIA, margin=1), path)
    return path
