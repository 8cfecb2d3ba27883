"""Small data sets, and recipes for networks of a few thousand weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from napari_sparseseg.network import CompletionConfig
from napari_sparseseg.training.anatomy import load_anatomy
from napari_sparseseg.training.recipe import OptimiserConfig, Recipe
from napari_sparseseg.training.scans import ScanConfig
from napari_sparseseg.training.synthesis import SynthesisConfig, Synthesiser
from napari_sparseseg.training.tasks import TASKS
from tests.network.conftest import small_config

RECIPES = Path(__file__).parents[2] / "napari_sparseseg" / "training" / "recipes"
WINDOW = (32, 48, 32)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def small_recipe(method: str = "stp", steps: int = 4, **changes: object) -> Recipe:
    """A recipe for synthetic heads."""
    plan = Recipe(
        name="small",
        task=TASKS["brain-mr"],
        network=small_config(classes=18, window=WINDOW, sparsifier=method),
        data=SynthesisConfig(WINDOW),
        settings=(1.0, 0.5, 0.2),
        optimiser=OptimiserConfig(steps=steps, warmup=2, decay=2),
    )
    return replace(plan, **changes)  # type: ignore[arg-type]


def scan_recipe(
    method: str = "stp", steps: int = 4, completion: str = "assembly", **changes: object
) -> Recipe:
    """A recipe for the data set of :func:`data_set`."""
    plan = Recipe(
        name=f"hippocampus-mr-{method}",
        task=TASKS["hippocampus-mr"],
        network=small_config(
            classes=3,
            window=WINDOW,
            sparsifier=method,
            completion=CompletionConfig(24, 1, 2, kind=completion),  # type: ignore[arg-type]
            air_level=0.0,
            air_fraction=0.0,
        ),
        data=ScanConfig(WINDOW),
        settings=(1.0, 0.5),
        default=0.5,
        optimiser=OptimiserConfig(steps=steps, warmup=2, decay=2),
    )
    return replace(plan, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def label_map(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head of nested boxes: skull, CSF, cortex, white matter, two thalami; axes L-I-A."""
    labels = np.zeros((70, 60, 90), dtype=np.float32)
    for margin, label in ((2, 502), (6, 24), (10, 3), (16, 41)):
        inside = slice(margin, -margin)
        labels[inside, inside, inside] = label
    labels[24:32, 26:34, 40:50] = 10
    labels[38:46, 26:34, 40:50] = 49
    affine = np.array([[-1, 0, 0, 35], [0, 0, 1, -45], [0, -1, 0, 30], [0, 0, 0, 1.0]])
    path = tmp_path_factory.mktemp("labels") / "head.nii.gz"
    nib.save(nib.Nifti1Image(labels, affine), path)
    return path


@pytest.fixture
def source(label_map: Path) -> Synthesiser:
    return Synthesiser(load_anatomy([label_map]), SynthesisConfig(WINDOW))


@pytest.fixture(scope="session")
def make_data_set(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Give a function that writes a data set of real-scan layout.

    Every image is 100 + 200 times its label, an anterior and a posterior box, plus its number;
    axes L-P-S.
    """

    def make(
        train: int = 2, val: int = 1, test: int = 2, shape: tuple[int, int, int] = (28, 40, 26)
    ) -> Path:
        folder = tmp_path_factory.mktemp("data")
        names = [f"scan_{number}" for number in range(train + val + test)]
        split = {
            "train": names[:train],
            "val": names[train : train + val],
            "test": names[train + val :],
        }
        (folder / "split.json").write_text(json.dumps(split))
        affine = np.diag([-1.0, -1.0, 1.0, 1.0])
        for kind in ("images", "labels"):
            (folder / kind).mkdir()
        for number, name in enumerate(names):
            labels = np.zeros(shape, dtype=np.float32)
            labels[8:16, 8:18, 9:17] = 1
            labels[10 : 16 + number % 2, 20:30, 9:17] = 2
            images = 100 + 200 * labels + number
            for kind, data in (("images", images), ("labels", labels)):
                nib.save(nib.Nifti1Image(data, affine), folder / kind / f"{name}.nii.gz")
        return folder

    return make


@pytest.fixture(scope="session")
def data_set(make_data_set: Callable[..., Path]) -> Path:
    """Two scans for training, one for validation, two for the test."""
    return make_data_set()
