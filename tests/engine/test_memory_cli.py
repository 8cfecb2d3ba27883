"""The budget on the command line and in the worker, and a system that gives no more memory."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checks import snapshot
from cli_checks import COMMAND, TINY, Sparseseg, assert_refused

from napari_sparseseg.files import read_volume, write_volume
from napari_sparseseg.volume import Volume

MB = 2**20


def test_a_budget_that_is_too_small_is_a_sentence(
    sparseseg: Sparseseg, scan: Path, tmp_path: Path
) -> None:
    before = snapshot(tmp_path)
    for command in (
        ("segment", scan, tmp_path / "out.nii.gz"),
        ("sweep", scan, "--out", tmp_path / "s"),
    ):
        answer = sparseseg(*command, *TINY, "--memory", "0.001")
        assert_refused(answer, "GB may be used; crop it, ")
        assert "set a larger memory budget" in answer.err
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("budget", ["0", "-2", "nan"])
def test_a_budget_that_is_none_is_a_sentence(
    sparseseg: Sparseseg, scan: Path, tmp_path: Path, budget: str
) -> None:
    answer = sparseseg("segment", scan, tmp_path / "out.nii.gz", *TINY, "--memory", budget)
    assert_refused(answer, "memory budget")


def test_a_run_within_its_budget_tells_of_it(
    sparseseg: Sparseseg, scan: Path, tmp_path: Path
) -> None:
    report = tmp_path / "run.json"
    out = tmp_path / "out.nii.gz"
    answer = sparseseg("segment", scan, out, *TINY, "--memory", "2", "--report", report)

    assert answer.code == 0
    memory = json.loads(report.read_text())["memory"]
    assert memory["budget_mb"] == 2048
    assert memory["steps"] == []
    assert memory["peak_mb"] <= memory["estimate_mb"] <= 2048


def test_a_run_that_gave_something_up_says_so_and_writes_the_same_labels(
    sparseseg: Sparseseg, make_scan: Callable[..., Volume], tmp_path: Path
) -> None:
    scan, plenty, tight = (tmp_path / name for name in ("scan.nii", "a.nii", "b.nii"))
    write_volume(make_scan((112, 80, 56)), scan)
    report = tmp_path / "run.json"
    assert sparseseg("segment", scan, plenty, *TINY, "--report", report).code == 0
    most = json.loads(report.read_text())["memory"]["estimate_mb"]

    answer = sparseseg("segment", scan, tight, *TINY, "--memory", (most - 1) / 1024)

    assert answer.code == 0
    assert "Memory is short; the windows were computed one by one." in answer.out
    np.testing.assert_array_equal(read_volume(tight).data, read_volume(plenty).data)


def test_memory_that_runs_out_outside_the_engine_is_a_sentence_too(
    sparseseg: Sparseseg, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object, **__: object) -> None:
        raise MemoryError

    before = snapshot(tmp_path)
    monkeypatch.setattr("napari_sparseseg.files.read_volume", no_room)
    answer = sparseseg("segment", scan, tmp_path / "out.nii.gz", *TINY)

    assert_refused(answer, "The computer ran out of memory; ")
    assert snapshot(tmp_path) == before


# A system that gives no more


def limited(limit: int) -> Callable[[], None]:
    """Give what a process does before it begins, so that it can address so many bytes."""

    def limit_self() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    return limit_self


def address_space_of_the_engine() -> int:
    """Give the bytes of address space of a process that has loaded the engine."""
    code = (
        "import napari_sparseseg.segmenter, napari_sparseseg.files.nifti, psutil;"
        "print(psutil.Process().memory_info().vms)"
    )
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit address space")
@pytest.mark.parametrize("spare", [-100, 300])
def test_a_process_that_gets_no_more_memory_ends_with_a_sentence(
    registry: Path, tmp_path: Path, spare: int
) -> None:
    """No crash, no traceback, no file: exit code 2, whether it is foreseen or not."""
    scan, out = tmp_path / "scan.nii", tmp_path / "out.nii"
    data = np.zeros((260, 260, 260), np.int16)
    data[20:-20, 20:-20, 20:-20] = np.random.default_rng(0).integers(200, 400, (220, 220, 220))
    write_volume(Volume(data, np.diag([0.7, 0.7, 0.7, 1.0]), "scan"), scan)
    before = snapshot(tmp_path)

    done = subprocess.run(
        [*COMMAND, "segment", str(scan), str(out), *TINY],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=limited(address_space_of_the_engine() + spare * MB),
        check=False,
    )

    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("sparseseg: ") and done.stderr.count("\n") == 1
    assert "memory" in done.stderr and done.stderr.endswith(".\n")
    assert snapshot(tmp_path) == before
