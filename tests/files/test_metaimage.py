"""MetaImage headers: what ITK passes over without a word, and what is made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from napari_sparseseg.errors import InputError
from napari_sparseseg.files import read_volume
from tests.files.samples import metaimage_file, refused

VALUES = np.arange(24, dtype="<i2")


def test_a_plain_one_needs_no_note(tmp_path: Path) -> None:
    volume = read_volume(metaimage_file(tmp_path / "scan.mha", content=VALUES.tobytes()))
    expected = [[-1, 0, 0, -10], [0, -2, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]]
    np.testing.assert_array_equal(volume.affine, expected)
    np.testing.assert_array_equal(volume.data.ravel(order="F"), VALUES)
    assert volume.notes == ()


def test_a_centre_of_rotation_is_left_out_and_told(tmp_path: Path) -> None:
    plain = read_volume(metaimage_file(tmp_path / "plain.mha"))
    path = metaimage_file(tmp_path / "scan.mha", "CenterOfRotation = 5 5 5")
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.affine, plain.affine)
    assert volume.notes == (
        "The centre of rotation that the file names was left out, as ITK does.",
    )


@pytest.mark.parametrize(("unit", "factor"), [("um", 1e-3), ("cm", 10.0), ("mm", 1.0), ("?", 1.0)])
def test_units_become_millimetres(tmp_path: Path, unit: str, factor: float) -> None:
    volume = read_volume(metaimage_file(tmp_path / "scan.mha", f"DistanceUnits = {unit}"))
    np.testing.assert_allclose(volume.spacing, np.multiply((1, 2, 3), factor))
    assert len(volume.notes) == (factor != 1)


def without(path: Path, *keys: bytes) -> Path:
    lines = metaimage_file(path).read_bytes().split(b"\n")
    path.write_bytes(b"\n".join(line for line in lines if not line.startswith(keys)))
    return path


def test_missing_directions_are_told(tmp_path: Path) -> None:
    (note,) = read_volume(without(tmp_path / "scan.mha", b"TransformMatrix")).notes
    assert note.startswith("The file does not say how its axes lie in the patient;")


def test_a_missing_spacing_is_refused(tmp_path: Path) -> None:
    refused(without(tmp_path / "scan.mha", b"ElementSpacing"), "does not give its voxel spacing")


@pytest.mark.parametrize(
    ("matrix", "match"),
    [
        ("2 0 0 0 1 0 0 0 1", "not of unit length"),
        ("0 0 0 0 1 0 0 0 1", "not of unit length"),
        ("1 0 0 0 1 0 0 0", "cannot be read"),
        ("1 0 0 0 1 0 0 0 1 0", "cannot be read"),
        ("1 0 0 0 1 0 0 0 x", "cannot be read"),
        ("nan 0 0 0 1 0 0 0 1", "not of unit length"),
    ],
)
def test_a_matrix_that_is_no_rotation_is_refused(tmp_path: Path, matrix: str, match: str) -> None:
    refused(metaimage_file(tmp_path / "scan.mha", f"TransformMatrix = {matrix}"), match)


def test_a_sheared_matrix_comes_to_the_check_of_the_volume(tmp_path: Path) -> None:
    path = metaimage_file(
        tmp_path / "scan.mha",
        "TransformMatrix = 1 0 0 0.6 0.8 0 0 0 1",
        content=VALUES.tobytes(),
    )
    with pytest.raises(InputError, match="not at right angles"):
        read_volume(path).validated()


@pytest.mark.parametrize("spacing", ["0 2 3", "-1 2 3", "nan 2 3", "inf 2 3"])
def test_an_unusable_spacing_is_refused(tmp_path: Path, spacing: str) -> None:
    refused(metaimage_file(tmp_path / "scan.mha", f"ElementSpacing = {spacing}"), "voxel spacing")


@pytest.mark.parametrize(
    "field",
    [
        "Rotation = 1 0 0 0 1 0 0 0 1",
        "Position = 1 2 3",
        "ElementType = MET_OTHER",
        "ElementByteOrderMSB = True",
    ],
)
def test_what_is_said_twice_or_unknown_is_refused(tmp_path: Path, field: str) -> None:
    refused(metaimage_file(tmp_path / "scan.mha", field), "cannot be read|several values")


def test_a_field_twice_is_refused(tmp_path: Path) -> None:
    """ITK takes the last one."""
    path = metaimage_file(tmp_path / "scan.mha")
    path.write_bytes(path.read_bytes().replace(b"DimSize", b"DimSize = 3 3 3\nDimSize"))
    refused(path, "cannot be read")


@pytest.mark.parametrize("key", ["BinaryDataByteOrderMSB", "ElementByteOrderMSB"])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("MET_CHAR", "i1"),
        ("MET_UCHAR", "u1"),
        ("MET_USHORT", "u2"),
        ("MET_INT", "i4"),
        ("MET_LONG", "i4"),
        ("MET_LONG_LONG", "i8"),
        ("MET_ULONG_LONG", "u8"),
        ("MET_FLOAT", "f4"),
        ("MET_DOUBLE", "f8"),
    ],
)
def test_every_type_in_the_other_order_of_bytes(
    tmp_path: Path, name: str, kind: str, key: str
) -> None:
    content = VALUES.astype(f">{kind}").tobytes()
    path = metaimage_file(tmp_path / "scan.mha", f"ElementType = {name}", content=content)
    order = b"BinaryDataByteOrderMSB = False"
    path.write_bytes(path.read_bytes().replace(order, f"{key} = True".encode()))
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.data.ravel(order="F"), VALUES)
    assert volume.data.dtype == np.dtype(kind) and volume.data.dtype.isnative
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(path)).T, volume.data)


@pytest.mark.parametrize("skip", [0, 10, -1])
def test_bytes_before_the_voxels_are_passed_over(tmp_path: Path, skip: int) -> None:
    before = {0: 0, 10: 10, -1: 99}[skip]
    (tmp_path / "voxels.raw").write_bytes(b"x" * before + VALUES.tobytes())
    path = metaimage_file(
        tmp_path / "scan.mhd", f"HeaderSize = {skip}", "ElementDataFile = voxels.raw", content=b""
    )
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.data.ravel(order="F"), VALUES)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(path)).T, volume.data)


@pytest.mark.parametrize("data_file", ["LIST", "LIST 2D", "slice%03d.raw 1 4 1"])
def test_lists_of_files_are_refused(tmp_path: Path, data_file: str) -> None:
    path = metaimage_file(tmp_path / "scan.mhd", f"ElementDataFile = {data_file}")
    refused(path, "several files")


def test_voxels_as_text_are_refused(tmp_path: Path) -> None:
    path = metaimage_file(tmp_path / "scan.mha", "BinaryData = False", content=b"1 " * 24)
    refused(path, "text or in a packing other than gzip")


def test_free_text_is_passed_over(tmp_path: Path) -> None:
    path = metaimage_file(tmp_path / "scan.mha", "0008|0060 = MR", "Comment = a = b: c")
    assert read_volume(path).shape == (2, 3, 4)


@pytest.mark.parametrize("line", [b"Comm", b"CenterOfRotation =", b"CenterOfRotation = "])
@pytest.mark.parametrize("place", [b"NDims", b"TransformMatrix"])
def test_a_line_without_a_value_is_refused(tmp_path: Path, place: bytes, line: bytes) -> None:
    """ITK would take the line behind it as its value, and do without that one."""
    path = metaimage_file(tmp_path / "scan.mha")
    path.write_bytes(path.read_bytes().replace(place, line + b"\n" + place))
    refused(path, "cannot be read")


def test_another_object_is_refused(tmp_path: Path) -> None:
    refused(metaimage_file(tmp_path / "scan.mha", "ObjectType = Tube"), "cannot be read")
