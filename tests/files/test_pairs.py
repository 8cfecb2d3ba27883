"""Two files, one scan: Analyze 7.5 and NIfTI pairs, by the name of either."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from napari_sparseseg.files import read_volume
from tests.files.samples import OBLIQUE, make_volume, refused

NOTE = (
    "Analyze files do not say for certain how their axes lie; they were taken to run to the left, "
    "the front and the top.",
)


def analyze(
    path: Path, dtype: str = "int16", kind: Any = nib.AnalyzeImage, order: str = "<", **fields: Any
) -> Path:
    header = kind.header_class(endianness=order)
    header.set_data_dtype(dtype)
    image = kind(make_volume(dtype).data, np.diag([-0.5, 2.0, 1.5, 1.0]), header)
    for name, value in fields.items():
        image.header[name] = value
    files = {"header": ".hdr", "image": ".img", "mat": ".unused"}
    image.to_file_map({kind: holder(path, suffix) for kind, suffix in files.items()})
    return path


def holder(path: Path, suffix: str) -> Any:
    return nib.FileHolder(str(path.with_suffix(suffix)))


@pytest.mark.parametrize("suffix", [".hdr", ".img"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32", "float64"])
def test_analyze_is_what_nibabel_reads(tmp_path: Path, suffix: str, order: str, dtype: str) -> None:
    path = analyze(tmp_path / f"old{suffix}", dtype, order=order)
    volume, expected = read_volume(path), nib.load(path)
    np.testing.assert_array_equal(volume.data, make_volume(dtype).data)
    np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-6)
    assert (volume.orientation, volume.name, volume.notes) == ("LAS", "old", NOTE)
    assert volume.data.dtype == np.dtype(dtype)


def test_the_origin_and_the_scale_of_spm_count(tmp_path: Path) -> None:
    path = analyze(
        tmp_path / "old.img",
        kind=nib.Spm99AnalyzeImage,
        origin=[3, 4, 2, 0, 0],
    )
    content = bytearray(path.with_suffix(".hdr").read_bytes())
    content[112:116] = np.float32(0.25).tobytes()
    path.with_suffix(".hdr").write_bytes(content)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.affine @ [2, 3, 1, 1], [0, 0, 0, 1])
    np.testing.assert_array_equal(volume.data, make_volume().data * 0.25)
    assert volume.data.dtype == np.float32


@pytest.mark.parametrize("orient", [1, 2, 3, 4, 5])
def test_slices_that_are_not_transverse_are_refused(tmp_path: Path, orient: int) -> None:
    path = analyze(tmp_path / "old.hdr")
    content = bytearray(path.read_bytes())
    content[252] = orient
    path.write_bytes(content)
    refused(path, "not transverse")


def test_a_place_in_another_file_is_refused(tmp_path: Path) -> None:
    path = analyze(tmp_path / "old.hdr")
    (tmp_path / "old.mat").write_bytes(b"MATLAB 5.0")
    refused(path, r"\.mat file beside it")


@pytest.mark.parametrize("step", [0.0, -2.0, np.nan])
def test_unusable_spacing_is_refused(tmp_path: Path, step: float) -> None:
    path = analyze(tmp_path / "old.hdr")
    content = bytearray(path.read_bytes())
    content[80:84] = np.float32(step).tobytes()
    path.write_bytes(content)
    refused(path, "voxel spacing")


@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Nifti2Pair])
@pytest.mark.parametrize("suffix", [".hdr", ".img", ".IMG"])
def test_a_nifti_pair_has_its_own_place(tmp_path: Path, kind: Any, suffix: str) -> None:
    image = kind(make_volume().data, OBLIQUE)
    other = ".HDR" if suffix.isupper() else ".hdr"
    image.to_file_map(
        {
            "header": holder(tmp_path / "pair", other),
            "image": holder(tmp_path / "pair", ".IMG" if suffix.isupper() else ".img"),
        }
    )
    volume = read_volume(tmp_path / f"pair{suffix}")
    np.testing.assert_array_equal(volume.data, make_volume().data)
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-6)
    assert volume.notes == ()


def test_packed_voxels_of_a_pair_are_unpacked_by_content(tmp_path: Path) -> None:
    path = analyze(tmp_path / "old.img")
    path.write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(read_volume(path).data, make_volume().data)


@pytest.mark.parametrize("missing", [".hdr", ".img"])
def test_one_file_alone_is_refused(tmp_path: Path, missing: str) -> None:
    path = analyze(tmp_path / "old.hdr")
    path.with_suffix(missing).unlink()
    there = path.with_suffix(".img" if missing == ".hdr" else ".hdr")
    refused(there, f"cannot be read without old{missing}, which is missing")


def test_a_single_nifti_is_no_pair_and_a_pair_no_single(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(make_volume().data, OBLIQUE), tmp_path / "scan.nii")
    (tmp_path / "scan.nii").rename(tmp_path / "scan.hdr")
    (tmp_path / "scan.img").write_bytes(bytes(500))
    refused(tmp_path / "scan.hdr", "cannot be read")
    nib.save(nib.Nifti1Pair(make_volume().data, OBLIQUE), tmp_path / "pair.hdr")
    (tmp_path / "pair.hdr").rename(tmp_path / "pair.nii")
    refused(tmp_path / "pair.nii", "cannot be read")


def test_voxels_that_are_cut_short_are_refused(tmp_path: Path) -> None:
    path = analyze(tmp_path / "old.img")
    path.write_bytes(path.read_bytes()[:-1])
    refused(path, "cannot be read")
