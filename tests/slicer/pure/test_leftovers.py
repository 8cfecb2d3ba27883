"""Private folders of programs that were killed: the next one removes them, and no others."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from SparseSegLib.leftovers import DAY, private_folder


@pytest.fixture
def gone() -> int:
    """Give the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def left(parent: Path, name: str, age: float) -> Path:
    folder = parent / name
    folder.mkdir()
    (folder / "scan.npy").write_bytes(b"voxels")
    os.utime(folder, (time.time() - age,) * 2)
    return folder


def test_what_a_killed_program_left_a_day_ago_is_removed(tmp_path: Path, gone: int) -> None:
    old = left(tmp_path, f"sparseseg-{gone}-abc", DAY + 60)
    folder = private_folder(tmp_path)

    assert not old.exists()
    assert list(tmp_path.iterdir()) == [folder]
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("name", "age"),
    [
        ("sparseseg-{gone}-abc", DAY - 60),
        ("sparseseg-{own}-abc", 9 * DAY),
        ("sparseseg-results", 9 * DAY),
        ("sparseseg-{gone}-my scans", 9 * DAY),
        ("other-{gone}-abc", 9 * DAY),
    ],
)
def test_any_other_folder_stays(tmp_path: Path, gone: int, name: str, age: float) -> None:
    other = left(tmp_path, name.format(gone=gone, own=os.getpid()), age)
    private_folder(tmp_path)

    assert (other / "scan.npy").read_bytes() == b"voxels"


def test_a_link_is_not_followed(tmp_path: Path, gone: int) -> None:
    mine = left(tmp_path, "mine", 9 * DAY)
    link = tmp_path / f"sparseseg-{gone}-abc"
    link.symlink_to(mine)
    os.utime(link, (0, 0), follow_symlinks=False)
    private_folder(tmp_path)

    assert (mine / "scan.npy").exists()


def test_another_user_s_folder_stays(
    tmp_path: Path, gone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = left(tmp_path, f"sparseseg-{gone}-abc", 9 * DAY)
    monkeypatch.setattr(os, "getuid", lambda: other.stat().st_uid + 1)
    private_folder(tmp_path)

    assert other.exists()
