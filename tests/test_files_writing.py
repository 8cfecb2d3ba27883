"""Writing files: whole or not at all, in a geometry that every program understands."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from napari_sparseseg.errors import OutputError
from napari_sparseseg.files import SUFFIXES, atomic_path, read_volume, write_volume
from napari_sparseseg.volume import Volume

OBLIQUE = np.array(
    [
        [0.0, -1.6, 0.9, 11.0],
        [0.5, 0.0, 0.0, -70.25],
        [0.0, 1.2, 1.2, 3.5],
        [0.0, 0.0, 0.0, 1.0],
    ]
)  # spacing 0.5, 2.0, 1.5 mm; rotated in the R-S plane


def make_volume(dtype: str = "int16", shape: tuple[int, ...] = (7, 6, 5)) -> Volume:
    data = np.random.default_rng(0).integers(0, 200, size=shape).astype(dtype)
    return Volume(data, OBLIQUE, "scan")


def forbid(*_: Any, **__: Any) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


def assert_one_sentence(error: Exception) -> None:
    message = str(error)
    assert message.endswith(".") and ". " not in message and "\n" not in message
    assert ";" in message  # what is wrong; what to do


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_itk_finds_written_voxels_at_their_place(tmp_path: Path, suffix: str) -> None:
    volume = make_volume()
    write_volume(volume, tmp_path / f"scan{suffix}")
    image = sitk.ReadImage(tmp_path / f"scan{suffix}")
    for index in [(0, 0, 0), (6, 0, 0), (0, 5, 0), (0, 0, 4), (3, 2, 1)]:
        right, anterior, superior, _ = volume.affine @ [*index, 1]
        np.testing.assert_allclose(
            image.TransformIndexToPhysicalPoint(index), [-right, -anterior, superior], atol=1e-4
        )
        assert image[index] == volume.data[index]


def test_labels_have_a_header_that_every_program_understands(tmp_path: Path) -> None:
    volume = make_volume("uint8")
    write_volume(volume, tmp_path / "labels.nii.gz")
    header = nib.Nifti1Image.from_filename(tmp_path / "labels.nii.gz").header
    assert header.get_data_dtype() == np.uint8
    assert header.get_xyzt_units()[0] == "mm"
    sform, sform_code = header.get_sform(coded=True)
    qform, qform_code = header.get_qform(coded=True)
    assert (sform_code, qform_code) == (1, 1)
    np.testing.assert_allclose(sform, OBLIQUE, atol=1e-5)
    np.testing.assert_allclose(qform, OBLIQUE, atol=1e-5)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize(
    ("dtype", "stored"), [("bool", "uint8"), ("float16", "float32"), ("int64", "int64")]
)
def test_every_dtype_can_be_written(tmp_path: Path, suffix: str, dtype: str, stored: str) -> None:
    volume = make_volume(dtype)
    write_volume(volume, tmp_path / f"scan{suffix}")
    back = read_volume(tmp_path / f"scan{suffix}")
    assert back.data.dtype == stored
    np.testing.assert_array_equal(back.data, volume.data)


def test_frames_go_to_nifti_only(tmp_path: Path) -> None:
    frames = Volume(np.random.default_rng(2).normal(size=(4, 5, 6, 3)), OBLIQUE)
    write_volume(frames, tmp_path / "frames.nii.gz")
    np.testing.assert_array_equal(
        nib.Nifti1Image.from_filename(tmp_path / "frames.nii.gz").get_fdata(), frames.data
    )
    with pytest.raises(OutputError, match="several frames") as caught:
        write_volume(frames, tmp_path / "frames.nrrd")
    assert_one_sentence(caught.value)
    assert os.listdir(tmp_path) == ["frames.nii.gz"]


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha"])
def test_the_same_volume_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    for name in ("first", "second"):
        write_volume(make_volume(), tmp_path / f"{name}{suffix}")
    first, second = (tmp_path / f"{name}{suffix}" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


@contextmanager
def unwritten(path: Path, match: str) -> Iterator[None]:
    """Expect one sentence, and the folder as it was."""
    before = {file: file.read_bytes() for file in path.parent.iterdir() if file.is_file()}
    with pytest.raises(OutputError, match=match) as caught:
        yield
    assert_one_sentence(caught.value)
    after = {file: file.read_bytes() for file in path.parent.iterdir() if file.is_file()}
    assert after == before


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_existing_files_are_replaced_only_when_asked(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scan{suffix}"
    path.write_bytes(b"mine")
    with unwritten(path, "exists already"):
        write_volume(make_volume(), path)
    write_volume(make_volume(), path, overwrite=True)
    np.testing.assert_array_equal(read_volume(path).data, make_volume().data)
    assert os.listdir(tmp_path) == [path.name]


def test_unusable_targets_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "folder.nii").mkdir()
    for name, match in {
        "missing/scan.nii": "not an existing folder",
        "file/scan.nii": "not an existing folder",
        "folder.nii": "is a folder",
        "scan.png": "unknown ending",
        "n" * 300 + ".nii": "name too long",
    }.items():
        with pytest.raises(OutputError, match=f"(?i){match}") as caught:
            write_volume(make_volume(), tmp_path / name, overwrite=True)
        assert_one_sentence(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.nii"]


@pytest.mark.parametrize("function", ["open", "fsync", "replace"])
@pytest.mark.parametrize(
    ("code", "match"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "disk is full"),
        (errno.EACCES, "read-only"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "Input/output error"),
    ],
)
@pytest.mark.parametrize("suffix", [".nii.gz", ".mha"])
def test_system_errors_leave_nothing_behind(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    code: int,
    match: str,
    suffix: str,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    path = tmp_path / f"scan{suffix}"
    path.write_bytes(b"mine")
    monkeypatch.setattr(os, function, fail)
    with unwritten(path, match):
        write_volume(make_volume(), path, overwrite=True)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path: Path, suffix: str) -> None:
    """A limit on the size of files stands in for the disk: the libraries' own writes fail."""
    volume = make_volume("float64", (30, 30, 30))
    volume = Volume(volume.data + np.random.default_rng(3).normal(size=volume.shape), OBLIQUE)
    path = tmp_path / f"scan{suffix}"
    path.write_bytes(b"mine")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with unwritten(path, "cannot be written"):
            write_volume(volume, path, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_forbidden_folder_gives_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_dir", forbid)
    with pytest.raises(OutputError, match="read-only") as caught:
        write_volume(make_volume(), tmp_path / "scan.nii")
    assert_one_sentence(caught.value)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.b.nii.gz", ".nii.gz"), ("report.v2.json", ".json"), ("a.png", ".png"), ("plain", "")],
)
def test_the_temporary_file_has_the_suffix_and_the_folder(
    tmp_path: Path, name: str, suffix: str
) -> None:
    with atomic_path(tmp_path / name) as temporary:
        assert temporary.parent == tmp_path
        assert "".join(temporary.suffixes) == suffix
        assert not (tmp_path / name).exists()
        temporary.write_text("done")
    assert (tmp_path / name).read_text() == "done"
    assert os.listdir(tmp_path) == [name]


def test_the_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    with atomic_path(tmp_path / "ours") as temporary:
        temporary.write_text("done")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("failure", [ValueError("no"), KeyboardInterrupt(), OutputError("no")])
def test_a_failing_block_leaves_nothing_and_keeps_its_error(
    tmp_path: Path, failure: BaseException
) -> None:
    path = tmp_path / "report.json"
    path.write_text("mine")
    with pytest.raises(type(failure)) as caught, atomic_path(path, overwrite=True) as temporary:
        temporary.write_text("half")
        raise failure
    assert caught.value is failure
    assert path.read_text() == "mine"
    assert os.listdir(tmp_path) == ["report.json"]


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with pytest.raises(OutputError, match="exists already"), atomic_path(path) as temporary:
        temporary.write_text("ours")
        path.write_text("theirs")
    assert path.read_text() == "theirs"
    assert os.listdir(tmp_path) == ["report.json"]


def test_a_dangling_link_counts_as_existing(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="exists already"), atomic_path(path):
        raise AssertionError("the block must not run")
    assert path.is_symlink()
