"""Workers that tests share, and scans in which the smallest shipped model finds something."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.volume import Volume

from .client import CPU, MODEL, PATIENCE, Host

SHAPE = (36, 50, 34)
OBLIQUE = np.array(
    [[0.0, 0.96, -0.28, -20.0], [-1.0, 0.0, 0.0, 31.5], [0.0, 0.28, 0.96, 7.0], [0, 0, 0, 1]]
)


def make_scan(seed: int = 0, tiles: tuple[int, int, int] = (1, 1, 1)) -> Volume:
    """Make a dark tilted ellipsoid in uneven tissue; tiles repeat it, for a run that takes long."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    inside = (x / 0.68) ** 2 + (y / 0.68) ** 2 + ((z - 0.26 * y) / 0.51) ** 2 < 1
    tissue = 110 + 23 * np.sin(3 * x + 2 * y + 1) * np.cos(4 * z)
    noise = np.random.default_rng(seed).normal(scale=5, size=SHAPE)
    data = (np.where(inside, 65, tissue) + noise).astype(np.float32)
    return Volume(np.tile(data, tiles), OBLIQUE, f"scan {seed}")


@pytest.fixture(scope="session")
def scan() -> Volume:
    """Give a scan that takes a fraction of a second."""
    return make_scan()


@pytest.fixture(scope="session")
def long_scan() -> Volume:
    """Give a scan whose run takes seconds and several calls of the network."""
    return make_scan(tiles=(2, 2, 2))


@pytest.fixture(scope="session")
def segmenter() -> Segmenter:
    """Load the model in this process, to compare with."""
    return Segmenter(MODEL, **CPU)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Give a worker that has been greeted and that the tests of a module share."""
    host = Host(tmp_path_factory.mktemp("worker") / "folder").greet()
    yield host
    assert host.end() == 0, host.errors.read_text()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Give a function that starts a worker for one test."""
    hosts: list[Host] = []

    def start(code: str = "", **environment: str) -> Host:
        hosts.append(Host(tmp_path / f"folder {len(hosts)} é", code, **environment))
        return hosts[-1]

    yield start
    for host in hosts:
        with contextlib.suppress(OSError):
            host.process.stdin.close()
        host.process.kill()
        host.process.wait(PATIENCE)
