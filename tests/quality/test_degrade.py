"""Spoilt scans: worked examples of each way, and where the voxels then lie."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from benchmarks.quality.degrade import (
    brightest_tissue,
    in_thick_slices,
    on_grid_of,
    shifted,
    soft_tissue_noise,
    with_bias,
    with_noise_of_dose,
    with_rician_noise,
)
from napari_sparseseg.errors import InputError
from napari_sparseseg.volume import Volume

ORIENTATIONS = [
    np.eye(3)[:, list(order)] * signs
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]
"""The 48 ways of storing a scan along the axes of the patient."""


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """Any orientation, tilted by up to 20 degrees, voxels of 0.8 to 2.5 mm, any origin."""
    spacing = draw(st.tuples(*[st.sampled_from([0.8, 1.0, 1.3, 2.5])] * 3))
    tilt = Rotation.from_euler("xyz", draw(st.tuples(*[st.integers(-20, 20)] * 3)), degrees=True)
    affine = np.eye(4)
    affine[:3, :3] = tilt.as_matrix() @ draw(st.sampled_from(ORIENTATIONS)) * spacing
    affine[:3, 3] = draw(st.tuples(*[st.integers(-100, 100)] * 3))
    return affine


def places(volume: Volume) -> np.ndarray:
    """Millimetres of every voxel, ``(*shape, 3)``."""
    voxels = np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"), axis=-1)
    return voxels @ volume.affine[:3, :3].T + volume.affine[:3, 3]


# MR: noise and bias


def test_the_brightest_tissue_is_neither_air_nor_a_few_bright_voxels() -> None:
    """Of 1000 voxels 900 are air; 5 % of the 99.9th percentile (99.001) are about 5.

    Of the 96 voxels from 5 to 100, the 99.5th percentile is 5 + 0.995 * 95.
    """
    data = np.concatenate([np.zeros(900), np.arange(1, 101)])

    assert brightest_tissue(data) == pytest.approx(5 + 0.995 * 95)


def test_noise_is_that_of_a_magnitude_image() -> None:
    """Sigma is 100: where there is signal a Gaussian, where there is nearly none Rayleigh's."""
    data = np.zeros((40, 40, 60))
    data[:, :, 20:40] = 0.01
    data[:, :, 40:] = 1000
    noisy = with_rician_noise(Volume(data, np.eye(4)), 0.1, seed=3)

    air, faint, bright = (noisy.data[:, :, n : n + 20] for n in (0, 20, 40))
    assert (air == 0).all()
    assert faint.mean() == pytest.approx(100 * np.sqrt(np.pi / 2), rel=0.02)
    assert bright.mean() == pytest.approx(1000 + 100**2 / (2 * 1000), rel=0.002)
    assert bright.std() == pytest.approx(100, rel=0.02)


def test_bias_is_as_strong_as_asked_smooth_and_around_one() -> None:
    data = np.zeros((40, 48, 36))
    tissue = (slice(8, 32), slice(6, 40), slice(5, 30))
    data[tissue] = 100
    for peak_to_peak in (0.2, 0.8):
        biased = with_bias(Volume(data, np.eye(4)), peak_to_peak, seed=1).data
        inside = biased[tissue]

        assert inside.min() == pytest.approx(100 * (1 - peak_to_peak / 2), abs=1e-3)
        assert inside.max() == pytest.approx(100 * (1 + peak_to_peak / 2), abs=1e-3)
        for axis in range(3):
            assert np.abs(np.diff(inside, axis=axis)).max() < 20 * peak_to_peak
        biased[tissue] = 0
        assert not biased.any()


# Thick slices


def test_a_slice_is_the_mean_of_its_voxels_and_lies_in_their_middle() -> None:
    data = np.broadcast_to(np.arange(7.0), (2, 3, 7))
    thick = in_thick_slices(Volume(data, np.eye(4)), 5)

    assert thick.data[1, 2].tolist() == [2.0, 5.5]  # 0 to 4; 5 and 6 are all that is left
    assert places(thick)[0, 0, :, 2].tolist() == [2.0, 7.0]
    assert places(thick)[1, 2, 0].tolist() == [1.0, 2.0, 2.0]


def test_a_slice_counts_a_voxel_by_the_share_within() -> None:
    """Voxels of 2 mm: the first slice of 5 mm holds two and a half."""
    data = np.arange(5.0).reshape(1, 1, 5)
    thick = in_thick_slices(Volume(data, np.diag([1, 1, 2, 1])), 5)

    assert thick.data.ravel().tolist() == pytest.approx([(0 + 1 + 2 / 2) / 2.5, (2 / 2 + 7) / 2.5])
    assert places(thick)[0, 0, :, 2].tolist() == pytest.approx([1.5, 6.5])


@settings(max_examples=60, deadline=None)
@given(affine=affines(), gradient=st.tuples(*[st.floats(-3, 3)] * 3))
def test_thick_slices_show_the_same_place(
    affine: np.ndarray, gradient: tuple[float, float, float]
) -> None:
    """What rises linearly through the patient reads the same there in every full slice.

    A voxel that two slices share counts as even within, which moves the middle of a slice of n
    voxels by less than 1 / (4 n) of a voxel.
    """
    volume = Volume(np.zeros((8, 9, 10)), affine)
    ramp = Volume(places(volume) @ gradient, affine)
    thick = in_thick_slices(ramp, 5)

    (axis,) = np.flatnonzero(np.not_equal(thick.shape, volume.shape))
    across = np.abs(affine[2, :3] / volume.spacing)
    assert across[axis] == pytest.approx(across.max())
    assert thick.spacing[axis] == pytest.approx(5)
    full = [slice(None)] * 3
    full[axis] = slice(0, int(volume.shape[axis] * volume.spacing[axis] / 5 + 1e-6))
    expected = places(thick) @ gradient
    allowed = volume.spacing[axis] ** 2 / (4 * 5) * np.linalg.norm(gradient) + 1e-3
    np.testing.assert_allclose(thick.data[tuple(full)], expected[tuple(full)], atol=allowed)


@settings(max_examples=60, deadline=None)
@given(affine=affines())
def test_labels_come_back_from_the_nearest_slice(affine: np.ndarray) -> None:
    volume = Volume(np.zeros((8, 9, 10)), affine)
    thick = in_thick_slices(volume, 5)
    names = Volume(np.arange(thick.data.size).reshape(thick.shape), thick.affine)
    found = on_grid_of(names, volume)

    centres = places(thick).reshape(-1, 3)
    voxels = places(volume)
    distance = np.linalg.norm(voxels[..., None, :] - centres, axis=-1)
    chosen = np.take_along_axis(distance, found[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(chosen, distance.min(axis=-1), atol=1e-6)


def test_slices_thinner_than_voxels_are_refused() -> None:
    volume = Volume(np.zeros((4, 4, 4)), np.diag([1, 1, 3, 1]), "coarse")
    with pytest.raises(InputError, match=r"2 mm are thinner than the voxels \(3 mm\)"):
        in_thick_slices(volume, 2)


# CT: dose and calibration


def tissue_with_noise(sigma: float) -> Volume:
    """Soft tissue of 40 HU, with bone and air beside it that must not count."""
    data = np.random.default_rng(2).normal(40, sigma, (30, 30, 30))
    data[:5], data[-5:] = -1000, 900
    return Volume(data.astype(np.float32), np.eye(4), "CT")


def test_the_noise_of_a_ct_is_measured_in_soft_tissue() -> None:
    assert soft_tissue_noise(tissue_with_noise(7)) == pytest.approx(7, rel=0.05)
    with pytest.raises(InputError, match="CT shows no soft tissue"):
        soft_tissue_noise(Volume(np.full((9, 9, 9), -1000), np.eye(4), "CT"))


@pytest.mark.parametrize(("dose", "times"), [(1.0, 1.0), (0.5, np.sqrt(2)), (0.125, np.sqrt(8))])
def test_the_variance_of_the_noise_goes_with_one_over_the_dose(dose: float, times: float) -> None:
    scan = tissue_with_noise(7)
    noisy = with_noise_of_dose(scan, dose, seed=5)

    assert noisy.data[5:-5].std() == pytest.approx(7 * times, rel=0.05)
    assert noisy.data[5:-5].mean() == pytest.approx(40, abs=0.5)


def test_a_shift_adds_hounsfield_units() -> None:
    scan = Volume(np.array([[[-1000, 40, 900]]], dtype=np.int16), np.eye(4))
    assert shifted(scan, -40).data.ravel().tolist() == [-1040, 0, 860]


# All of them


SPOILERS = {
    "noise": lambda volume, seed: with_rician_noise(volume, 0.06, seed),
    "bias": lambda volume, seed: with_bias(volume, 0.4, seed),
    "dose": lambda volume, seed: with_noise_of_dose(volume, 0.25, seed),
}


@pytest.mark.parametrize("name", SPOILERS)
def test_what_is_drawn_comes_from_the_seed_and_stays_in_its_place(name: str) -> None:
    affine = np.diag([-1.0, 2.0, 3.0, 1.0])
    scan = Volume(np.abs(tissue_with_noise(7).data), affine, "scan")
    before = scan.data.copy()
    one, same, other = (SPOILERS[name](scan, seed) for seed in (4, 4, 5))

    np.testing.assert_array_equal(one.data, same.data)
    assert (one.data != other.data).any()
    np.testing.assert_array_equal(scan.data, before)
    np.testing.assert_array_equal(one.affine, affine)
    assert one.data.dtype == np.float32
    assert one.name == "scan"
