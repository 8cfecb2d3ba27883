"""The report: figures counted from the labels, and a JSON file that is whole or absent."""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from napari_sparseseg.errors import OutputError
from napari_sparseseg.means import Means
from napari_sparseseg.report import (
    NOTICE,
    REPORT_FORMAT,
    count_classes,
    make_report,
    write_report,
)
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import ModelInfo


@pytest.fixture
def report(tiny_models: dict[str, ModelInfo]) -> dict[str, Any]:
    """Give the report of a made-up run with 10 and 4 voxels of two of the four structures."""
    labels = np.zeros((10, 5, 4), dtype=np.uint8)
    labels[:, 0, 0], labels[:4, 1, 1] = 1, 4
    affine = np.array([[0, 0, -2.0, 9], [0.5, 0, 0, 3], [0, 1.5, 0, -7], [0, 0, 0, 1]])
    return make_report(
        tiny_models["tiny-stp"],
        weights_sha256="ab" * 32,
        sparsifier="random",
        setting={"name": "keep ratio", "value": 0.3},
        device="cpu",
        precision="float32",
        seed=3,
        means=Means(trace=False),
        overlap=0.25,
        part="2.1",
        notes=("The sform was used.",),
        labels=Volume(labels, affine),
        tokens={"total": 4, "air": 1, "kept": 1, "pruned": 2, "exited": 0, "reactivated": 0},
        gmacs={"run": 1.23456, "dense": 2.0},
        seconds={"first": 0.25, "second": 1.5},
        peak_memory_mb=123.456,
        memory={"budget_mb": 2048.0, "estimate_mb": 300.25, "peak_mb": 120.0, "steps": []},
    )


def test_voxels_and_millilitres_are_those_of_the_labels(report: dict[str, Any]) -> None:
    """By hand: a voxel is 0.5 x 1.5 x 2 mm, that is 1.5 microlitres."""
    assert report["classes"] == {
        "shell": {"voxels": 10, "millilitres": 0.015},
        "core": {"voxels": 0, "millilitres": 0.0},
        "spot": {"voxels": 0, "millilitres": 0.0},
        "rest": {"voxels": 4, "millilitres": 0.006},
    }


@given(labels=arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, max_side=7)))
def test_classes_are_counted_as_numpy_counts_them(labels: np.ndarray) -> None:
    """Whatever the labels, the lengths and the order in memory."""
    expected = np.bincount(labels.ravel(), minlength=256)
    for stored in (
        labels,
        labels.transpose(2, 0, 1),
        np.asfortranarray(labels),
        labels[::-1].copy(),
    ):
        np.testing.assert_array_equal(count_classes(stored, 256), expected)


@given(
    size=array_shapes(min_dims=3, max_dims=3, max_side=9),
    box=arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, max_side=5)),
)
def test_structures_in_a_corner_are_counted_with_the_background_around(
    size: tuple[int, ...], box: np.ndarray
) -> None:
    labels = np.zeros([n + m for n, m in zip(size, box.shape, strict=True)], dtype=np.uint8)
    labels[tuple(slice(n, None) for n in size)] = box
    np.testing.assert_array_equal(
        count_classes(labels, 256), np.bincount(labels.ravel(), minlength=256)
    )


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 4, 5), (2, 1, 7)])
def test_background_alone_is_counted(shape: tuple[int, ...]) -> None:
    counts = count_classes(np.zeros(shape, dtype=np.uint8), 4)

    assert counts.tolist() == [np.prod(shape), 0, 0, 0]


def test_a_plane_longer_than_what_is_counted_at_once() -> None:
    """Two planes of 1031 x 515 voxels, an odd number each, and class 2 in the very last voxel."""
    labels = np.ones((2, 1031, 515), dtype=np.uint8)
    labels[0, ::2], labels[1, -1, -1] = 3, 2

    assert count_classes(labels, 4).tolist() == [0, 2 * 1031 * 515 - 516 * 515 - 1, 1, 516 * 515]


def test_the_facts_of_the_run_are_there(report: dict[str, Any]) -> None:
    assert (report["model"], report["method"]) == ("tiny-stp", "stp")
    assert report["sparsifier"] == "random"
    assert report["setting"] == {"name": "keep ratio", "value": 0.3}
    assert report["weights_sha256"] == "ab" * 32
    assert report["weights_registered"] is False
    volume = {"shape": [10, 5, 4], "spacing": [0.5, 1.5, 2.0], "orientation": "ASL"}
    assert report["volume"] == volume
    assert report["seconds"] == {"total": 1.75, "first": 0.25, "second": 1.5}
    assert report["gmacs"] == {"run": 1.235, "dense": 2.0}
    assert report["peak_memory_mb"] == 123.5
    libraries = ("napari-sparseseg", "torch", "numpy", "SimpleITK", "nibabel")
    assert report["versions"] == {
        **{name: version(name) for name in libraries},
        "python": ".".join(map(str, sys.version_info[:3])),
    }
    assert report["computer"].keys() == {"system", "processor", "threads"}
    assert report["computer"]["threads"] == torch.get_num_threads()
    assert (report["format"], report["seed"], report["overlap"]) == (REPORT_FORMAT, 3, 0.25)
    assert report["means"] == {
        "skip_air": True, "skip_windows": True, "active_blocks": True, "pack_windows": True,
        "trace": False,
    }  # fmt: skip
    assert report["notes"] == ["The sform was used."]
    assert report["notice"] == NOTICE == "Research use only, not for diagnosis."


def test_a_written_report_comes_back(report: dict[str, Any], tmp_path: Path) -> None:
    write_report(report, tmp_path / "report.json")

    assert json.loads((tmp_path / "report.json").read_text()) == report


def test_an_older_report_is_replaced_only_when_asked(
    report: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "report.json"
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        write_report(report, path)
    assert path.read_text() == "mine"

    write_report(report, path, overwrite=True)
    assert json.loads(path.read_text()) == report


def test_a_report_that_is_not_json_leaves_nothing(report: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_report({**report, "device": object()}, tmp_path / "report.json")
    with pytest.raises(OutputError, match="not an existing folder"):
        write_report(report, tmp_path / "missing" / "report.json")

    assert os.listdir(tmp_path) == []
