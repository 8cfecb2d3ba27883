"""The demo: the whole way in a process of its own, and one sentence where it cannot go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import nibabel as nib
import numpy as np

from napari_sparseseg.plugin.demo import WINDOW
from napari_sparseseg.plugin.sample import template_path
from napari_sparseseg.tokens import TokenTrace


def demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "napari_sparseseg.plugin.demo", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=600, env={**os.environ, **environment}
    )


def assert_one_sentence(result: subprocess.CompletedProcess[str], part: str) -> None:
    assert result.returncode == 2, result.stderr
    sentence = result.stderr.strip().splitlines()[-1]
    assert part in sentence
    assert sentence.endswith(".")
    assert "Traceback" not in result.stderr


def test_demo_leaves_window_labels_trace_and_report(weights: Path, tmp_path: Path):
    output = tmp_path / "out"

    result = demo("--output", str(output))

    assert result.returncode == 0, result.stderr
    panel = iio.imread(output / "panel.png")
    assert panel.shape[:2] == WINDOW[::-1]
    assert panel[..., :3].std() > 20
    labels = nib.load(output / "labels.nii.gz")
    assert np.array_equal(labels.affine, nib.load(template_path()).affine)
    report = json.loads((output / "report.json").read_text())
    voxels = np.bincount(np.asarray(labels.dataobj).ravel(), minlength=4)[1:]
    assert [facts["voxels"] for facts in report["classes"].values()] == voxels.tolist()
    trace = TokenTrace.load(output / "trace")
    assert trace.counts() == report["tokens"]
    assert sorted(path.name for path in output.iterdir()) == [
        "labels.nii.gz", "panel.png", "report.json", "trace",
    ]  # fmt: skip


def test_demo_without_models_says_so(tmp_path: Path):
    result = demo("--output", str(tmp_path / "out"), SPARSESEG_WEIGHTS=str(tmp_path))

    assert_one_sentence(result, "No models were found")
    assert list((tmp_path / "out").iterdir()) == []


def test_demo_into_a_file_says_so(weights: Path, tmp_path: Path):
    (tmp_path / "out").touch()

    assert_one_sentence(demo("--output", str(tmp_path / "out")), "cannot be made")


def test_demo_without_a_screen_says_so(weights: Path):
    assert_one_sentence(demo(DISPLAY="", WAYLAND_DISPLAY=""), "There is no screen")
