"""Files in unusual places, and places that change while a command runs."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_sparseseg.errors import OutputError
from napari_sparseseg.files import TEMPORARY, read_volume, write_volume
from napari_sparseseg.together import Step, content_step, write_together
from tests.faults.commands import TINY, Answer, call, snapshot
from tests.faults.made import make_scan

REST = "Encoding and decoding"


def at_step(what: str, act: Callable[[], object]) -> Callable[[int, str], None]:
    """Act once, when a command tells that it does something."""
    todo = [act]

    def step(_: int, now: str) -> None:
        if now == what and todo:
            todo.pop()()

    return step


def assert_refused(answer: Answer, match: str) -> None:
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("sparseseg: ") and answer.err.endswith(".\n")
    assert answer.err.count("\n") == 1 and ";" in answer.err
    assert match in answer.err


@pytest.mark.parametrize(
    "name", ["Übersicht 脳 \N{BRAIN}.nii.gz", "two\nlines.nii.gz", " spaces .nii.gz", "-x.nii.gz",
             "a" * 200 + ".nii.gz", "%s {0} $HOME.nii.gz"],
)  # fmt: skip
def test_any_name_that_the_system_takes_is_written_and_read(folder: Path, name: str) -> None:
    inputs = folder / "in"
    inputs.mkdir()
    shutil.copy(folder / "scan.nii.gz", inputs / name)
    answer = call("segment", inputs / name, folder / name, *TINY, "--trace", folder / "t" / name)

    assert answer.code == 0, answer.err
    assert read_volume(folder / name).data.any()
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["in", "scan.nii.gz", name, "t"]
    )


@pytest.mark.parametrize("name", ["n" * 300 + ".nii.gz", "d" * 300 + "/labels.nii.gz"])
def test_a_name_that_is_too_long_is_refused_before_the_work(folder: Path, name: str) -> None:
    before = snapshot(folder)
    answer = call("segment", "scan.nii.gz", name, "--model", "none", *TINY[2:])

    assert_refused(answer, "choose another")
    assert snapshot(folder) == before


def test_an_output_that_is_a_link_becomes_a_file_and_its_target_stays(folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "old.nii.gz").write_bytes(b"mine")
    (folder / "labels.nii.gz").symlink_to(elsewhere / "old.nii.gz")

    assert call("segment", "scan.nii.gz", "labels.nii.gz", *TINY, "--overwrite").code == 0

    assert (elsewhere / "old.nii.gz").read_bytes() == b"mine"
    assert not (folder / "labels.nii.gz").is_symlink()
    assert read_volume(folder / "labels.nii.gz").data.any()


def test_a_second_name_of_the_scan_may_be_written_over_and_the_scan_stays(folder: Path) -> None:
    scan, second = folder / "scan.nii.gz", folder / "second.nii.gz"
    before = scan.read_bytes()
    os.link(scan, second)

    assert call("segment", scan, second, *TINY, "--overwrite").code == 0

    assert scan.read_bytes() == before
    assert read_volume(second).data.dtype == np.uint8


def test_a_folder_that_goes_away_during_a_run_is_told(folder: Path) -> None:
    out = folder / "out"
    out.mkdir()
    before = snapshot(folder)
    files = (out / "labels.nii.gz", *TINY, "--report", out / "report.json")
    answer = call("segment", "scan.nii.gz", *files, step=at_step(REST, lambda: shutil.rmtree(out)))

    assert_refused(answer, "not an existing folder")
    assert snapshot(folder) == {name: held for name, held in before.items() if name != str(out)}


def test_a_file_in_place_of_the_folder_is_told(folder: Path) -> None:
    out = folder / "out"
    out.mkdir()

    def replace() -> None:
        out.rmdir()
        out.write_text("mine")

    answer = call("segment", "scan.nii.gz", "out/l.nii", *TINY, step=at_step(REST, replace))

    assert_refused(answer, "not an existing folder")
    assert out.read_text() == "mine"


def test_a_result_that_another_program_wrote_meanwhile_is_kept(folder: Path) -> None:
    theirs = folder / "labels.nii.gz"
    answer = call(
        "segment", "scan.nii.gz", theirs, *TINY, "--trace", "new",
        step=at_step(REST, lambda: theirs.write_text("theirs")),
    )  # fmt: skip

    assert_refused(answer, "exists already")
    assert theirs.read_text() == "theirs"
    assert not (folder / "new").exists()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (Path.unlink, "does not exist"),
        (lambda scan: scan.write_bytes(scan.read_bytes()[:-50]), "damaged"),
        (lambda scan: (scan.unlink(), scan.mkdir()), "folder"),
    ],
    ids=["vanishes", "is cut short", "becomes a folder"],
)
def test_a_scan_that_changes_before_it_is_read_is_told(
    folder: Path, change: Callable[[Path], object], match: str
) -> None:
    scan = folder / "scan.nii.gz"
    step = at_step("Reading the scan", lambda: change(scan))
    answer = call("segment", scan, "labels.nii.gz", *TINY, step=step)

    assert_refused(answer, match)
    assert not (folder / "labels.nii.gz").exists()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("how", ["cut short", "overwritten", "removed"])
def test_a_scan_that_changes_after_it_was_read_gives_the_same_labels(
    folder: Path, suffix: str, how: str
) -> None:
    """Nothing may depend on a file that is open in another program too."""
    scan, labels = folder / f"other{suffix}", folder / "labels.nii"
    write_volume(make_scan(), scan)
    assert call("segment", scan, "expected.nii", *TINY).code == 0

    def change() -> None:
        if how == "removed":
            scan.unlink()
        elif how == "cut short":
            os.truncate(scan, 100)
        else:
            scan.write_bytes(b"x" * scan.stat().st_size)

    step = at_step("First encoder blocks", change)
    assert call("segment", scan, labels, *TINY, step=step).code == 0
    assert labels.read_bytes() == (folder / "expected.nii").read_bytes()


# what cannot be brought back either


def failing() -> None:
    raise OutputError("The disk is full; free some space.")


def test_an_older_file_that_cannot_be_brought_back_is_not_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that goes away between two files: the one copy of the older file must stay."""
    (tmp_path / "a").write_bytes(b"mine")

    def broken() -> None:
        monkeypatch.setattr(os, "replace", no_disk)
        failing()

    steps = [content_step(tmp_path / "a", b"new", overwrite=True), Step((tmp_path / "b",), broken)]
    with pytest.raises(OutputError, match="cannot be brought back") as caught:
        write_together(steps)

    (copy,) = (path for path in tmp_path.iterdir() if path.name.startswith(TEMPORARY))
    assert copy.read_bytes() == b"mine"
    assert str(copy) in str(caught.value)
    assert (tmp_path / "a").read_bytes() == b"new"
    message = str(caught.value)
    assert message.endswith(".") and ". " not in message and ";" in message


def test_a_new_file_that_cannot_be_removed_again_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        monkeypatch.setattr(Path, "unlink", no_disk)
        failing()

    steps = [content_step(tmp_path / "a", b"new"), Step((tmp_path / "b",), broken)]
    with pytest.raises(OutputError, match=f"delete {tmp_path / 'a'}"):
        write_together(steps)


def no_disk(*_: object, **__: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))
