"""What NIfTI files say about their place: what counts, and what a note tells about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from napari_sparseseg.files import read_volume
from tests.files.samples import OBLIQUE, make_volume, refused

STRAIGHT = np.diag([1.0, 2.0, 3.0, 1.0])


def nifti(
    path: Path,
    sform: np.ndarray | None,
    qform: np.ndarray | None,
    unit: int = 2,
    **fields: Any,
) -> Path:
    image = nib.Nifti1Image(make_volume().data, None)
    header = image.header
    header.set_sform(sform, 0 if sform is None else 1)
    header.set_qform(qform, 0 if qform is None else 1)
    if sform is not None and qform is None:  # else set_qform does
        header["pixdim"][1:4] = np.linalg.norm(sform[:3, :3], axis=0)
    for name, value in fields.items():
        header[name] = value
    header["xyzt_units"] = unit
    nib.save(image, path)
    return path


def moved(affine: np.ndarray, *distance: float) -> np.ndarray:
    affine = affine.copy()
    affine[:3, 3] += distance
    return affine


def test_one_place_needs_no_note(tmp_path: Path) -> None:
    for sform, qform in [(OBLIQUE, OBLIQUE), (STRAIGHT, None), (None, STRAIGHT)]:
        assert read_volume(nifti(tmp_path / "scan.nii", sform, qform)).notes == ()
    barely = nifti(tmp_path / "scan.nii", STRAIGHT, moved(STRAIGHT, 0.03, 0.04, 0))
    assert read_volume(barely).notes == ()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_two_places_are_told_with_their_distance(tmp_path: Path, suffix: str) -> None:
    path = nifti(tmp_path / f"scan{suffix}", OBLIQUE, moved(OBLIQUE, 0, 3, 4))
    volume = read_volume(path)
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-6)
    assert volume.notes == (
        "The sform and the qform of the file differ by up to 5.0 mm; the sform was used.",
    )


def test_the_distance_is_that_of_the_farthest_corner(tmp_path: Path) -> None:
    """Same first voxel, mirrored first axis: corner 6 lies 6 voxels on the other side."""
    mirrored = np.diag([-1.0, 2.0, 3.0, 1.0])
    (note,) = read_volume(nifti(tmp_path / "scan.nii", STRAIGHT, mirrored)).notes
    assert "differ by up to 12.0 mm" in note


def test_a_broken_qform_is_told(tmp_path: Path) -> None:
    path = nifti(tmp_path / "scan.nii", STRAIGHT, STRAIGHT, quatern_b=3.0)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.affine, STRAIGHT)
    assert volume.notes == ("The qform of the file is not valid; the sform was used.",)


def test_no_place_is_told(tmp_path: Path) -> None:
    volume = read_volume(nifti(tmp_path / "scan.nii", None, None))
    assert volume.notes == (
        "The file does not say how its axes lie in the patient; they were taken to run to the "
        "left, the front and the top.",
    )
    assert volume.orientation == "LAS"


def test_a_spacing_that_contradicts_the_sform_is_told(tmp_path: Path) -> None:
    path = nifti(tmp_path / "scan.nii", STRAIGHT, None, pixdim=[1, 1, 2, 5, 0, 0, 0, 0])
    volume = read_volume(path)
    assert volume.spacing == (1, 2, 3)
    assert volume.notes == (
        "The file states a voxel spacing of 1 x 2 x 5 mm but its sform one of 1 x 2 x 3 mm; the "
        "sform was used.",
    )


@pytest.mark.parametrize(("unit", "word", "factor"), [(1, "metres", 1e3), (3, "micrometres", 1e-3)])
@pytest.mark.parametrize("forms", ["sform", "qform", "both"])
def test_other_units_become_millimetres(
    tmp_path: Path, unit: int, word: str, factor: float, forms: str
) -> None:
    scale = np.diag([1 / factor, 1 / factor, 1 / factor, 1.0])
    sform = None if forms == "qform" else scale @ OBLIQUE
    qform = None if forms == "sform" else scale @ OBLIQUE
    volume = read_volume(nifti(tmp_path / "scan.nii", sform, qform, unit))
    np.testing.assert_allclose(volume.affine, OBLIQUE, rtol=1e-5, atol=1e-5)
    assert volume.notes == (
        f"The file gives lengths in {word}; they were converted to millimetres.",
    )


@pytest.mark.parametrize("unit", [0, 2, 7, 10])  # none, mm, not assigned, mm and seconds
def test_unknown_units_are_millimetres(tmp_path: Path, unit: int) -> None:
    volume = read_volume(nifti(tmp_path / "scan.nii", OBLIQUE, None, unit))
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-6)
    assert volume.notes == ()


def test_what_nibabel_mends_is_told_to_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = nifti(tmp_path / "scan.nii", STRAIGHT, None, pixdim=[3, 1, 2, 3, 0, 0, 0, 0])
    content = bytearray(path.read_bytes())
    content[:4] = bytes(4)  # the length of the header
    path.write_bytes(content)
    np.testing.assert_array_equal(read_volume(path).affine, STRAIGHT)
    assert not caplog.records


def test_a_code_that_is_none_leaves_the_spacing_to_decide(tmp_path: Path) -> None:
    path = nifti(tmp_path / "scan.nii", STRAIGHT, None, sform_code=77)
    assert read_volume(path).spacing == (1, 2, 3)
    refused(nifti(path, STRAIGHT, None, sform_code=77, pixdim=[1, 1, 0, 3, 0, 0, 0, 0]), "spacing")


def test_free_text_of_a_header_gets_nowhere(tmp_path: Path) -> None:
    """It often holds the name of the patient."""
    path = nifti(
        tmp_path / "scan.nii",
        STRAIGHT,
        moved(STRAIGHT, 9, 9, 9),
        descrip=b"DOE JANE",
        db_name=b"DOE",
    )
    volume = read_volume(path)
    assert "DOE" not in repr((volume.name, volume.notes))
    path.write_bytes(path.read_bytes()[:400])
    refused(path, "^(?!.*DOE).*cannot be read")
