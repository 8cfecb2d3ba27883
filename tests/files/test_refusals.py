"""Bad files: one sentence for each."""

from __future__ import annotations

import errno
import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from napari_sparseseg.errors import InputError
from napari_sparseseg.files import SUFFIXES, read_volume, write_volume
from tests.files.samples import assert_one_sentence, itk_image, make_volume, refused


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
def test_slices_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scan{suffix}"
    if suffix == ".nii":
        nib.save(nib.Nifti1Image(np.zeros((4, 4), np.int16), np.eye(4)), path)
    else:
        sitk.WriteImage(itk_image()[:, :, 0], path)
    refused(path, "2 dimensions")


@pytest.mark.parametrize("pixel", [sitk.sitkVectorUInt8, sitk.sitkVectorFloat32])
@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
def test_several_values_per_voxel_are_refused(tmp_path: Path, pixel: int, suffix: str) -> None:
    sitk.WriteImage(sitk.Image((4, 4, 4), pixel, 3), tmp_path / f"scan{suffix}")
    refused(tmp_path / f"scan{suffix}", "several values per voxel")


@pytest.mark.parametrize("dtype", [[("R", "u1"), ("G", "u1"), ("B", "u1")], "complex64"])
def test_colour_and_complex_nifti_are_refused(tmp_path: Path, dtype: Any) -> None:
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), dtype), np.eye(4)), tmp_path / "scan.nii.gz")
    refused(tmp_path / "scan.nii.gz", "several values per voxel")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_files_and_folders_are_refused(tmp_path: Path, suffix: str) -> None:
    refused(tmp_path / f"scan{suffix}", "does not exist")
    (tmp_path / f"scan{suffix}").mkdir()
    refused(tmp_path / f"scan{suffix}", "is a folder")


@pytest.mark.parametrize("name", ["scan.png", "scan", "scan.gz", "nii"])
def test_other_endings_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"scan")
    refused(tmp_path / name, "unknown ending")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.7, 0.98])
def test_files_that_are_cut_short_are_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"scan{suffix}"
    write_volume(make_volume(shape=(20, 21, 22)), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refused(path, "cannot be read")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n" + bytes(900), b"hello\n" * 99])
def test_other_content_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"scan{suffix}"
    path.write_bytes(content)
    refused(path, "cannot be read")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("detached", [True, False])
def test_damaged_compressed_voxels_are_refused(tmp_path: Path, suffix: str, detached: bool) -> None:
    """One wrong byte that the libraries themselves would let pass with wrong voxels."""
    path = tmp_path / f"scan{suffix}"
    if detached:
        sitk.WriteImage(itk_image(size=(20, 21, 22)), path, useCompression=True)
    else:
        write_volume(make_volume(shape=(20, 21, 22)), path)
    read_volume(path)
    voxels = max(tmp_path.iterdir(), key=lambda file: file.stat().st_size)
    content = bytearray(voxels.read_bytes())
    content[len(content) * 3 // 4] ^= 0x55
    voxels.write_bytes(content)
    refused(path, "cannot be read")


@pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
def test_a_header_without_its_voxels_is_refused(tmp_path: Path, suffix: str) -> None:
    sitk.WriteImage(itk_image(), tmp_path / f"scan{suffix}")
    (tmp_path / "scan.raw").unlink()
    refused(tmp_path / f"scan{suffix}", "cannot be read without its file of voxels")


@pytest.mark.parametrize("step", [0.0, -2.0, np.nan])
def test_unusable_nifti_spacing_is_refused(tmp_path: Path, step: float) -> None:
    """Where the spacing decides, for nibabel itself would go on with 1 mm."""
    image = nib.Nifti1Image(make_volume().data, None)
    content = bytearray(image.to_bytes())
    content[84:88] = np.float32(step).tobytes()  # pixdim[2]
    (tmp_path / "scan.nii").write_bytes(content)
    refused(tmp_path / "scan.nii", "voxel spacing")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_header_that_claims_too_much_is_refused(tmp_path: Path, zipped: bool) -> None:
    content = bytearray(nib.Nifti1Image(make_volume().data, np.eye(4)).to_bytes())
    content[42:48] = np.array([30000, 30000, 30000], np.int16).tobytes()
    (tmp_path / "scan.nii").write_bytes(gzip.compress(content) if zipped else content)
    refused(tmp_path / "scan.nii", "too large")


def test_a_forbidden_file_gives_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    write_volume(make_volume(), tmp_path / "scan.nii")
    monkeypatch.setattr(Path, "exists", forbid)
    with pytest.raises(InputError, match="may not be read") as caught:
        read_volume(tmp_path / "scan.nii")
    assert_one_sentence(caught.value)


def test_a_scan_beyond_the_memory_gives_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhaust(*_: Any, **__: Any) -> None:
        raise MemoryError

    write_volume(make_volume(), tmp_path / "scan.nii")
    monkeypatch.setattr(np, "empty", exhaust)
    refused(tmp_path / "scan.nii", "does not fit into memory")
