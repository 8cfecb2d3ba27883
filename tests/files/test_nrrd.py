"""NRRD headers: what ITK passes over without a word, and what is made of it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from napari_sparseseg.errors import InputError
from napari_sparseseg.files import read_volume
from tests.files.samples import nrrd_file, refused

VALUES = np.arange(24, dtype="<i2")
DIRECTIONS = "space directions: (1,0,0) (0,2,0) (0,0,3)"
ORIGIN = "space origin: (10,20,30)"
NAMELESS = (
    "The file does not name its space; its axes were taken to run to the left, the back and the "
    "top."
)


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (-1, -1)),
        ("LPS", (-1, -1)),
        ("Right-Anterior-Superior", (1, 1)),
        ("RAS", (1, 1)),
        ("left-anterior-superior", (-1, 1)),
        ("LAS", (-1, 1)),
    ],
)
def test_named_spaces(tmp_path: Path, space: str, signs: tuple[int, int]) -> None:
    path = nrrd_file(tmp_path / "scan.nrrd", f"space: {space}", DIRECTIONS, ORIGIN)
    volume = read_volume(path)
    x, y = signs
    expected = [[x, 0, 0, 10 * x], [0, 2 * y, 0, 20 * y], [0, 0, 3, 30], [0, 0, 0, 1]]
    np.testing.assert_array_equal(volume.affine, expected)
    assert volume.notes == ()


@pytest.mark.parametrize(
    "space", ["space: scanner-xyz", "space: 3D-right-handed", "space dimension: 3"]
)
def test_nameless_spaces_are_told(tmp_path: Path, space: str) -> None:
    volume = read_volume(nrrd_file(tmp_path / "scan.nrrd", space, DIRECTIONS, ORIGIN))
    assert volume.notes == (NAMELESS,)
    assert volume.orientation == "LPS"


@pytest.mark.parametrize(
    "fields",
    [
        ("space: left-pos", DIRECTIONS),
        ("space: ", DIRECTIONS),
        (DIRECTIONS,),
        ("spaec: LPS", "spacings: 1 2 3"),
        ("spacings: 1 2 3", "kinds: domain domain"),
    ],
)
def test_damaged_names_are_refused(tmp_path: Path, fields: tuple[str, ...]) -> None:
    refused(nrrd_file(tmp_path / "scan.nrrd", *fields), "cannot be read")


def test_a_mirrored_space_is_refused(tmp_path: Path) -> None:
    path = nrrd_file(tmp_path / "scan.nrrd", "space: 3D-left-handed", DIRECTIONS)
    refused(path, "mirrored space")


def test_a_spacing_without_directions_is_told(tmp_path: Path) -> None:
    volume = read_volume(nrrd_file(tmp_path / "scan.nrrd", "spacings: 1 2 3"))
    assert volume.spacing == (1, 2, 3) and volume.orientation == "LPS"
    assert volume.notes[0].startswith("The file does not say how its axes lie in the patient;")


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ("spacings: nan 2 3",),
        ("spacings: 1 2",),
        ("axis mins: 10 20 30", "axis maxs: 14 26 38"),
    ],
)
def test_a_missing_spacing_is_refused(tmp_path: Path, fields: tuple[str, ...]) -> None:
    """ITK would take 1 mm."""
    refused(nrrd_file(tmp_path / "scan.nrrd", *fields), "does not give its voxel spacing")


@pytest.mark.parametrize("spacings", ["0 2 3", "-1 2 3"])
def test_an_unusable_spacing_is_refused(tmp_path: Path, spacings: str) -> None:
    refused(
        nrrd_file(tmp_path / "scan.nrrd", f"spacings: {spacings}"), "voxel spacing|cannot be read"
    )


@pytest.mark.parametrize("first", ["none", "(0,0,0)", "(nan,0,0)", "(inf,0,0)", "(1,0)"])
def test_directions_that_are_none_are_refused(tmp_path: Path, first: str) -> None:
    """ITK would invent a direction for "none"."""
    path = nrrd_file(
        tmp_path / "scan.nrrd", "space: RAS", f"space directions: {first} (0,2,0) (0,0,3)"
    )
    refused(path, "cannot be read|voxel spacing")


def test_sheared_directions_come_to_the_check_of_the_volume(tmp_path: Path) -> None:
    path = nrrd_file(
        tmp_path / "scan.nrrd",
        "space: RAS",
        "space directions: (1,0,0) (1,2,0) (0,0,3)",
        content=VALUES.tobytes(),
    )
    with pytest.raises(InputError, match="not at right angles"):
        read_volume(path).validated()


@pytest.mark.parametrize(
    ("unit", "word", "factor"),
    [("um", "micrometres", 1e-3), ("cm", "centimetres", 10), ("m", "metres", 1e3), ("mm", "", 1)],
)
def test_units_become_millimetres(tmp_path: Path, unit: str, word: str, factor: float) -> None:
    spaced = (DIRECTIONS, "space: LPS", ORIGIN, f'space units: "{unit}" "{unit}" "{unit}"')
    volume = read_volume(nrrd_file(tmp_path / "scan.nrrd", *spaced))
    np.testing.assert_allclose(volume.spacing, np.multiply((1, 2, 3), factor))
    np.testing.assert_allclose(volume.affine[:3, 3], np.multiply((-10, -20, 30), factor))
    converted = f"The file gives lengths in {word}; they were converted to millimetres."
    assert volume.notes == ((converted,) if word else ())


def test_mixed_units_are_refused(tmp_path: Path) -> None:
    fields = ("spacings: 1 2 3", 'units: "mm" "mm" "cm"')
    refused(nrrd_file(tmp_path / "scan.nrrd", *fields), "several units")


@pytest.mark.parametrize("encoding", ["ascii", "hex", "bzip2", "gzip2", "RAW "])
def test_other_encodings_are_refused(tmp_path: Path, encoding: str) -> None:
    path = nrrd_file(tmp_path / "scan.nrrd", "spacings: 1 2 3", f"encoding: {encoding}")
    if encoding.strip() == "RAW":
        read_volume(path)
    else:
        refused(path, "text or in a packing other than gzip")


@pytest.mark.parametrize("endian", ["little", "big", ""])
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_type_and_order_of_bytes(tmp_path: Path, kind: str, endian: str) -> None:
    names = {"i": "int{}", "u": "uint{}", "f": "float"}
    name = names[kind[0]].format(8 * int(kind[1])) if kind != "f8" else "double"
    order = ">" if endian == "big" else "<"
    path = nrrd_file(
        tmp_path / "scan.nrrd",
        f"type: {name}",
        "spacings: 1 2 3",
        f"endian: {endian}",
        content=VALUES.astype(order + kind).tobytes(),
    )
    if endian or kind[1] == "1":
        volume = read_volume(path)
        np.testing.assert_array_equal(volume.data.ravel(order="F"), VALUES)
        assert volume.data.dtype == np.dtype(kind) and volume.data.dtype.isnative
    else:
        refused(path, "cannot be read")


@pytest.mark.parametrize("skip", [0, 10, -1])
def test_bytes_before_the_voxels_are_passed_over(tmp_path: Path, skip: int) -> None:
    (tmp_path / "voxels.raw").write_bytes(
        b"x" * (skip if skip > 0 else 0 if skip == 0 else 99) + VALUES.tobytes()
    )
    path = nrrd_file(
        tmp_path / "scan.nhdr",
        "spacings: 1 2 3",
        "data file: voxels.raw",
        f"byte skip: {skip}",
        content=b"",
    )
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.data.ravel(order="F"), VALUES)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(path)).T, volume.data)


@pytest.mark.parametrize(
    "fields", [("line skip: 2",), ("byte skip: -2",), ("byte skip: 4", "encoding: gzip")]
)
def test_other_skips_are_refused(tmp_path: Path, fields: tuple[str, ...]) -> None:
    refused(nrrd_file(tmp_path / "scan.nrrd", "spacings: 1 2 3", *fields), ";")


@pytest.mark.parametrize(
    "data_file", ["LIST", "LIST 2", "list", "slice%03d.raw 1 4 1", "slice%03d.raw 1 4 1 2"]
)
def test_lists_of_files_are_refused(tmp_path: Path, data_file: str) -> None:
    path = nrrd_file(tmp_path / "scan.nhdr", "spacings: 1 2 3", f"data file: {data_file}")
    refused(path, "several files")


def test_a_field_twice_is_refused(tmp_path: Path) -> None:
    path = nrrd_file(tmp_path / "scan.nrrd", "spacings: 1 2 3")
    path.write_bytes(path.read_bytes().replace(b"sizes", b"sizes: 9 9 9\nsizes"))
    refused(path, "cannot be read")


def test_remarks_and_free_text_are_passed_over(tmp_path: Path) -> None:
    path = nrrd_file(tmp_path / "scan.nrrd", "spacings: 1 2 3", content=VALUES.tobytes())
    text = b"# a remark\nsizes:=9 9 9\nDWMRI:=\xff\xfe\n"
    path.write_bytes(path.read_bytes().replace(b"type", text + b"type").replace(b"\n", b"\r\n", 3))
    np.testing.assert_array_equal(read_volume(path).data.ravel(order="F"), VALUES)


@pytest.mark.parametrize("name", ["nrrd.txt", "n" * 300])
def test_a_header_of_another_kind_is_refused(tmp_path: Path, name: str) -> None:
    path = nrrd_file(tmp_path / "scan.nrrd", "spacings: 1 2 3", f"type: {name}")
    refused(path, "cannot be read")
    assert os.listdir(tmp_path) == ["scan.nrrd"]
