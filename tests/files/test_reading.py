"""Reading files: the same scan from every format."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from napari_sparseseg.files import SUFFIXES, read_volume, write_volume
from napari_sparseseg.volume import Volume
from tests.files.samples import OBLIQUE, assert_same_place, itk_image, make_volume, refused

WIDTHS = [f"{kind}{8 * n}" for kind in ("int", "uint") for n in (1, 2, 4, 8)]
WIDTHS += ["float32", "float64"]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", WIDTHS)
def test_a_written_volume_reads_back_the_same(tmp_path: Path, suffix: str, dtype: str) -> None:
    volume = make_volume(dtype)
    write_volume(volume, tmp_path / f"scan.v2{suffix}")
    back = read_volume(str(tmp_path / f"scan.v2{suffix}"))
    np.testing.assert_array_equal(back.data, volume.data)
    assert back.data.dtype == volume.data.dtype
    np.testing.assert_allclose(back.affine, OBLIQUE, atol=1e-5)
    assert back.name == "scan.v2"
    assert [file.name for file in tmp_path.iterdir()] == [f"scan.v2{suffix}"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_voxels_lie_where_itk_says(tmp_path: Path, suffix: str) -> None:
    image = itk_image()
    sitk.WriteImage(image, tmp_path / f"scan{suffix}")
    volume = read_volume(tmp_path / f"scan{suffix}")
    assert_same_place(image, volume)


def test_nifti_scaling_is_applied_in_float32(tmp_path: Path) -> None:
    stored = np.arange(8, dtype=np.int16).reshape(2, 2, 2)
    content = bytearray(nib.Nifti1Image(stored, np.eye(4)).to_bytes())
    content[112:120] = np.array([0.5, -1024], np.float32).tobytes()  # scl_slope, scl_inter
    (tmp_path / "ct.nii").write_bytes(content)
    volume = read_volume(tmp_path / "ct.nii")
    assert volume.data.dtype == np.float32
    np.testing.assert_array_equal(volume.data, stored * 0.5 - 1024)


@pytest.mark.parametrize("codes", [(1, 1), (2, 0), (0, 1), (0, 0)])
def test_sform_counts_before_qform(tmp_path: Path, codes: tuple[int, int]) -> None:
    sform_code, qform_code = codes
    sform, qform = np.diag([2.0, 3.0, 4.0, 1.0]), np.diag([-5.0, 6.0, 7.0, 1.0])
    image = nib.Nifti1Image(make_volume().data, None)
    image.header.set_sform(sform, sform_code)
    image.header.set_qform(qform, qform_code)
    nib.save(image, tmp_path / "scan.nii.gz")
    volume = read_volume(tmp_path / "scan.nii.gz")
    if sform_code:
        np.testing.assert_allclose(volume.affine, sform)
    elif qform_code:
        np.testing.assert_allclose(volume.affine, qform, atol=1e-6)
    else:  # only the spacing is known
        assert volume.spacing == (5, 6, 7)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
def test_nifti_versions_and_byte_orders(tmp_path: Path, kind: Any, order: str) -> None:
    volume = make_volume("float32")
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.float32)
    nib.save(kind(volume.data, OBLIQUE, header), tmp_path / "scan.nii")
    back = read_volume(tmp_path / "scan.nii")
    np.testing.assert_array_equal(back.data, volume.data)
    assert back.data.dtype.isnative


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize("zipped", [True, False])
def test_nifti_is_unpacked_by_content(tmp_path: Path, suffix: str, zipped: bool) -> None:
    volume = make_volume()
    plain = nib.Nifti1Image(volume.data, OBLIQUE).to_bytes()
    path = tmp_path / f"scan{suffix}"
    path.write_bytes(gzip.compress(plain) if zipped else plain)
    back = read_volume(path)
    np.testing.assert_array_equal(back.data, volume.data)
    assert back.name == "scan"


def test_a_read_volume_does_not_depend_on_its_file(tmp_path: Path) -> None:
    volume, path = make_volume(), tmp_path / "scan.nii"
    write_volume(volume, path)
    back = read_volume(path)
    with open(path, "rb+") as stream:
        stream.write(b"\0" * path.stat().st_size)
    np.testing.assert_array_equal(back.data, volume.data)


@pytest.mark.parametrize("shape", [(7, 6, 5, 1), (7, 6, 5, 1, 1)])
def test_one_frame_of_nifti_is_a_volume(tmp_path: Path, shape: tuple[int, ...]) -> None:
    data = make_volume().data
    nib.save(nib.Nifti1Image(data.reshape(shape), OBLIQUE), tmp_path / "scan.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.nii").data, data)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_one_frame_of_itk_is_a_volume(tmp_path: Path, suffix: str) -> None:
    frame = itk_image()
    sitk.WriteImage(sitk.JoinSeries([frame]), tmp_path / f"scan{suffix}")
    sitk.WriteImage(frame, tmp_path / f"frame{suffix}")
    volume = read_volume(tmp_path / f"scan{suffix}")
    expected = read_volume(tmp_path / f"frame{suffix}")
    np.testing.assert_array_equal(volume.data, expected.data)
    np.testing.assert_allclose(volume.affine, expected.affine)


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
def test_several_frames_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scan{suffix}"
    if suffix == ".nii":
        nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), np.eye(4)), path)
    else:
        sitk.WriteImage(sitk.JoinSeries([itk_image(), itk_image()]), path)
    refused(path, "holds 2 frames, 1 to 2; choose one")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_largest_whole_numbers_are_kept(tmp_path: Path, suffix: str) -> None:
    data = np.arange(24, dtype=np.uint64).reshape(2, 3, 4) + np.uint64(2**64 - 24)
    write_volume(Volume(data, OBLIQUE), tmp_path / f"scan{suffix}")
    np.testing.assert_array_equal(read_volume(tmp_path / f"scan{suffix}").data, data)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_values_that_are_not_finite_are_read_and_told_of_later(tmp_path: Path, suffix: str) -> None:
    data = make_volume("float32").data
    data[0, 0, 0], data[1, 1, 1] = np.nan, np.inf
    write_volume(Volume(data, OBLIQUE), tmp_path / f"scan{suffix}")
    volume = read_volume(tmp_path / f"scan{suffix}")
    np.testing.assert_array_equal(volume.data, data)
    assert volume.notes == ()
    assert volume.validated().notes[0].startswith("2 voxels were not finite;")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nifti_scaling_of_floats_keeps_their_width(tmp_path: Path, dtype: str) -> None:
    stored = np.arange(8, dtype=dtype).reshape(2, 2, 2)
    content = bytearray(nib.Nifti1Image(stored, np.eye(4)).to_bytes())
    content[112:120] = np.array([0.5, -1024], np.float32).tobytes()
    (tmp_path / "ct.nii").write_bytes(content)
    volume = read_volume(tmp_path / "ct.nii")
    np.testing.assert_array_equal(volume.data, stored * 0.5 - 1024)
    assert volume.data.dtype == dtype
