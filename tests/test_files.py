"""Reading files: the same scan from every format, one sentence for a bad one."""

from __future__ import annotations

import errno
import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_sparseseg.errors import InputError
from napari_sparseseg.files import SUFFIXES, read_volume, write_volume
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


def itk_image(pixel: int = sitk.sitkInt16, size: tuple[int, ...] = (7, 6, 5)) -> sitk.Image:
    """An image placed by ITK's own means: LPS, direction cosines."""
    data = np.random.default_rng(1).integers(0, 200, size=size[::-1])
    image = sitk.Cast(sitk.GetImageFromArray(data), pixel)
    image.SetSpacing((0.5, 2.0, 1.5))
    image.SetOrigin((-11.0, 70.25, 3.5))
    image.SetDirection((0.0, 0.8, -0.6, -1.0, 0.0, 0.0, 0.0, 0.6, 0.8))
    return image


def assert_one_sentence(error: Exception) -> None:
    message = str(error)
    assert message.endswith(".") and ". " not in message and "\n" not in message
    assert ";" in message  # what is wrong; what to do


def refused(path: Path, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        read_volume(path)
    assert_one_sentence(caught.value)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
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
    for index in [(0, 0, 0), (6, 0, 0), (0, 5, 0), (0, 0, 4), (3, 2, 1)]:
        left, posterior, superior = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(
            volume.affine @ [*index, 1], [-left, -posterior, superior, 1], atol=1e-4
        )
        assert volume.data[index] == image[index]
    assert volume.shape == image.GetSize()


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
    refused(tmp_path / f"scan{suffix}", "cannot be read")


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


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(changes=st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1))
def test_a_damaged_nifti_header_gives_a_volume_or_a_sentence(
    tmp_path: Path, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(nib.Nifti1Image(make_volume().data, OBLIQUE).to_bytes())
    for place, value in changes:
        content[place] = value
    path = tmp_path / "scan.nii"
    path.write_bytes(content)
    try:
        volume = read_volume(path)
    except InputError as error:
        assert_one_sentence(error)
    else:
        assert volume.data.ndim == 3 and volume.affine.shape == (4, 4)


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
