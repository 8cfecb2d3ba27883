"""Files that come from a host and go to it; in this process."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from napari_sparseseg.errors import InputError, OutputError
from napari_sparseseg.worker.failures import Refusal
from napari_sparseseg.worker.folder import Folder
from tests.engine.checks import files_up_to

SCAN = np.arange(60, dtype=np.float32).reshape(3, 4, 5)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "shared").mkdir()
    return Folder(tmp_path / "shared")


@pytest.mark.parametrize(
    "array",
    [
        SCAN,
        np.asfortranarray(SCAN),
        SCAN[::-1, :, ::2],
        SCAN.astype(np.uint8),
        SCAN.astype(">i2"),
        SCAN > 30,
        SCAN.astype(np.float16),
    ],
    ids=lambda array: f"{array.dtype.str} {array.strides}",
)
def test_array_goes_out_and_comes_back_as_it_was(folder: Folder, array: np.ndarray) -> None:
    name = folder.files().write("labels", array)

    np.testing.assert_array_equal(np.load(folder.path / name, allow_pickle=False), array)
    np.save(folder.path / "input.npy", array)
    read = folder.read("input.npy", "scan")
    np.testing.assert_array_equal(read, array)
    assert read.dtype.isnative


@pytest.mark.parametrize(
    "name",
    [
        "../secret.npy",
        "/etc/passwd",
        "sub/scan.npy",
        "sub\\scan.npy",
        "C:scan.npy",
        "..",
        ".",
        "",
        ".hidden.npy",
        "scan",
        "scan.nii",
        "scan.npy\n",
        "scan.npy\0",
        "scan\0.npy",
        "scan.npy/",
        "~.npy",
        "é.npy",
        "\ud800.npy",
        "s" * 200 + ".npy",
    ],
)
def test_name_that_could_lead_elsewhere_is_refused(folder: Folder, name: str) -> None:
    np.save(folder.path.parent / "secret.npy", SCAN)

    with pytest.raises(Refusal, match="bare name"):
        folder.read(name, "scan")


def test_links_are_not_followed(folder: Folder) -> None:
    np.save(folder.path.parent / "secret.npy", SCAN)
    (folder.path / "link.npy").symlink_to(folder.path.parent / "secret.npy")
    (folder.path / "dangling.npy").symlink_to("nowhere")

    for name in ("link.npy", "dangling.npy"):
        with pytest.raises(Refusal, match="bare name"):
            folder.read(name, "scan")


def test_link_that_appears_after_the_look_is_not_followed(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(folder.path.parent / "secret.npy", SCAN)
    (folder.path / "link.npy").symlink_to(folder.path.parent / "secret.npy")
    monkeypatch.setattr(Path, "is_symlink", lambda path: False)

    with pytest.raises(InputError):
        folder.read("link.npy", "scan")


def header(descr: object, shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    facts = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, facts)
    return file.getvalue()


def pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([["boom"]], dtype=object), allow_pickle=True)
    return file.getvalue()


def compressed() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, SCAN)
    return file.getvalue()


WHOLE = header("<f4", (3, 4, 5)) + SCAN.tobytes()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x93NUM", id="half a magic"),
        pytest.param(WHOLE[:50], id="half a header"),
        pytest.param(WHOLE[:-1], id="cut short"),
        pytest.param(WHOLE + b"x", id="too long"),
        pytest.param(os.urandom(500), id="noise"),
        pytest.param(b"\x93NUMPY\x09\x00" + WHOLE[8:], id="unknown version"),
        pytest.param(header("<f4", (2000, 1000, 1000)) + b"x" * 60, id="huge, but not there"),
        pytest.param(header("<f4", (3, -4, 5)) + b"x" * 60, id="negative"),
        pytest.param(pickled(), id="pickle"),
        pytest.param(header("|O", (3, 4, 5)) + b"x" * 480, id="objects"),
        pytest.param(header("<c8", (3, 4, 5)) + b"x" * 480, id="complex"),
        pytest.param(header("<U1", (3, 4, 5)) + b"x" * 240, id="text"),
        pytest.param(header("<M8[s]", (3, 4, 5)) + b"x" * 480, id="dates"),
        pytest.param(header([("r", "<f4")], (3, 4, 5)) + b"x" * 240, id="records"),
        pytest.param(header("<f4", (3, 4)) + b"x" * 48, id="a slice"),
        pytest.param(header("<f4", (3, 4, 5, 1)) + b"x" * 240, id="a series"),
        pytest.param(header("<f4", (3, 0, 5)), id="no voxels"),
        pytest.param(header("<f4", (2**21, 2**21, 2**21)), id="more than memory"),
        pytest.param(compressed(), id="an archive"),
    ],
)
def test_file_that_is_no_scan_is_refused_in_a_sentence(folder: Folder, content: bytes) -> None:
    (folder.path / "input.npy").write_bytes(content)

    with pytest.raises(InputError) as caught:
        folder.read("input.npy", "my scan")

    assert "my scan" in str(caught.value)
    assert str(caught.value).endswith(".")


def test_memory_is_taken_only_for_what_is_there(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.path / "input.npy").write_bytes(header("<f4", (2000, 1000, 1000)) + b"x" * 60)
    monkeypatch.setattr(
        np.lib.format, "read_array", lambda *_, **__: pytest.fail("it was read all the same")
    )

    with pytest.raises(InputError):
        folder.read("input.npy", "scan")


def test_pipe_or_folder_in_place_of_a_file_is_refused_without_waiting(folder: Folder) -> None:
    os.mkfifo(folder.path / "pipe.npy")
    (folder.path / "folder.npy").mkdir()

    for name in ("pipe.npy", "folder.npy", "missing.npy"):
        with pytest.raises(InputError):
            folder.read(name, "scan")


def test_files_that_nobody_was_told_of_go(folder: Folder) -> None:
    kept, dropped, left = folder.files(), folder.files(), folder.files()
    names = [kept.write("labels", SCAN), kept.write("depth", SCAN)]
    gone = dropped.write("labels", SCAN)
    left.write("labels", SCAN)
    (folder.path / "input.npy").write_bytes(b"the host's own")

    kept.keep()
    dropped.discard()
    assert not (folder.path / gone).exists()
    folder.close()

    assert {path.name for path in folder.path.iterdir()} == {*names, "input.npy"}
    with pytest.raises(OutputError):
        folder.files().write("labels", SCAN)


def test_names_differ_between_answers_and_between_workers(folder: Folder) -> None:
    names = [folder.files().write("labels", SCAN), folder.files().write("labels", SCAN)]
    names.append(Folder(folder.path).files().write("labels", SCAN))

    assert len(set(names)) == 3


def test_full_disk_is_told_and_leaves_nothing(folder: Folder) -> None:
    files = folder.files()
    files.write("depth", SCAN)
    with files_up_to(1000), pytest.raises(OutputError) as caught:
        files.write("labels", np.zeros((100, 100, 100), np.uint8))
    files.discard()

    assert "cannot be written" in str(caught.value)
    assert [*folder.path.iterdir()] == []


def test_folder_that_is_gone_is_told(folder: Folder) -> None:
    folder.path.rmdir()

    with pytest.raises(OutputError):
        folder.files().write("labels", SCAN)
    with pytest.raises(InputError):
        folder.read("input.npy", "scan")


def test_closing_does_not_wait_for_a_file_that_hangs(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go_on = threading.Event(), threading.Event()

    def hang(file: object, array: object) -> None:
        started.set()
        go_on.wait()

    monkeypatch.setattr("napari_sparseseg.worker.folder._write_array", hang)
    files = folder.files()
    thread = threading.Thread(target=_quietly, args=(files.write, "labels", SCAN))
    thread.start()
    started.wait()

    folder.close()

    assert [*folder.path.iterdir()] == []
    go_on.set()
    thread.join()


def _quietly(work: Callable[..., object], *arguments: object) -> None:
    with suppress(OutputError):
        work(*arguments)
