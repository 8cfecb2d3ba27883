"""Volume: what it says about its geometry, and which scans it refuses."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from dataclasses import replace
from itertools import permutations, product
from math import radians, tan
from typing import Any

import numpy as np
import pytest

from napari_sparseseg.errors import InputError
from napari_sparseseg.volume import MAX_VOXELS, Volume, check_shape

ORIENTATIONS = [
    "".join(letters) for pairs in permutations(("RL", "AP", "SI")) for letters in product(*pairs)
]


def ramp(shape: tuple[int, ...] = (4, 5, 6), dtype: str = "float32") -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def affine(*spacing: float) -> np.ndarray:
    return np.diag([*spacing, 1.0])


def refusal(volume: Volume) -> str:
    with pytest.raises(InputError) as caught:
        volume.validated()
    message = str(caught.value)
    assert message.startswith(volume.name)
    assert message.endswith(".") and message.count(". ") == 0 and "\n" not in message
    assert ";" in message  # what is wrong; what to do
    return message


@pytest.mark.parametrize("letters", ORIENTATIONS)
def test_orientation_and_spacing_of_all_48_grids(letters: str) -> None:
    towards = {"R": (1, 0, 0), "A": (0, 1, 0), "S": (0, 0, 1)}
    towards |= {"L": (-1, 0, 0), "P": (0, -1, 0), "I": (0, 0, -1)}
    matrix = affine(1, 1, 1)
    matrix[:3, :3] = np.transpose([towards[letter] for letter in letters]) * (0.7, 1.1, 3.0)
    volume = Volume(ramp(), matrix)
    assert volume.orientation == letters
    assert volume.spacing == pytest.approx((0.7, 1.1, 3.0))
    assert volume.validated() is volume


def test_geometry_is_kept_in_float64_and_read_from_lists() -> None:
    rows: Any = [[1, 0, 0, 0.1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    volume = Volume(ramp(), rows)
    assert volume.affine.dtype == np.float64
    assert volume.shape == (4, 5, 6)
    assert volume.affine[0, 3] == 0.1


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", ">i2", "uint64", "float16", "float64"])
def test_every_real_dtype_passes_unchanged(dtype: str) -> None:
    volume = Volume(ramp(dtype=dtype), affine(1, 1, 1))
    assert volume.validated() is volume


@pytest.mark.parametrize("shape", [(1, 5, 6), (4, 1, 6), (1, 1, 2)])
def test_single_slices_pass(shape: tuple[int, ...]) -> None:
    volume = Volume(ramp(shape), affine(1, 2, 5))
    assert volume.validated() is volume


def test_stray_non_finite_voxels_become_the_smallest_finite_value() -> None:
    data = ramp() - 7
    data[0, 0, 0], data[1, 1, 1], data[2, 2, 2], data[3, 3, 3] = np.nan, np.inf, -np.inf, np.nan
    before = data.copy()
    checked = Volume(data, affine(1, 2, 3), "head").validated()
    expected = np.where(np.isfinite(before), before, -6)
    np.testing.assert_array_equal(checked.data, expected)
    np.testing.assert_array_equal(data, before)  # the input is the user's
    assert checked.data.dtype == np.float32
    assert (checked.name, checked.spacing) == ("head", (1.0, 2.0, 3.0))
    assert checked.notes == (
        "4 voxels were not finite; the smallest finite value stands there instead.",
    )


def test_notes_come_along() -> None:
    volume = Volume(ramp(), affine(1, 1, 1), notes=["It was read upside down."])  # type: ignore[arg-type]
    assert volume.validated().notes == ("It was read upside down.",)
    data = ramp()
    data[2, 2, 2] = np.nan
    notes = replace(volume, data=data).validated().notes
    assert [note.split()[0] for note in notes] == ["It", "1"]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("place", [(0, 0, 0), (399, 59, 49), (7, 30, 49)])
def test_every_slab_of_a_large_volume_is_checked(order: Any, place: tuple[int, ...]) -> None:
    data = np.ones((400, 60, 50), "float32", order)  # more than one slab
    with pytest.raises(InputError, match="same value"):
        Volume(data, affine(1, 1, 1)).validated()
    data[place] = 2
    assert Volume(data[::-1].swapaxes(0, 1), affine(1, 1, 1)).validated().data.max() == 2
    data[0, 1, 0], data[place] = 5, np.inf
    checked = Volume(data, affine(1, 1, 1)).validated()
    assert checked.data[place] == 1 and checked.data[0, 1, 0] == 5


@pytest.mark.parametrize("dtype", ["int16", "float32"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_check_takes_no_second_volume(dtype: str, order: Any) -> None:
    data = np.zeros((300, 256, 256), dtype, order)
    data[0] = 1
    tracemalloc.start()
    try:
        Volume(data, affine(1, 1, 1)).validated()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < data.nbytes / 4


def test_values_beyond_float32_count_as_non_finite() -> None:
    data = ramp(dtype="float64")
    data[1, 1, 1] = 1e300
    checked = Volume(data, affine(1, 1, 1)).validated()
    assert checked.data.max() == data[3, 4, 5]


@pytest.mark.parametrize("fill", [np.nan, np.inf, -np.inf, 1e300])
def test_a_volume_without_finite_values_is_refused(fill: float) -> None:
    assert "no finite value" in refusal(Volume(np.full((3, 3, 3), fill), affine(1, 1, 1)))


@pytest.mark.parametrize("stray", [0.0, np.nan])
def test_a_constant_volume_is_refused(stray: float) -> None:
    data = np.zeros((3, 3, 3))
    data[0, 0, 0] = stray
    assert "same value" in refusal(Volume(data, affine(1, 1, 1)))


@pytest.mark.parametrize("shape", [(5, 6), (4, 5, 6, 3), (4, 5, 6, 1)])
def test_other_than_three_dimensions_are_refused(shape: tuple[int, ...]) -> None:
    assert f"{len(shape)} dimensions" in refusal(Volume(ramp(shape), affine(1, 1, 1)))


def test_an_empty_volume_is_refused() -> None:
    assert "empty (4 x 0 x 6" in refusal(Volume(np.zeros((4, 0, 6)), affine(1, 1, 1)))


@pytest.mark.parametrize("dtype", ["complex64", [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_complex_and_colour_voxels_are_refused(dtype: object) -> None:
    data = np.zeros((3, 3, 3), dtype=dtype)  # type: ignore[call-overload]
    assert "complex or colour" in refusal(Volume(data, affine(1, 1, 1)))


@pytest.mark.parametrize("dtype", ["object", "U3", "datetime64[s]"])
def test_other_than_numbers_are_refused(dtype: str) -> None:
    assert "does not hold numbers" in refusal(Volume(np.zeros((3, 3, 3), dtype), affine(1, 1, 1)))


def test_absurd_sizes_are_refused() -> None:
    # A broadcast view of one voxel: as large as it claims, without the memory.
    data = np.broadcast_to(np.float32(1), (2000, 2000, 2000))
    assert "too large" in refusal(Volume(data, affine(1, 1, 1)))
    check_shape((2, 2, MAX_VOXELS // 4), "largest")
    with pytest.raises(InputError, match="too large"):
        check_shape((2, 2, MAX_VOXELS // 4 + 1), "larger")


@pytest.mark.parametrize("spacing", [0.0, 0.04, 51.0, 1e5, 1e-3])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_absurd_spacing_is_refused(spacing: float, axis: int) -> None:
    steps = [1.0, 1.0, 1.0]
    steps[axis] = spacing
    assert "voxel spacing" in refusal(Volume(ramp(), affine(*steps)))


@pytest.mark.parametrize(("shape", "spacing"), [((70, 2, 2), 45.0), ((60, 60, 60), 25.0)])
def test_a_field_of_view_beyond_a_patient_is_refused(
    shape: tuple[int, ...], spacing: float
) -> None:
    assert "more than a patient" in refusal(Volume(ramp(shape), affine(spacing, spacing, spacing)))


@pytest.mark.parametrize("bad", ["nan", "inf", "3x3", "last row"])
def test_an_invalid_affine_is_refused(bad: str) -> None:
    matrix = affine(1, 1, 1)
    matrix[0, 3] = {"nan": np.nan, "inf": np.inf}.get(bad, 0)
    matrix[3, 0] = bad == "last row"
    volume = Volume(ramp(), matrix[:3, :3] if bad == "3x3" else matrix)
    assert "no valid affine" in refusal(volume)


@pytest.mark.parametrize(("degrees", "accepted"), [(0.5, True), (0.65, False), (18, False)])
def test_sheared_grids_are_refused_beyond_a_hundredth_radian(
    degrees: float, accepted: bool
) -> None:
    matrix = affine(1, 1, 3)
    matrix[1, 2] = 3 * tan(radians(degrees))  # the gantry tilt of a CT
    volume = Volume(ramp(), matrix)
    if accepted:
        assert volume.validated() is volume
    else:
        assert "right angles" in refusal(volume)


def test_collinear_axes_are_refused() -> None:
    matrix = affine(1, 1, 1)
    matrix[:3, 1] = matrix[:3, 0]
    assert "right angles" in refusal(Volume(ramp(), matrix))


def test_importing_volumes_and_files_loads_no_heavy_library() -> None:
    code = (
        "import sys, napari_sparseseg.volume, napari_sparseseg.files; "
        "print({'torch', 'monai', 'SimpleITK', 'nibabel'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
