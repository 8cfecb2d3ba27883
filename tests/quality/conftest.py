"""A small task: scans with labels in the layout of a data set, and models registered for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from napari_sparseseg.weights import ModelInfo, register_model
from tests.quality.tiny import make_model, make_scan

TASK = "hippocampus-mr"
SPLIT = {"train": ["scan_1"], "val": ["scan_2", "scan_3"], "test": ["scan_4", "scan_5"]}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def true_labels(number: int) -> np.ndarray:
    """Two boxes; the second, which grows with the number of the scan, is not in scan 5."""
    labels = np.zeros((30, 41, 26), dtype=np.uint8)
    labels[5:15, 6:18, 5:17] = 1
    if number < 5:
        labels[15:24, 20 : 30 + number, 9:17] = 2
    return labels


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the scans of :data:`SPLIT`, axes L-P-S at 1 x 1 x 2 mm; images carry their number."""
    data = tmp_path_factory.mktemp("data")
    folder = data / "hippocampus"
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    (folder / "split.json").write_text(json.dumps(SPLIT))
    affine = np.diag([-1.0, -1.0, 2.0, 1.0])
    for number in range(1, 6):
        image = make_scan().data
        image[image > 0] += number
        for kind, voxels in (("images", image), ("labels", true_labels(number))):
            nib.save(nib.Nifti1Image(voxels, affine), folder / kind / f"scan_{number}.nii.gz")
    return data


@pytest.fixture
def register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModelInfo]:
    """Give a function that registers an untrained model of the task for a method."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv("SPARSESEG_WEIGHTS", str(folder))

    def add(method: str) -> ModelInfo:
        name = f"{TASK}-{method}"
        info = make_model(folder, method, name=name, path=folder / f"{name}.safetensors")
        register_model(info)
        return info

    return add
