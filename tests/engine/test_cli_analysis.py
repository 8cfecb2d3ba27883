"""The ``sparseseg`` command: sweeping a scan, and comparing label maps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import termios
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from checks import snapshot
from cli_checks import COMMAND, LIA, TINY, Sparseseg, assert_refused

from napari_sparseseg.analysis.sweep import SWEEP_FILES
from napari_sparseseg.files import read_volume, write_volume
from napari_sparseseg.volume import Volume

MakeScan = Callable[..., Volume]
NOTICE = "Research use only, not for diagnosis."


@pytest.fixture
def labels(scan: Path) -> Path:
    """Write a label map on the scan's grid: a box of label 1, with a slab of label 2 in it."""
    data = np.zeros((20, 18, 16), dtype=np.uint8)
    data[4:14, 4:14, 4:14] = 1
    data[4:14, 4:14, 4:6] = 2
    path = scan.with_name("truth.nii.gz")
    write_volume(Volume(data, LIA), path)
    return path


def cells(line: str) -> list[str]:
    return [cell for cell in line.split("  ") if cell.strip()]


# sweep


def test_a_sweep_prints_a_table_and_a_proposal(registry: Path, scan: Path, labels: Path) -> None:
    """As a user does it: in a process of its own, with files as the only way in and out."""
    options = ("--out", "new/sweep", "--ratios", "0.5,1,0.2", "--reference", labels.name)
    command = [*COMMAND, "sweep", scan.name, *TINY, *options, "--tolerance", "1"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=scan.parent)

    assert (result.returncode, result.stderr) == (0, "")
    folder = scan.parent / "new" / "sweep"
    assert sorted(os.listdir(folder)) == sorted(SWEEP_FILES)
    facts = json.loads((folder / "sweep.json").read_text())
    assert [p["setting"] for p in facts["points"]] == [1, 0.5, 0.2]
    assert [p["sparsifier"] for p in facts["random"]] == ["random"] * 3
    lines = result.stdout.splitlines()
    assert lines[0] == "Model     tiny-stp, cpu, float32"
    assert [c.strip() for c in cells(lines[2])] == [
        "keep ratio", "Dice to dense", "Dice to reference", "random: Dice", "s", "GMACs",
        "tokens kept",
    ]  # fmt: skip
    for line, own, random in zip(lines[3:6], facts["points"], facts["random"], strict=True):
        assert line.split() == [
            f"{own['setting']:g}", f"{own['mean_to_dense']:.4f}",
            f"{own['mean_to_reference']:.4f}", f"{random['mean_to_reference']:.4f}",
            f"{own['seconds']:.2f}", f"{own['gmacs']:.1f}", str(own["tokens"]["kept"]),
        ]  # fmt: skip
    # any loss is within a tolerance of 1
    assert lines[7].startswith("Proposal  keep ratio 0.2: the smallest here that loses at most 1")
    assert "the reference" in lines[7]
    assert lines[-1] == NOTICE
    assert all(f"new/sweep/{name}" in lines[-2] for name in SWEEP_FILES)


def test_a_sweep_without_reference_and_control(sparseseg: Sparseseg, scan: Path) -> None:
    out = scan.with_name("sweep")
    answer = sparseseg("sweep", scan, "--out", out, *TINY, "--ratios", "1,0.4", "--no-random")

    assert (answer.code, answer.err) == (0, "")
    facts = json.loads((out / "sweep.json").read_text())
    assert facts["random"] == [] and not facts["has_reference"]
    head = answer.out.splitlines()[2]
    assert "random" not in head and "reference" not in head
    assert "the dense twin" in answer.out


def test_a_sweep_proposes_nothing_where_nothing_can_be_told(
    sparseseg: Sparseseg, scan: Path, labels: Path
) -> None:
    empty = read_volume(labels)
    write_volume(Volume(np.zeros_like(empty.data), empty.affine), scan.with_name("empty.nii"))
    options = ("--reference", scan.with_name("empty.nii"), "--ratios", "0.4", "--no-random")
    answer = sparseseg("sweep", scan, "--out", scan.with_name("sweep"), *TINY, *options)

    assert answer.code == 0
    (line,) = (line for line in answer.out.splitlines() if line.startswith("Proposal"))
    assert line == (
        "Proposal  none: the reference holds no structure, so that no setting can be told from "
        "another"
    )


def test_a_trace_of_another_place_is_refused(sparseseg: Sparseseg, scan: Path) -> None:
    out, trace = scan.with_name("labels.nii.gz"), scan.with_name("trace")
    assert sparseseg("segment", scan, out, *TINY, "--trace", trace).code == 0
    found = read_volume(out)
    far = found.affine.copy()
    far[:3, 3] += 500
    for name in ("one", "two"):
        write_volume(Volume(found.data, far), scan.with_name(f"{name}.nii"))
    maps = (scan.with_name("one.nii"), scan.with_name("two.nii"))

    answer = sparseseg("compare", *maps, "--trace", trace, "--model", TINY[1])

    assert_refused(answer, "do not lie over one")


def test_a_threshold_is_swept_too(sparseseg: Sparseseg, scan: Path) -> None:
    out = scan.with_name("sweep")
    options = ("--settings", "0.1", "--no-random", "--device", "cpu")
    answer = sparseseg("sweep", scan, "--out", out, "--model", "tiny-dtop", *options)

    assert answer.code == 0
    facts = json.loads((out / "sweep.json").read_text())
    assert facts["control"] == "exit threshold"
    assert [p["setting"] for p in facts["points"]] == [1, 0.1]


def test_a_sweep_replaces_files_when_asked(sparseseg: Sparseseg, scan: Path) -> None:
    out = scan.with_name("sweep")
    arguments = ("sweep", scan, "--out", out, *TINY, "--no-random")
    assert sparseseg(*arguments, "--ratios", "0.9").code == 0
    assert_refused(sparseseg(*arguments, "--ratios", "0.2"), "exists already")
    assert sparseseg(*arguments, "--ratios", "0.2", "--overwrite").code == 0

    facts = json.loads((out / "sweep.json").read_text())
    assert [p["setting"] for p in facts["points"]] == [1, 0.2]


def moved(path: Path, by: int) -> Path:
    """Write the same map one of its planes further, on a grid that is shifted with it."""
    volume = read_volume(path)
    shift = np.eye(4)
    shift[0, 3] = by
    data = np.roll(volume.data, -by, axis=0)
    write_volume(Volume(data, volume.affine @ shift), path.with_name("moved.nii"))
    return path.with_name("moved.nii")


def test_a_reference_on_another_grid_is_brought_over_when_asked(
    sparseseg: Sparseseg, scan: Path, labels: Path
) -> None:
    arguments = ("sweep", scan, *TINY, "--no-random", "--ratios", "0.5")
    assert sparseseg(*arguments, "--reference", labels, "--out", scan.with_name("a")).code == 0
    other = ("--reference", moved(labels, 2), "--out", scan.with_name("b"))
    assert_refused(sparseseg(*arguments, *other), "allow resampling")
    assert not scan.with_name("b").exists()
    assert sparseseg(*arguments, *other, "--resample").code == 0

    a, b = (json.loads((scan.with_name(n) / "sweep.json").read_text())["points"] for n in "ab")
    assert [p["dice_to_reference"] for p in a] == [p["dice_to_reference"] for p in b]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--ratios", "0.5,1.5"], "keep ratio 1.5 is out of range"),
        (["--ratios", "0.5;0.2"], "numbers with commas"),
        (["--ratios", ""], "numbers with commas"),
        (["--tolerance", "-1"], "tolerance -1"),
        (["--tolerance", "nan"], "tolerance nan"),
        (["--model", "tiny-dense"], "no setting to sweep"),
        (["--model", "no such model"], "no model named"),
        (["--device", "toaster"], "'toaster' is not available"),
        (["--reference", "missing.nii"], "does not exist"),
        (["--reference", "unknown.nii"], "labels that no class has (9)"),
        (["--out", "old"], "exists already"),
        (["--out", "old.txt"], "not an existing folder"),
        (["--out", "/proc/sweep"], "cannot be written"),
    ],
)
def test_a_sweep_that_cannot_be_made_is_refused(
    sparseseg: Sparseseg,
    scan: Path,
    options: list[str],
    match: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = scan.parent
    monkeypatch.chdir(folder)
    (folder / "old").mkdir()
    for name in ("old.txt", "old/sweep.csv"):
        (folder / name).write_text("mine")
    write_volume(Volume(np.full((20, 18, 16), 9, np.uint8), LIA), folder / "unknown.nii")
    before = snapshot(folder)
    answer = sparseseg("sweep", scan.name, "--out", "new", *TINY, *options)

    assert_refused(answer, match)
    assert snapshot(folder) == before


def test_ctrl_c_in_a_sweep_leaves_nothing_behind(
    registry: Path, make_scan: MakeScan, tmp_path: Path
) -> None:
    """In a terminal, in the middle: the second of many runs has begun."""
    write_volume(make_scan((90, 90, 90)), tmp_path / "scan.nii")
    before = snapshot(tmp_path)
    screen, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, 100))
    process = subprocess.Popen(
        [*COMMAND, "sweep", "scan.nii", "--out", "new/sweep", *TINY],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=terminal,
    )
    os.close(terminal)
    shown = ""
    while "Run 2 of 12" not in shown:
        shown += os.read(screen, 1000).decode()
    process.send_signal(signal.SIGINT)
    with suppress(OSError):  # the terminal of a process that has left cannot be read
        while text := os.read(screen, 1000):
            shown += text.decode(errors="replace")
    out, _ = process.communicate()
    os.close(screen)

    assert process.returncode == 130
    assert out == b""
    assert shown.splitlines()[-1].endswith("sparseseg: The run was cancelled; nothing was written.")
    assert "Traceback" not in shown
    assert snapshot(tmp_path) == before


# compare


@pytest.fixture
def prediction(labels: Path) -> Path:
    """Write the truth with 10 voxels added, 20 lost and 30 of the other structure."""
    volume = read_volume(labels)
    data = volume.data.copy()
    data[14, 4:14, 8] = 1
    data[4:14, 4:6, 10] = 0
    data[4:14, 4:7, 4] = 1
    path = labels.with_name("labels.nii.gz")
    write_volume(Volume(data, LIA), path)
    return path


def test_two_maps_are_compared_for_people(
    sparseseg: Sparseseg, prediction: Path, labels: Path
) -> None:
    """The truth holds 800 and 200 voxels, the prediction 820 and 170; 780 and 170 are in both."""
    answer = sparseseg("compare", prediction, labels, "--model", "tiny-stp")

    assert (answer.code, answer.err) == (0, "")
    head, shell, core, mean, *rest = answer.out.splitlines()
    assert [c.strip() for c in cells(head)] == [
        "structure", "Dice", "HD95 (mm)", "ml", "reference ml", "change (ml)"
    ]  # fmt: skip
    one, two = 2 * 780 / 1620, 2 * 170 / 370
    assert shell.split()[:2] == ["shell", f"{one:.4f}"]
    assert shell.split()[3:] == ["0.820", "0.800", "+0.020"]
    assert core.split()[:2] == ["core", f"{two:.4f}"]
    assert core.split()[3:] == ["0.170", "0.200", "-0.030"]
    assert mean.split() == ["mean", f"{(one + two) / 2:.4f}"]
    assert "Voxels   10 added, 20 lost, 30 of another structure" in rest
    assert rest[-1] == NOTICE


def test_two_maps_are_compared_for_programs(
    sparseseg: Sparseseg, prediction: Path, labels: Path
) -> None:
    answer = sparseseg("compare", prediction, labels, "--json")

    assert (answer.code, answer.err) == (0, "")
    found = json.loads(answer.out)
    assert found["notice"] == NOTICE and "attribution" not in found
    assert found["comparison"]["voxels"] == {"added": 10, "lost": 20, "changed": 30}
    classes = found["comparison"]["classes"]
    assert list(classes) == ["label 1", "label 2"]
    assert classes["label 1"]["dice"] == pytest.approx(2 * 780 / 1620, abs=1e-5)
    assert classes["label 2"]["millilitres"] == 0.17


def test_a_trace_tells_in_which_tokens_maps_differ(
    sparseseg: Sparseseg, scan: Path, labels: Path
) -> None:
    output, trace = scan.with_name("run.nii.gz"), scan.with_name("trace")
    sparseseg("segment", scan, output, *TINY, "--keep-ratio", 0.2, "--trace", trace)
    arguments = ("compare", output, labels, "--model", "tiny-stp", "--trace", trace)
    found = json.loads(sparseseg(*arguments, "--json").out)
    shown = sparseseg(*arguments).out

    mine, theirs = read_volume(output).data, read_volume(labels).data
    shares = found["attribution"]["shares"]
    assert sum(share["voxels"] for share in shares) == mine.size
    assert sum(share["errors"] for share in shares) == (mine != theirs).sum() > 0
    tokens = json.loads((trace / "trace.json").read_text())["tokens"]
    assert sum(share["tokens"] for share in shares) == tokens["total"]
    assert {s["fate"]: s["tokens"] for s in shares}["kept"] == tokens["kept"]
    for share in shares:
        assert any(
            line.startswith(share["fate"]) and line.endswith(f" {share['errors']}")
            for line in shown.splitlines()
        )
    assert found["attribution"]["verdict"] in shown


def test_a_map_on_another_grid_is_brought_over_when_asked(
    sparseseg: Sparseseg, prediction: Path, labels: Path
) -> None:
    other = moved(labels, 2)
    assert_refused(sparseseg("compare", prediction, other), "allow resampling")
    answer = sparseseg("compare", prediction, other, "--resample")

    assert answer.code == 0
    assert answer.out == sparseseg("compare", prediction, labels).out


def test_labels_are_numbered_up_to_the_highest_of_either(
    sparseseg: Sparseseg, labels: Path
) -> None:
    other = labels.with_name("other.nrrd")
    data = read_volume(labels).data.astype(np.int16)
    data[data == 2] = 7
    write_volume(Volume(data, LIA), other)
    answer = sparseseg("compare", labels, other)

    names = [" ".join(line.split()[:2]) for line in answer.out.splitlines()[1:4]]
    assert names == ["label 1", "label 2", "label 7"]


@pytest.mark.parametrize(
    ("reference", "options", "match"),
    [
        ("missing.nii", [], "does not exist"),
        ("high.nii", [], "labels that no class has (300)"),
        ("low.nii", [], "labels that no class has (-2)"),
        ("halves.nii", [], "no integers"),
        ("truth.nii.gz", ["--model", "nothing"], "no model named 'nothing'"),
        ("truth.nii.gz", ["--trace", "nowhere"], "no complete trace"),
    ],
)
def test_maps_that_cannot_be_compared_are_refused(
    sparseseg: Sparseseg,
    labels: Path,
    reference: str,
    options: list[str],
    match: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = labels.parent
    monkeypatch.chdir(folder)
    for name, value in (("high", 300), ("low", -2), ("halves", 0.5)):
        data = np.full((20, 18, 16), value, dtype=np.float32)
        write_volume(Volume(data, LIA), folder / f"{name}.nii")
    before = snapshot(folder)

    assert_refused(sparseseg("compare", labels, reference, *options), match)
    assert snapshot(folder) == before
