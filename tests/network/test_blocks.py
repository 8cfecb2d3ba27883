"""Attention over packed windows."""

from __future__ import annotations

import pytest
import torch

from napari_sparseseg.network.blocks import attend_packed, attend_to_all


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch calls its nested tensors a prototype
@pytest.mark.parametrize("lengths", [(5, 6, 3), (5, 0, 9), (14,)])
def test_one_call_gives_what_a_call_for_each_window_gives(lengths: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 14, 8, generator=generator) for _ in range(3))
    with torch.inference_mode():
        together = attend_packed(q, k, v, lengths)
        parts = zip(*(x.split(lengths, dim=1) for x in (q, k, v)), strict=True)
        alone = torch.cat([attend_to_all(*part) for part in parts if part[0].shape[1]], dim=1)
        mixed = attend_to_all(q, k, v)
    assert (together - alone).abs().max() <= 1e-5
    assert ((together - mixed).abs().max() > 1e-2) == (len(lengths) > 1)
