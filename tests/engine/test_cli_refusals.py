"""The ``sparseseg`` command: what it refuses, and what it leaves behind when it fails."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import termios
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from checks import files_up_to, snapshot
from cli_checks import COMMAND, LIA, TINY, Sparseseg, assert_refused

from napari_sparseseg.files import write_volume
from napari_sparseseg.tokens import TRACE_FILES
from napari_sparseseg.volume import Volume

MakeScan = Callable[..., Volume]

# What it refuses


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ([], "Usage"),
        (["bogus"], "No such command"),
        (["segment"], "INPUT"),
        (["segment", "only.nii"], "OUTPUT"),
        (["segment", "a.nii", "b.nii", "--keep-ratio", "half"], "--keep-ratio"),
        (["segment", "a.nii", "b.nii", "--shiny"], "--shiny"),
    ],
)
def test_wrong_usage_exits_with_2(sparseseg: Sparseseg, arguments: list[str], match: str) -> None:
    answer = sparseseg(*arguments)

    assert answer.code == 2
    assert match in answer.out + answer.err


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--keep-ratio", "0"], "keep ratio 0 is out of range"),
        (["--keep-ratio", "1.5"], "keep ratio 1.5 is out of range"),
        (["--keep-ratio", "nan"], "keep ratio nan is out of range"),
        (["--device", "cuda:77"], "'cuda:77' is not available"),
        (["--device", "toaster"], "'toaster' is not available"),
        (["--precision", "int8"], "Unknown precision 'int8'"),
        (["--model", "tiny"], "tiny-dense, tiny-dtop, tiny-open, tiny-stp"),
        (["--model", "missing.safetensors"], "cannot be read"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(
    sparseseg: Sparseseg, scan: Path, options: list[str], match: str
) -> None:
    """Before the scan is even looked for: there is none."""
    scan.unlink()
    answer = sparseseg("segment", scan, scan.with_name("labels.nii"), *TINY, *options)

    assert_refused(answer, match)
    assert snapshot(scan.parent) == {}


def test_damaged_weights_are_refused(
    sparseseg: Sparseseg, registry: Path, scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = scan.with_name("weights")
    weights.mkdir()
    shutil.copy(registry / "index.json", weights)
    content = (registry / "tiny-stp.safetensors").read_bytes()
    (weights / "tiny-stp.safetensors").write_bytes(content[:-1])
    monkeypatch.setenv("SPARSESEG_WEIGHTS", str(weights))
    before = snapshot(scan.parent)

    assert_refused(sparseseg("segment", scan, scan.with_name("labels.nii"), *TINY), "checksum")
    assert snapshot(scan.parent) == before


def store(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> None:
    nib.save(nib.Nifti1Image(data, np.eye(4) if affine is None else affine), path)


def no_scan(path: Path) -> None:
    path.unlink()


def no_image(path: Path) -> None:
    path.write_bytes(b"no image")


def several_frames(path: Path) -> None:
    store(path, np.zeros((8, 8, 8, 3), dtype=np.float32))


def one_slice(path: Path) -> None:
    store(path, np.zeros((8, 8), dtype=np.float32))


def colour(path: Path) -> None:
    rgb = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    store(path, np.zeros((8, 8, 8), dtype=rgb))


def constant(path: Path) -> None:
    store(path, np.full((8, 8, 8), 5, dtype=np.int16))


def not_finite(path: Path) -> None:
    store(path, np.full((8, 8, 8), np.nan, dtype=np.float32))


def absurd_spacing(path: Path) -> None:
    store(path, np.arange(512, dtype=np.int16).reshape(8, 8, 8), np.diag([300.0, 1, 1, 1]))


def no_tissue(path: Path) -> None:
    store(path, np.pad(np.full((1, 1, 1), 9, dtype=np.int16), 11))


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (no_scan, "does not exist"),
        (no_image, "damaged"),
        (several_frames, "3 frames"),
        (one_slice, "2 dimensions"),
        (colour, "several values per voxel"),
        (constant, "same value"),
        (not_finite, "no finite value"),
        (absurd_spacing, "spacing of 300"),
        (no_tissue, "no tissue"),
    ],
)
def test_a_scan_that_cannot_be_used_is_refused(
    sparseseg: Sparseseg, scan: Path, spoil: Callable[[Path], None], match: str
) -> None:
    spoil(scan)
    before = snapshot(scan.parent)
    others = ("--trace", scan.parent / "new" / "trace", "--report", scan.with_name("report.json"))
    answer = sparseseg("segment", scan, scan.with_name("labels.nii"), *TINY, *others)

    assert_refused(answer, match)
    assert snapshot(scan.parent) == before


@pytest.mark.parametrize(
    ("output", "options", "match"),
    [
        ("labels.png", [], "unknown ending"),
        ("old.nii.gz", [], "exists already"),
        ("missing/labels.nii", [], "not an existing folder"),
        ("old.txt/labels.nii", [], "not an existing folder"),
        ("folder.nii", ["--overwrite"], "is a folder"),
        ("scan.nii.gz", ["--overwrite"], "the scan itself"),
        ("labels.nii", ["--report", "report.txt"], "use .json"),
        ("labels.nii", ["--report", "old.json"], "exists already"),
        ("labels.nii", ["--report", "missing/report.json"], "not an existing folder"),
        ("labels.nii", ["--trace", "old"], "depth.nii.gz exists already"),
        ("labels.nii", ["--trace", "old.txt"], "not an existing folder"),
        ("labels.nii", ["--trace", "old.txt/trace"], "not an existing folder"),
        ("new/labels.nii", ["--trace", "new"], "not an existing folder"),
        ("old/kept.nii.gz", ["--trace", "old", "--overwrite"], "another result"),
        ("labels.nii", ["--trace", "old", "--report", "old/trace.json"], "another result"),
        ("/proc/labels.nii", [], "cannot be written"),
        ("labels.nii", ["--trace", "/proc/trace"], "cannot be written"),
        ("labels.nii", ["--report", "/proc/report.json"], "cannot be written"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    sparseseg: Sparseseg,
    scan: Path,
    output: str,
    options: list[str],
    match: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before all work: the model does not even exist, and nobody has noticed."""
    folder = scan.parent
    monkeypatch.chdir(folder)
    (folder / "old").mkdir()
    (folder / "folder.nii").mkdir()
    for name in ("old.nii.gz", "old.json", "old.txt", "old/depth.nii.gz"):
        (folder / name).write_text("mine")
    before = snapshot(folder)
    answer = sparseseg("segment", "scan.nii.gz", output, "--model", "no such model", *options)

    assert_refused(answer, match)
    assert snapshot(folder) == before


def test_a_link_to_the_scan_is_the_scan(sparseseg: Sparseseg, scan: Path) -> None:
    link = scan.with_name("link.nii.gz")
    link.symlink_to(scan)

    assert_refused(sparseseg("segment", scan, link, *TINY, "--overwrite"), "the scan itself")


# What it leaves behind when it fails late


@pytest.fixture(params=[False, True], ids=["new outputs", "old outputs"])
def outputs(request: pytest.FixtureRequest, tmp_path: Path) -> list[Path]:
    """Give the labels, the trace and the report of a run, all missing or all there."""
    folder = tmp_path / "a" / "trace"
    paths = [tmp_path / "labels.nii.gz", folder, tmp_path / "report.json"]
    if request.param:
        folder.mkdir(parents=True)
        for path in (paths[0], paths[2], *(folder / name for name in TRACE_FILES)):
            path.write_text("mine")
    return paths


def no_links(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
@pytest.mark.parametrize(
    ("failing", "earlier", "air"),
    [
        ("trace.json", ["labels.nii.gz"], 512),
        ("report.json", ["labels.nii.gz", *TRACE_FILES[:5], "trace.json"], 64),
    ],
)
def test_an_output_that_fails_takes_the_others_back(
    sparseseg: Sparseseg,
    make_scan: MakeScan,
    tmp_path: Path,
    outputs: list[Path],
    failing: str,
    earlier: list[str],
    air: int,
    links: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The more air a scan holds, the larger is its trace beside the other files."""
    labels, trace, report = outputs
    scan, elsewhere = tmp_path / "scan.nii.gz", tmp_path / "elsewhere"
    corner = make_scan((8, 8, 8), LIA, margin=0)
    write_volume(replace(corner, data=np.pad(corner.data, [(0, air), (0, 8), (0, 8)])), scan)
    elsewhere.mkdir()
    others = ("--trace", elsewhere, "--report", elsewhere / report.name)
    sparseseg("segment", scan, elsewhere / labels.name, *TINY, *others)
    sizes = {path.name: path.stat().st_size for path in elsewhere.iterdir()}
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    before = snapshot(tmp_path)
    with files_up_to(sizes[failing] - 50):
        others = ("--trace", trace, "--report", report, "--overwrite")
        answer = sparseseg("segment", scan, labels, *TINY, *others)

    assert max(sizes[name] for name in earlier) < sizes[failing] - 50
    assert_refused(answer, str(trace if failing == "trace.json" else report))
    assert snapshot(tmp_path) == before


def test_ctrl_c_leaves_nothing_behind(registry: Path, make_scan: MakeScan, tmp_path: Path) -> None:
    """In a terminal, where progress tells that the work has begun."""
    write_volume(make_scan((150, 150, 150)), tmp_path / "scan.nii")
    before = snapshot(tmp_path)
    screen, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, 100))
    process = subprocess.Popen(
        [*COMMAND, "segment", "scan.nii", "labels.nii", *TINY, "--trace", "trace"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=terminal,
    )
    os.close(terminal)
    shown = ""
    while "First encoder blocks" not in shown:
        shown += os.read(screen, 1000).decode()
    process.send_signal(signal.SIGINT)
    with suppress(OSError):  # the terminal of a process that has left cannot be read
        while text := os.read(screen, 1000):
            shown += text.decode()
    out, _ = process.communicate()
    os.close(screen)

    assert process.returncode == 130
    assert out == b""
    assert shown.splitlines()[-1].endswith("sparseseg: The run was cancelled; nothing was written.")
    assert "Traceback" not in shown
    assert snapshot(tmp_path) == before
