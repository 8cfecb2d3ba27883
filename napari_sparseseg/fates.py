"""What became of each token: one rule and one set of words for maps, tables and notes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.tokens import TokenTrace

AIR = "air"
KEPT = "kept"


def stage_name(trace: TokenTrace, stage: int) -> str:
    """Name a stage, from 1: by its number, or by the block that it decides on.

    A token that is skipped sits out one block, so there are as many stages as such blocks and
    only the block is worth telling.
    """
    if trace.fate == "skipped":
        return f"block {trace.stages[stage - 1] + 1}"
    return f"stage {stage}"


def fate_map(trace: TokenTrace) -> NDArray[np.uint8]:
    """Return what became of each token; ``grid.shape``.

    0 for air, s for those that left at stage s, then one more for kept and one more for those
    that ran the last block but not all before it.
    """
    kept = len(trace.stages) + 1
    result = np.where(trace.left_stage > 0, trace.left_stage, kept + 1).astype(np.uint8)
    result[trace.kept] = kept
    result[trace.air] = 0
    return result


def fate_names(trace: TokenTrace) -> dict[int, str]:
    """Name every value that :func:`fate_map` can hold."""
    stages = len(trace.stages)
    left = {s: f"{trace.fate} at {stage_name(trace, s)}" for s in range(1, stages + 1)}
    return {0: AIR, **left, stages + 1: KEPT, stages + 2: f"{trace.fate} at times"}
