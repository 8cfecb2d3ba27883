"""Fields: packed blocks hold, and convolve to, what whole windows do where they are served."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn

from napari_sparseseg.network.fields import BlockField, Field, WholeField

SIDES = st.integers(1, 4)
SERVED = (
    st.tuples(st.integers(1, 3), SIDES, SIDES, SIDES)
    .flatmap(lambda shape: arrays(bool, shape, elements=st.booleans(), fill=st.nothing()))
    .filter(np.any)
    .map(torch.from_numpy)
)
"""Maps of one to three windows in which at least one token is served."""


def cut_by_hand(dense: Tensor, served: Tensor, size: int) -> Tensor:
    """Take the blocks of the served tokens, channels last, out of ``(n, channels, x, y, z)``."""
    blocks = []
    for window, *corner in served.nonzero().tolist():
        x, y, z = (slice(size * c, size * (c + 1)) for c in corner)
        blocks.append(dense[window, :, x, y, z].permute(1, 2, 3, 0))
    return torch.stack(blocks)


def enlarge(served: Tensor, size: int) -> Tensor:
    """Repeat ``(n, x, y, z)`` flags for each voxel of a token."""
    for axis in (1, 2, 3):
        served = served.repeat_interleave(size, dim=axis)
    return served


def random_voxels(served: Tensor, size: int, channels: int) -> Tensor:
    """Random dense features, ``(n, channels, x, y, z)``."""
    generator = torch.Generator().manual_seed(int(served.sum()))
    n, *grid = served.shape
    return torch.randn(n, channels, *(size * g for g in grid), generator=generator)


def random_conv(inside: int, outside: int) -> nn.Conv3d:
    """A convolution that keeps the size, with weights that are alike nowhere."""
    conv = nn.Conv3d(inside, outside, 3, padding=1, bias=False).requires_grad_(False)
    conv.weight.copy_(torch.randn(conv.weight.shape, generator=torch.Generator().manual_seed(5)))
    return conv


@pytest.mark.parametrize("size", [1, 2, 4])
@settings(max_examples=30, deadline=None)
@given(served=SERVED)
def test_blocks_convolve_as_windows_in_which_the_others_are_zero(size: int, served: Tensor) -> None:
    dense, conv = random_voxels(served, size, 3), random_conv(3, 2)
    masked = dense * enlarge(served, size)[:, None]
    expected = F.conv3d(masked, conv.weight, padding=1)

    blocks = BlockField(served).convolve(cut_by_hand(dense, served, size), conv)

    assert torch.allclose(blocks, cut_by_hand(expected, served, size), atol=1e-4)


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("size", [1, 2])
@settings(max_examples=15, deadline=None)
@given(served=SERVED)
def test_whole_windows_convolve_with_or_without_the_others(
    size: int, alone: bool, served: Tensor
) -> None:
    dense, conv = random_voxels(served, size, 3), random_conv(3, 2)
    seen = dense * enlarge(served, size)[:, None] if alone else dense
    expected = F.conv3d(seen, conv.weight, padding=1)

    windows = WholeField(served, alone).convolve(dense.permute(0, 2, 3, 4, 1), conv)

    assert torch.allclose(windows.permute(0, 4, 1, 2, 3), expected, atol=1e-4)


def fields_of(served: Tensor) -> list[Field]:
    return [BlockField(served), WholeField(served, True), WholeField(served, False)]


@settings(max_examples=30, deadline=None)
@given(served=SERVED)
def test_what_is_cut_comes_back_patch_by_patch(served: Tensor) -> None:
    """Window, place, voxel and channel are told apart by the value."""
    n, *grid = served.shape
    windows = torch.arange(float(n * 2 * 8 * np.prod(grid)))
    windows = windows.view(n, 2, *(2 * g for g in grid))
    expected = cut_by_hand(windows, served, 2).flatten(1, 3)
    for field in fields_of(served):
        assert torch.equal(field.patches(field.cut(windows, 2)), expected)


@settings(max_examples=30, deadline=None)
@given(served=SERVED)
def test_a_token_map_is_spread_over_the_field(served: Tensor) -> None:
    token_map = torch.randn(*served.shape, 3)
    expected = token_map[served]
    for field in fields_of(served):
        assert torch.equal(field.patches(field.spread(token_map))[:, 0], expected)


@settings(max_examples=30, deadline=None)
@given(served=SERVED, data=st.data())
def test_a_field_selects_its_tokens_from_a_wider_one(served: Tensor, data: st.DataObject) -> None:
    flags = data.draw(arrays(bool, int(served.sum()), fill=st.nothing()).filter(np.any))
    chosen = torch.from_numpy(flags)
    fewer = served.clone()
    fewer[served] = chosen
    dense = random_voxels(served, 2, 3)
    expected = cut_by_hand(dense, served, 2)[chosen].flatten(1, 3)
    for source, field in zip(fields_of(served), fields_of(fewer), strict=True):
        selected = field.select(source.cut(dense, 2), source)
        assert torch.equal(field.patches(selected), expected)


def test_tokens_are_those_that_are_computed() -> None:
    served = torch.zeros(2, 2, 4, 2, dtype=torch.bool)
    served[0, 1, 2, 0] = served[1, 0, 3, 1] = True
    # 16 tokens a window: (1, 2, 0) is 12, and (0, 3, 1) of the second window 16 + 7
    assert [field.cells.tolist() for field in fields_of(served)] == [[12, 23]] * 3
    assert [field.tokens for field in fields_of(served)] == [2, 32, 32]
