"""Normalisation: the same brightness for the same tissue, whatever the scanner's units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sparseseg.intensity import normalise
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import ModelInfo


def head(level: float = 1.0) -> torch.Tensor:
    """Make a bright ball with texture in air, brightest at `level`."""
    axis = torch.linspace(-1, 1, 24)
    radius = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0)
    texture = torch.rand(24, 24, 24, generator=torch.manual_seed(3))
    return torch.where(radius < 0.8, level * (0.3 + 0.7 * texture), 0.0)


@settings(deadline=None)
@given(scale=st.floats(min_value=1e-4, max_value=1e6))
def test_the_unit_of_the_scan_does_not_matter(scale: float) -> None:
    torch.testing.assert_close(normalise(head() * scale), normalise(head()), atol=1e-4, rtol=1e-4)


@settings(deadline=None)
@given(offset=st.floats(min_value=1, max_value=1000))
def test_an_image_that_goes_below_zero_starts_at_its_darkest(offset: float) -> None:
    image = head(400.0)

    moved = normalise(image - offset)

    torch.testing.assert_close(moved, normalise(image), atol=2e-3, rtol=0)


def test_an_image_of_magnitudes_keeps_its_zero() -> None:
    image = head(200.0) + 100

    assert normalise(image)[0, 0, 0] == pytest.approx(1 / 3, abs=0.01)


def test_air_is_zero_and_the_brightest_tissue_is_one() -> None:
    result = normalise(head(812.0))

    assert result[0, 0, 0] == 0
    assert result.max() == pytest.approx(1, abs=0.01)
    assert result.min() == 0


def test_a_few_hot_voxels_do_not_darken_the_tissue() -> None:
    image = head(100.0)
    hot = image.clone()
    hot[12, 12, :4] = 1e5

    torch.testing.assert_close(normalise(hot)[:12], normalise(image)[:12], atol=0.01, rtol=0)
    assert normalise(hot).max() == 1.5


@pytest.mark.parametrize(("level", "expected"), [(0.0, 0.0), (7.5, 1.0), (-20.0, 0.0)])
def test_a_constant_image_stays_constant(level: float, expected: float) -> None:
    result = normalise(torch.full((6, 5, 4), level))

    assert torch.equal(result, torch.full((6, 5, 4), expected))


def test_the_image_itself_is_left_alone() -> None:
    image = head(50.0)
    normalise(image)

    assert torch.equal(image, head(50.0))


def test_a_large_image_is_judged_by_a_sample_of_it() -> None:
    large = torch.nn.functional.interpolate(head()[None, None], scale_factor=4)[0, 0]

    assert large.numel() > 4 * 200_000
    torch.testing.assert_close(
        normalise(large)[::4, ::4, ::4], normalise(head()), atol=0.01, rtol=0
    )


@pytest.mark.parametrize(
    ("hounsfield", "expected"),
    [(-1000, 0), (-200, 0), (-100, 0.2), (50, 0.5), (300, 1), (425, 1.25), (550, 1.5), (3000, 1.5)],
)
def test_hounsfield_units_by_hand(hounsfield: float, expected: float) -> None:
    image = torch.full((2, 3, 4), float(hounsfield))

    torch.testing.assert_close(normalise(image, "ct"), torch.full((2, 3, 4), float(expected)))


@settings(deadline=None)
@given(other=st.floats(min_value=-2000, max_value=30_000))
def test_a_voxel_of_ct_means_the_same_whatever_else_is_in_the_scan(other: float) -> None:
    image = head(400.0) - 200
    beside = image.clone()
    beside[:12] = other

    assert torch.equal(normalise(beside, "ct")[12:], normalise(image, "ct")[12:])


def test_a_ct_itself_is_left_alone() -> None:
    image = head(50.0)
    normalise(image, "ct")

    assert torch.equal(image, head(50.0))


def test_an_unknown_kind_of_intensity_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one of \('mr', 'ct'\), not 'pet'"):
        normalise(head(), "pet")  # type: ignore[arg-type]


def test_a_model_for_ct_reads_hounsfield_units(
    tiny_models: dict[str, ModelInfo], make_scan: Callable[..., Volume]
) -> None:
    """The same network for MR sees what it sees, where the scale of MR changes nothing."""
    info = tiny_models["tiny-stp"]
    scan = make_scan((32, 32, 32))
    level = np.minimum(scan.data / np.quantile(scan.data, 0.95), 1)  # 5 % of it at 1
    scaled, hounsfield = (Volume(d, np.eye(4), "scan") for d in (level, 500 * level - 200))

    def labels(intensity: str, volume: Volume) -> np.ndarray:
        own = replace(info, intensity=intensity)
        return Segmenter(own, device="cpu", precision="float32").segment(volume, 0.5).labels.data

    answer = labels("ct", hounsfield)
    assert len(np.unique(answer)) > 2
    assert (answer != labels("mr", scaled)).mean() < 1e-3
    # half as bright means something else in CT, and nothing in MR
    half = Volume(250 * level - 200, np.eye(4), "scan")
    assert (answer != labels("ct", half)).mean() > 0.02
    assert (answer != labels("mr", half)).mean() < 1e-3
