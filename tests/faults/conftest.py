"""What the tests of faults share: a tiny model, registered, and a scan for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from napari_sparseseg.files import write_volume
from napari_sparseseg.segmenter import Segmenter
from tests.faults.made import make_scan, make_segmenter


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute in one thread: a tiny network gains nothing from more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    """Load the tiny model."""
    return make_segmenter(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def folder(segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with ``scan.nii.gz``, where the command knows the tiny model."""
    monkeypatch.setenv("SPARSESEG_WEIGHTS", str(segmenter.info.path.parent))
    monkeypatch.chdir(tmp_path)
    write_volume(make_scan(), tmp_path / "scan.nii.gz")
    return tmp_path
