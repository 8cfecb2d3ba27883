"""Files that lie: what a header claims is held against the file before anything is taken."""

from __future__ import annotations

import gzip
import os
import socket
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from napari_sparseseg.errors import InputError
from napari_sparseseg.files import READABLE, parts, read_volume
from napari_sparseseg.files import voxels as voxels_module
from tests.files.samples import (
    OBLIQUE,
    assert_one_sentence,
    make_volume,
    metaimage_file,
    nrrd_file,
    refused,
    write_samples,
)

MILLION = 10**6


@contextmanager
def little_memory(limit: float) -> Iterator[None]:
    """Check that no more than `limit` bytes are allocated at any time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def claims(path: Path, *size: int) -> Path:
    """Write a file of a few bytes whose header claims `size` voxels of 16 bits."""
    text = " ".join(map(str, size))
    n = len(size)
    if path.suffix in (".nrrd", ".nhdr"):
        spacings = f"spacings: {' '.join('1' * n)}"
        return nrrd_file(path, f"dimension: {n}", f"sizes: {text}", spacings)
    if path.suffix in (".mha", ".mhd"):
        matrix = " ".join(map(str, np.eye(n, dtype=int).ravel()))
        ones = " ".join("1" * n)
        return metaimage_file(
            path,
            f"NDims = {n}",
            f"DimSize = {text}",
            f"TransformMatrix = {matrix}",
            f"Offset = {ones}",
            f"ElementSpacing = {ones}",
        )
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), OBLIQUE)
    content = bytearray(image.to_bytes())
    content[40 : 42 + 2 * n] = np.array([n, *size], np.int16).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.nhdr", "a.mha", "a.mhd"])
def test_a_size_that_the_file_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    read_volume(write_samples(tmp_path)["nifti"])  # what the libraries keep
    with little_memory(20 * MILLION):
        refused(claims(tmp_path / name, 1200, 1200, 1200), "cannot be read")
        refused(claims(tmp_path / name, 2000, 2000, 2000), "too large")
        refused(claims(tmp_path / name, 20, 20, 20, 9999), "cannot be read")
        refused(claims(tmp_path / name, 2, 2, 2, 20000), "20000 frames, outside 1 to 10000")
        with pytest.raises(InputError):
            parts(claims(tmp_path / name, 20, 20, 20, 9999))


def packed_file(path: Path, content: bytes) -> Path:
    """Write a packed file of 2 x 3 x 4 voxels (int16) with other voxels than it should have."""
    if path.suffix == ".nrrd":
        return nrrd_file(path, "encoding: gzip", "spacings: 1 1 1", content=gzip.compress(content))
    if path.suffix == ".mha":
        packed = zlib.compress(content)
        return metaimage_file(path, "CompressedData = True", content=packed)
    head = nib.Nifti1Image(np.zeros((2, 3, 4), np.int16), OBLIQUE).to_bytes()[:352]
    path.write_bytes(gzip.compress(head + content))
    return path


PACKED = ["a.nii.gz", "a.nrrd", "a.mha"]


@pytest.mark.parametrize("name", PACKED)
def test_a_bomb_is_not_unpacked(tmp_path: Path, name: str) -> None:
    """It holds a thousand times what its header says."""
    path = packed_file(tmp_path / name, bytes(200 * MILLION))
    assert path.stat().st_size < MILLION
    with little_memory(20 * MILLION):
        refused(path, "cannot be read")


@pytest.mark.parametrize("name", PACKED)
def test_some_bytes_behind_the_voxels_are_passed_over(tmp_path: Path, name: str) -> None:
    values = np.arange(24, dtype="<i2")
    path = packed_file(tmp_path / name, values.tobytes() + bytes(500))
    np.testing.assert_array_equal(read_volume(path).data.ravel(order="F"), values)


@pytest.mark.parametrize("cut", [1, 8, 20])
@pytest.mark.parametrize("name", PACKED)
def test_a_packed_stream_without_its_end_is_refused(tmp_path: Path, name: str, cut: int) -> None:
    path = packed_file(tmp_path / name, np.random.default_rng(0).bytes(48))
    path.write_bytes(path.read_bytes()[:-cut])
    refused(path, "cannot be read")


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd"])
def test_gzip_may_have_several_members(tmp_path: Path, name: str) -> None:
    """As bgzip and parallel programs write it; the last one may be a bomb."""
    volume = make_volume()
    content = volume.data.tobytes(order="F")
    if name.endswith(".gz"):
        content = nib.Nifti1Image(volume.data, OBLIQUE).to_bytes()
    members = [gzip.compress(content[n : n + 100]) for n in range(0, len(content), 100)]
    path = tmp_path / name

    def write(*more: bytes) -> None:
        together = b"".join([*members, *more])
        if name.endswith(".gz"):
            path.write_bytes(together)
        else:
            fields = ("sizes: 7 6 5", "spacings: 1 1 1", "encoding: gzip")
            nrrd_file(path, *fields, content=together)

    write()
    np.testing.assert_array_equal(read_volume(path).data, volume.data)
    write(bytes(100))  # padding
    np.testing.assert_array_equal(read_volume(path).data, volume.data)
    write(gzip.compress(bytes(50 * MILLION)))
    refused(path, "cannot be read")
    write(members[0][:-4])
    refused(path, "cannot be read")


def outside(folder: Path) -> dict[str, str]:
    """Name files that lie outside a folder, all of them existing."""
    secret = folder.parent / "secret.raw"
    secret.write_bytes(bytes(100))
    (folder / "link.raw").symlink_to(secret)
    (folder / "up").symlink_to(folder.parent)
    return {
        "absolute": str(secret),
        "above": "../secret.raw",
        "around": "./x/../../secret.raw",
        "link": "link.raw",
        "linked folder": "up/secret.raw",
    }


@pytest.mark.parametrize("way", ["absolute", "above", "around", "link", "linked folder"])
@pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
def test_voxels_outside_the_folder_are_refused(tmp_path: Path, suffix: str, way: str) -> None:
    folder = tmp_path / "scans"
    (folder / "x").mkdir(parents=True)
    name = outside(folder)[way]
    if suffix == ".nhdr":
        path = nrrd_file(folder / "a.nhdr", "spacings: 1 1 1", f"data file: {name}")
    else:
        path = metaimage_file(folder / "a.mhd", f"ElementDataFile = {name}")
    refused(path, "outside its own folder")


def test_the_voxels_of_a_pair_outside_the_folder_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    nib.save(nib.Nifti1Pair(make_volume().data, OBLIQUE), folder / "a.img")
    (folder / "a.img").rename(tmp_path / "b.img")
    (folder / "a.img").symlink_to(tmp_path / "b.img")
    refused(folder / "a.hdr", "outside its own folder")


@pytest.mark.parametrize("name", ["below/a.raw", "./below/../a.raw", "list.raw", "50 %.raw"])
@pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
def test_voxels_in_the_folder_or_below_are_read(tmp_path: Path, suffix: str, name: str) -> None:
    (tmp_path / "below").mkdir()
    values = np.arange(24, dtype="<i2")
    (tmp_path / name).write_bytes(values.tobytes())
    if suffix == ".nhdr":
        path = nrrd_file(tmp_path / "a.nhdr", "spacings: 1 1 1", f"data file: {name}")
    else:
        path = metaimage_file(tmp_path / "a.mhd", f"ElementDataFile = {name}")
    np.testing.assert_array_equal(read_volume(path).data.ravel(order="F"), values)


@pytest.mark.parametrize("start", [b"NRRD0005\n", b"NDims = 3\n"])
@pytest.mark.parametrize("line", [b"# " + b"x" * 62 + b"\n", b"x"])
def test_a_header_without_an_end_is_refused(tmp_path: Path, start: bytes, line: bytes) -> None:
    path = tmp_path / ("a.nrrd" if start.startswith(b"NRRD") else "a.mha")
    path.write_bytes(start + line * (30 * MILLION // len(line)))
    with little_memory(25 * MILLION):
        refused(path, "cannot be read")


@pytest.mark.parametrize("size", [16, 2**31 - 16, -16, 0])
@pytest.mark.parametrize("zipped", [True, False])
def test_the_size_of_an_extension_is_nothing_to_go_by(
    tmp_path: Path, size: int, zipped: bool
) -> None:
    volume = make_volume()
    image = nib.Nifti1Image(volume.data, OBLIQUE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 40))
    content = bytearray(image.to_bytes())
    content[352:356] = np.int32(size).tobytes()
    path = tmp_path / "a.nii"
    path.write_bytes(gzip.compress(content) if zipped else content)
    with little_memory(20 * MILLION):
        np.testing.assert_array_equal(read_volume(path).data, volume.data)


@pytest.mark.parametrize("offset", [0, 347, 1e4, 1e30, -352, np.nan, np.inf])
@pytest.mark.parametrize("zipped", [True, False])
def test_voxels_that_begin_nowhere_are_refused(tmp_path: Path, offset: float, zipped: bool) -> None:
    content = bytearray(nib.Nifti1Image(make_volume().data, OBLIQUE).to_bytes())
    content[108:112] = np.float32(offset).tobytes()
    path = tmp_path / "a.nii"
    path.write_bytes(gzip.compress(content) if zipped else content)
    refused(path, "cannot be read")


@pytest.mark.parametrize("suffix", READABLE)
def test_an_empty_file_is_refused(tmp_path: Path, suffix: str) -> None:
    for name in ("a.hdr", "a.img", f"a{suffix}"):
        (tmp_path / name).write_bytes(b"")
    refused(tmp_path / f"a{suffix}", "cannot be read")


@pytest.mark.parametrize("suffix", READABLE)
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_what_is_no_file_of_bytes_is_refused(tmp_path: Path, suffix: str, kind: str) -> None:
    """And not waited for: a pipe without a writer gives nothing for ever."""
    for name in ("a.hdr", "a.img"):
        (tmp_path / name).write_bytes(b"")
    path = tmp_path / f"a{suffix}"
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        here = os.getcwd()
        os.chdir(tmp_path)  # a socket wants a short name
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
        os.chdir(here)
    refused(path, "is not a regular file")


def change(path: Path, how: str) -> None:
    if how == "vanishes":
        path.unlink()
    elif how == "is cut short":
        os.truncate(path, path.stat().st_size // 2)
    else:
        path.write_bytes(path.read_bytes() + b"more")


@pytest.mark.parametrize("how", ["vanishes", "is cut short"])
@pytest.mark.parametrize("name", ["nifti", "nrrd detached", "metaimage", "analyze"])
def test_a_file_that_changes_behind_its_header_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, how: str
) -> None:
    path = write_samples(tmp_path)[name]
    before(monkeypatch, "open_regular", lambda file: change(file, how))
    with pytest.raises(InputError) as caught:
        read_volume(path)
    assert_one_sentence(caught.value)


@pytest.mark.parametrize("name", ["nifti", "nifti packed", "nrrd detached"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = write_samples(tmp_path)[name]
    data = path.with_suffix(".raw") if path.suffix == ".nhdr" else path
    before(monkeypatch, "_values", lambda *_: change(data, "grows"))
    with pytest.raises(InputError, match="changed while it was read") as caught:
        read_volume(path)
    assert_one_sentence(caught.value)


def before(monkeypatch: pytest.MonkeyPatch, name: str, do: Callable[..., None]) -> None:
    """Let something happen just before a step of reading the voxels."""
    real = getattr(voxels_module, name)

    def step(*arguments: object) -> object:
        do(*arguments)
        return real(*arguments)

    monkeypatch.setattr(voxels_module, name, step)


def test_a_disk_that_fails_gives_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    path = write_samples(tmp_path)["nrrd"]
    before(monkeypatch, "_values", fail)
    refused(path, "Input/output error; check the disk")


@pytest.mark.parametrize("what", ["nrrd", "nrrd detached", "metaimage", "metaimage detached"])
def test_itk_is_given_no_file_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    given: list[str] = []

    class Reader(sitk.ImageFileReader):  # type: ignore[misc]
        def SetFileName(self, name: str) -> None:
            given.append(Path(name).read_text())
            super().SetFileName(name)

    path = write_samples(tmp_path)[what]
    monkeypatch.setattr(sitk, "ImageFileReader", Reader)
    read_volume(path)
    (header,) = given
    assert ("sizes: 7 6 5" if "nrrd" in what else "DimSize = 7 6 5") in header
    assert len(header) < 1000 and ".raw" not in header
