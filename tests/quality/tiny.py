"""Tiny models and scans for the parts that run a model on whole cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.quality.cases import Case, CaseSet
from napari_sparseseg.methods import METHODS
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import ModelInfo, save_model
from tests.network.conftest import make_network, small_completion, small_config


def make_model(folder: Path, method: str, **changes: object) -> ModelInfo:
    """Write a model of three classes, with random weights and 0.5 as its default setting."""
    kind = "assembly" if method in ("stp", "dense") else "preserve"
    network = make_network(
        small_config(classes=3, sparsifier=method, completion=small_completion(kind))
    )
    values: dict[str, object] = {
        "name": f"tiny-{method}",
        "title": method,
        "method": method,
        "modality": "made-up scans",
        "spacing": 1.0,
        "classes": ("background", "one", "two"),
        "colors": ("#000000", "#f2f2f2", "#cd6d4f"),
        "default_setting": 0.5 if METHODS[method].control else 1.0,
        "network": network.config.to_dict(),
        "license": "Apache-2.0",
        "path": folder / f"tiny-{method}.safetensors",
    }
    info = ModelInfo(**(values | changes))  # type: ignore[arg-type]
    save_model(network.state_dict(), info)
    return info


def make_scan() -> Volume:
    """A striped box of 26 x 37 x 22 mm in air."""
    x, y, z = np.meshgrid(*map(np.arange, (30, 41, 26)), indexing="ij")
    data = 300 + 80 * (np.sin(x / 3) + np.cos(y / 4) + np.sin(z / 2))
    inside = (x > 1) & (x < 28) & (y > 1) & (y < 39) & (z > 1) & (z < 24)
    return Volume(np.where(inside, data, 0).astype(np.float32), np.eye(4), "scan")


def case_set(*cases: Case) -> CaseSet:
    """Give cases as a set."""
    by_name = {case.name: case for case in cases}
    return CaseSet("scans", tuple(by_name), by_name.__getitem__)
