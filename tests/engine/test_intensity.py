"""Normalisation: the same brightness for the same tissue, whatever the scanner's units."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sparseseg.intensity import normalise


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
