"""Traces made by hand, in which every kind of token occurs."""

from __future__ import annotations

import numpy as np

from napari_sparseseg.tokens import Dependencies, TokenGrid, TokenTrace


def make_trace(grid: TokenGrid, method: str = "stp", seed: int = 0) -> TokenTrace:
    """Make a trace of 8 blocks and 3 stages in which tokens leave for good."""
    rng = np.random.default_rng(seed)
    fate = rng.integers(0, 5, grid.shape)  # 0 air, 1 to 3 left there, 4 kept
    fate.flat[:5] = range(5)
    importance = rng.uniform(-9, 0, size=(3, *grid.shape)).astype(np.float32)
    for stage in range(3):
        importance[stage][(fate == 0) | (fate <= stage)] = np.nan
    return TokenTrace(
        grid=grid,
        method=method,
        stages=(2, 4, 6),
        air=fate == 0,
        importance=importance,
        left_stage=np.where((fate > 0) & (fate < 4), fate, 0).astype(np.uint8),
        ran=np.stack([2 * fate > block for block in range(8)]),
    )


RAN = {
    "never": (1, 1, 1, 1, 0, 0),
    "once": (1, 1, 0, 1, 1, 0),
    "twice": (1, 1, 0, 1, 0, 1),
    "kept": (1, 1, 1, 1, 1, 1),
}
"""Which of six blocks a token of :func:`skipping_trace` ran, and what that is called."""


def skipping_trace() -> TokenTrace:
    """Make a trace of 6 blocks with a gate before each of the last 4; the first two are air."""
    grid = TokenGrid((2, 3, 2), (8, 8, 8), np.diag([8.0, 8, 8, 1]))
    columns = ["never"] * 4 + ["once"] * 3 + ["twice"] * 2 + ["kept"]
    ran = np.array([(0,) * 6] * 2 + [RAN[name] for name in columns], dtype=bool)
    air = np.arange(12) < 2
    importance = np.tile(np.where(air, np.nan, np.arange(12)), (4, 1)).astype(np.float32)
    return TokenTrace(
        grid=grid,
        method="svit",
        stages=(2, 3, 4, 5),
        air=air.reshape(grid.shape),
        importance=importance.reshape(4, *grid.shape),
        left_stage=np.zeros(grid.shape, np.uint8),
        ran=ran.T.reshape(6, *grid.shape),
    )


def muting_trace() -> TokenTrace:
    """Make a trace of 4 blocks, 2 heads and one gate, with one window over all but the air.

    Token 0 is air; tokens 1 and 2 lost their query; each other one depends on itself with both
    heads, and on its neighbours 1 and 2 with one head.
    """
    grid = TokenGrid((2, 2, 2), (8, 8, 8), np.diag([8.0, 8, 8, 1]))
    tokens = np.arange(1, 8, dtype=np.int32)
    kept = 2 * np.eye(7, dtype=np.uint8)
    kept[:, :2] = 1
    kept[:2] = 0
    air = (np.arange(8) == 0).reshape(grid.shape)
    muted = ((np.arange(8) == 1) | (np.arange(8) == 2)).reshape(grid.shape)
    foreground = np.where(air, np.nan, 0.5).astype(np.float32)
    return TokenTrace(
        grid=grid,
        method="apformer",
        stages=(1,),
        air=air,
        importance=foreground[None],
        left_stage=muted.astype(np.uint8),
        ran=np.stack([~air, *[~air & ~muted] * 3]),
        dependencies=(Dependencies(tokens, kept, 2),),
    )
