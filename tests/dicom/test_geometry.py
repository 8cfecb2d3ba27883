"""DICOM slices in order and in place, or refused with what is wrong with their grid."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from scipy.spatial.transform import Rotation

from napari_sparseseg.files import itk_image, read_volume
from tests.dicom.series import (
    AXIAL,
    assert_refused,
    assert_same_place,
    only_part,
    values,
    write_series,
)

AXES = [
    np.diag(signs)[:, list(order)]
    for order in permutations(range(3))
    for signs in product((1.0, -1.0), repeat=3)
]


def placed(axes: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    affine[:3, 3] = (11.5, -70.25, 3.125)
    return affine


def moved(aside: np.ndarray) -> np.ndarray:
    """An affine whose slices do not follow their normal."""
    affine = AXIAL.copy()
    affine[:3, 2] += aside
    return affine


def shift(k_of: int, millimetres: float):  # type: ignore[no-untyped-def]
    def change(k: int, item: Dataset) -> None:
        if k == k_of:
            x, y, z = item.ImagePositionPatient
            item.ImagePositionPatient = [x, y, f"{float(z) + millimetres:.6f}"]

    return change


@pytest.mark.parametrize("axes", AXES, ids=range(48))
def test_slices_of_all_orientations_lie_in_place(tmp_path: Path, axes: np.ndarray) -> None:
    data, affine = values((5, 4, 3)), placed(axes, (0.5, 1.5, 3.0))
    write_series(tmp_path, data, affine)
    assert_same_place(read_volume(tmp_path), data, affine)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    turn=st.tuples(*[st.floats(-180, 180)] * 3),
    axes=st.sampled_from(AXES),
    spacing=st.tuples(*[st.floats(0.2, 6)] * 3),
    order=st.permutations(range(5)),
)
def test_any_oblique_series_in_any_order_agrees_with_itk(
    tmp_path_factory: pytest.TempPathFactory,
    turn: tuple[float, float, float],
    axes: np.ndarray,
    spacing: tuple[float, float, float],
    order: list[int],
) -> None:
    folder = tmp_path_factory.mktemp("series")
    rotation = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    data, affine = values((6, 4, 5)), placed(rotation @ axes, spacing)
    write_series(folder, data, affine, order=order)
    volume = read_volume(folder)
    assert_same_place(volume, data, affine)

    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    expected, mine = sitk.ReadImage(names), itk_image(volume)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mine), sitk.GetArrayFromImage(expected))
    for name in ("Size", "Spacing", "Origin", "Direction"):
        np.testing.assert_allclose(
            getattr(mine, f"Get{name}")(), getattr(expected, f"Get{name}")(), atol=1e-4
        )
    assert volume.notes == ()


def test_a_part_says_what_it_is_without_free_text(tmp_path: Path) -> None:
    write_series(tmp_path, values((9, 8, 7)))
    part = only_part(tmp_path)
    assert (part.key, part.problem) == ("3", "")
    assert part.title == "CT, 7 slices of 9 x 8, 0.7 x 0.8 x 2.5 mm, axial"
    assert read_volume(tmp_path).name == "CT series 3"


@pytest.mark.parametrize(
    ("axes", "word"),
    [((0, 1, 2), "axial"), ((1, 2, 0), "sagittal"), ((0, 2, 1), "coronal")],
)
def test_a_part_says_how_it_is_oriented(tmp_path: Path, axes: tuple[int, ...], word: str) -> None:
    write_series(tmp_path / "even", values(), placed(np.eye(3)[:, list(axes)], (1, 1, 2)))
    assert only_part(tmp_path / "even").title.endswith(f", {word}")
    oblique = Rotation.from_euler("xyz", (9, 8, 7), degrees=True).as_matrix()
    affine = placed(oblique @ np.eye(3)[:, list(axes)], (1, 1, 2))
    write_series(tmp_path / "oblique", values(), affine)
    assert only_part(tmp_path / "oblique").title.endswith(f", oblique {word}")


@pytest.mark.parametrize("lost", [{3}, {3, 4}, {2, 5}])
def test_missing_slices_are_refused_with_their_number_and_place(
    tmp_path: Path, lost: set[int]
) -> None:
    write_series(tmp_path, values((4, 4, 9)), change=lambda k, _: k not in lost)
    number = "1 slice is" if len(lost) == 1 else "2 slices are"
    where = f"{2.5 * min(lost):g} mm from the first slice"
    problem = only_part(tmp_path).problem
    assert number in problem and where in problem
    assert_refused(tmp_path, "missing between its")


def test_lost_slices_at_an_end_leave_a_shorter_scan(tmp_path: Path) -> None:
    data = values()
    write_series(tmp_path, data, change=lambda k, _: k > 0)
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.data, data[:, :, 1:])


@pytest.mark.parametrize("k", [1, 3])
def test_small_unevenness_is_noted(tmp_path: Path, k: int) -> None:
    data = values()
    write_series(tmp_path, data, change=shift(k, 0.06))
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.data, data)
    np.testing.assert_allclose(volume.affine, AXIAL, atol=1e-6)
    (note,) = volume.notes
    assert "0.06 mm off an even distance of 2.5 mm" in note


def test_rounding_is_not_worth_a_note(tmp_path: Path) -> None:
    write_series(tmp_path, values(), change=shift(3, 0.02))
    assert read_volume(tmp_path).notes == ()


@pytest.mark.parametrize("millimetres", [0.2, -1.0])
def test_uneven_slices_are_refused(tmp_path: Path, millimetres: float) -> None:
    write_series(tmp_path, values(), change=shift(3, millimetres))
    assert_refused(tmp_path, "unevenly spaced slices")


@pytest.mark.parametrize("degrees", [1.0, 15.0, -22.5])
@pytest.mark.parametrize("axis", [0, 1])
def test_gantry_tilt_is_refused_with_its_angle(tmp_path: Path, degrees: float, axis: int) -> None:
    aside = np.eye(3)[axis] * 2.5 * np.tan(np.radians(degrees))
    write_series(tmp_path, values(), moved(aside))
    assert_refused(tmp_path, f"tilted by {abs(degrees):.1f} degrees")


def test_a_tilt_too_small_to_matter_stays_exact(tmp_path: Path) -> None:
    affine = moved(np.array([0.01, 0, 0]))
    write_series(tmp_path, values(), affine)
    np.testing.assert_allclose(read_volume(tmp_path).affine, affine, atol=1e-6)


def test_slices_shifted_sideways_are_refused(tmp_path: Path) -> None:
    def change(k: int, item: Dataset) -> None:
        item.ImagePositionPatient[0] += 0.5 * (k == 3)

    write_series(tmp_path, values(), change=change)
    assert_refused(tmp_path, "shifted sideways")


def test_one_slice_takes_its_thickness(tmp_path: Path) -> None:
    def change(_: int, item: Dataset) -> None:
        item.SliceThickness = 4

    write_series(tmp_path / "thick", values((9, 8, 1)), change=change)
    volume = read_volume(tmp_path / "thick")
    assert volume.shape == (9, 8, 1)
    np.testing.assert_allclose(volume.spacing, (0.7, 0.8, 4))
    assert "thickness of 4 mm" in volume.notes[0]

    write_series(tmp_path / "thin", values((9, 8, 1)))
    assert_refused(tmp_path / "thin", "single slice without a thickness")


def test_positions_count_and_a_header_that_disagrees_is_noted(tmp_path: Path) -> None:
    def change(_: int, item: Dataset) -> None:
        item.SliceThickness, item.SpacingBetweenSlices = 5, 2.5

    write_series(tmp_path, values(), change=change)
    volume = read_volume(tmp_path)
    np.testing.assert_allclose(volume.affine, AXIAL)
    (note,) = volume.notes
    assert "2.5 mm apart" in note and "thickness of 5 mm" in note


@pytest.mark.parametrize(
    ("keyword", "value", "match"),
    [
        ("ImagePositionPatient", None, "does not say where its slices lie"),
        ("ImageOrientationPatient", None, "does not say where its slices lie"),
        ("PixelSpacing", None, "does not say where its slices lie"),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0], "not at right angles"),
        ("ImageOrientationPatient", [0, 0, 0, 0, 0, 0], "not at right angles"),
        ("PixelSpacing", [0, 1], "zero or negative pixel spacing"),
    ],
)
def test_slices_without_a_place_are_refused(
    tmp_path: Path, keyword: str, value: list[float] | None, match: str
) -> None:
    def change(_: int, item: Dataset) -> None:
        if value is None:
            delattr(item, keyword)
        else:
            setattr(item, keyword, value)

    write_series(tmp_path, values((4, 4, 3)), change=change)
    assert match in only_part(tmp_path).problem
    assert_refused(tmp_path, match)
