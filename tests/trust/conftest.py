"""A registry of one tiny model that a test may damage."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from napari_sparseseg.errors import SparseSegError
from napari_sparseseg.weights import ModelInfo, find_model, register_model
from tests.quality.tiny import make_model


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a registry of one model, ``tiny-stp``; not to be changed."""
    folder = tmp_path_factory.mktemp("weights")
    register_model(make_model(folder, "stp"))
    return folder


@pytest.fixture
def model(registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelInfo:
    """Give the model in a registry of the test's own, which it may damage."""
    folder = tmp_path / "weights"
    shutil.copytree(registry, folder)
    monkeypatch.setenv("SPARSESEG_WEIGHTS", str(folder))
    return find_model("tiny-stp")


def assert_refused(
    action: Callable[[], object], match: str, kind: type[SparseSegError] = SparseSegError
) -> None:
    """Check that an action ends in one sentence that says what is wrong and what to do."""
    with pytest.raises(kind, match=match) as caught:
        action()
    message = str(caught.value)
    assert message.endswith(".") and ". " not in message and "\n" not in message
    assert ";" in message
