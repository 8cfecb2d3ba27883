"""What a run cost, by hand."""

from __future__ import annotations

import numpy as np
import torch
from conftest import TINY, tiny_network

from napari_sparseseg.recorder import Recorder
from napari_sparseseg.tokens import TokenGrid

TOKENS, WIDTH = 64, TINY.dim


def block(tokens: int) -> int:
    """Twelve square matrices a row, queries with keys, weights with values; a class token more."""
    rows = tokens + 1
    return 12 * rows * WIDTH**2 + 2 * rows**2 * WIDTH


def counted(method: str, setting: float) -> dict[str, int]:
    """Run two windows full of tissue, in one call each."""
    network = tiny_network(method).eval()
    recorder = Recorder(TokenGrid.over(TINY.window, np.eye(4), TINY.patch), network, observe=False)
    with torch.inference_mode():
        for seed in (1, 2):
            noise = torch.rand(1, 1, *TINY.window, generator=torch.Generator().manual_seed(seed))
            recorder.add(network.finish(network.prepare(0.5 + noise), setting), [])
    return recorder.macs


def test_a_dense_encoder_is_its_blocks() -> None:
    macs = counted("dense", 1.0)

    assert macs["encoder"] == macs["encoder_dense"] == 2 * TINY.depth * block(TOKENS)
    assert macs["run"] == macs["dense"] > macs["encoder"]


def test_scores_count_to_the_encoder() -> None:
    """A ratio of 1/8 halves the tokens at each of three stages, one before each later block."""
    macs = counted("stp", 0.125)

    layers = 32 * 32 + 32 * 16 + 16 * 8 + 8  # of a score network, for each token
    ran = sum(block(tokens) for tokens in (64, 32, 16, 8))
    assert macs["encoder"] == 2 * (ran + layers * (64 + 32 + 16))
    assert macs["encoder_dense"] == 2 * TINY.depth * block(TOKENS)
    assert macs["run"] < macs["dense"]
