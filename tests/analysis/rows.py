"""Traces of a row of tokens whose fates are chosen, over scans of 1 mm voxels."""

from __future__ import annotations

import numpy as np

from napari_sparseseg.analysis.patches import TokenIndex
from napari_sparseseg.tokens import TokenGrid, TokenTrace
from napari_sparseseg.volume import Volume

RAN = {"air": "000", "early": "100", "late": "110", "kept": "111", "some": "101"}
"""Which of three blocks a token of each fate ran."""

LEFT = {"early": 1, "late": 2}


def trace_of(fates: list[str], patch: int = 2, method: str = "stp") -> TokenTrace:
    """Make a trace of a row of tokens along R, 3 blocks and 2 stages."""
    grid = TokenGrid.over((len(fates) * patch, patch, patch), np.eye(4), patch)
    ran = np.array([[mark == "1" for mark in RAN[fate]] for fate in fates])
    return TokenTrace(
        grid=grid,
        method=method,
        stages=(1, 2),
        air=np.array([fate == "air" for fate in fates]).reshape(grid.shape),
        importance=np.full((2, *grid.shape), np.nan, dtype=np.float32),
        left_stage=np.array([LEFT.get(fate, 0) for fate in fates], np.uint8).reshape(grid.shape),
        ran=ran.T.reshape(3, *grid.shape),
    )


def scan_of(trace: TokenTrace) -> np.ndarray:
    """Give an empty scan of 1 mm voxels below the tokens."""
    return np.zeros([n * p for n, p in zip(trace.grid.shape, trace.grid.patch, strict=True)], bool)


def index_of(trace: TokenTrace) -> TokenIndex:
    """Find the token of each voxel of that scan."""
    return TokenIndex.of(trace.grid, Volume(scan_of(trace), np.eye(4)))
