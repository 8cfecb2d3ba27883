"""What the token maps show: categories, colours and legends, from a trace. Plain arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.tokens import TokenTrace

NONE, IMPORTANCE, KEPT, DEPTH = "none", "importance", "kept", "depth"
MAPS = (NONE, IMPORTANCE, KEPT, DEPTH)
"""The maps to choose from; at most one is shown at a time."""

PREVIEW_NOTE = "preview: tokens the first stage lets go on"

# The earlier a token left, the darker and denser its cover; kept tokens stay almost clear. So the
# contours of the segmentation, which use all hues, can be read on top of it. Red, green, blue and
# opacity, from the first stage to the last.
_PRUNED = ("#0b0924d0", "#641a80b0", "#d3436e90")
_KEPT = "#00c89628"
_GOES_ON = "#35b5ff38"
# Depth has an order, so it gets a ramp whose lightness grows evenly (viridis).
_SHALLOW_TO_DEEP = ("#44015480", "#3b528b80", "#21918c80", "#5ec96280", "#fde72580")


@dataclass(frozen=True)
class Entry:
    """One line of a legend.

    Attributes
    ----------
    value : int
        Value in the map.
    text : str
        What it means.
    color : str
        "#rrggbbaa".
    count : int or None
        Number of tokens, if it is known.
    """

    value: int
    text: str
    color: str
    count: int | None = None


def kept_map(trace: TokenTrace) -> NDArray[np.uint8]:
    """Return 0 for air, s for pruned at stage s, and stages + 1 for kept; ``grid.shape``."""
    result = trace.pruned_stage.astype(np.uint8)
    result[trace.kept] = len(trace.stages) + 1
    return result


def preview_map(preview: NDArray[np.uint8], stages: int) -> NDArray[np.uint8]:
    """Return a session's preview in the values of :func:`kept_legend`; same shape."""
    return np.array([0, 1, stages + 2], dtype=np.uint8)[preview]


def kept_legend(trace: TokenTrace) -> list[Entry]:
    """List the values of :func:`kept_map`; air is 0 and left clear."""
    counts = np.bincount(kept_map(trace).ravel(), minlength=len(trace.stages) + 2)
    entries = [
        Entry(stage, f"pruned at stage {stage}", color, int(counts[stage]))
        for stage, color in enumerate(_ramp(_PRUNED, len(trace.stages)), start=1)
    ]
    return [*entries, Entry(len(entries) + 1, "kept", _KEPT, int(counts[len(entries) + 1]))]


def preview_legend(states: NDArray[np.uint8], stages: int) -> list[Entry]:
    """List the values of :func:`preview_map`."""
    return [
        Entry(1, "pruned at stage 1", _PRUNED[0], int((states == 1).sum())),
        Entry(stages + 2, "goes on", _GOES_ON, int((states == stages + 2).sum())),
    ]


def depth_legend(trace: TokenTrace) -> list[Entry]:
    """List the depths that tokens can reach, in blocks; air is 0 and left clear."""
    depths = sorted({*trace.stages, trace.num_blocks, *np.unique(trace.depth[~trace.air]).tolist()})
    colors = _ramp(_SHALLOW_TO_DEEP, trace.num_blocks + 1)
    counts = np.bincount(trace.depth.ravel(), minlength=trace.num_blocks + 1)
    return [
        Entry(depth, f"{depth} of {trace.num_blocks} blocks", colors[depth], int(counts[depth]))
        for depth in depths
    ]


def blocks_saved(trace: TokenTrace) -> float:
    """Return the share of encoder work that was left out.

    Counted in tokens times blocks, against running every token that is not air through every
    block; 0 if all tokens are air.
    """
    dense = int((~trace.air).sum()) * trace.num_blocks
    return 1.0 - int(trace.depth.sum()) / dense if dense else 0.0


def token_table(trace: TokenTrace, ranks: NDArray[np.float32], stage: int) -> dict[str, Any]:
    """Describe each token, for the table of a labels layer.

    Parameters
    ----------
    trace : TokenTrace
        The trace.
    ranks : ndarray
        ``trace.percentile()``.
    stage : int
        Stage, from 1, whose importance is told.

    Returns
    -------
    dict of arrays
        One row for each token in C order: its label (``index``, from 1), importance (rank 0 to 1)
        and score at the stage, NaN where it was not scored, state and depth.
    """
    names = ["air", *(entry.text for entry in kept_legend(trace))]
    depths = [f"{depth} of {trace.num_blocks} blocks" for depth in range(trace.num_blocks + 1)]
    # float64: napari leaves out a NaN only if it is a Python float.
    return {
        "index": np.arange(1, trace.grid.size + 1),
        "state": np.array(names)[kept_map(trace).ravel()],
        "depth": np.array(depths)[trace.depth.ravel()],
        f"importance at stage {stage}": ranks[stage - 1].ravel().astype(np.float64),
        "score": trace.importance[stage - 1].ravel().astype(np.float64),
    }


def token_ids(trace: TokenTrace) -> NDArray[np.int32]:
    """Return the number of each token, from 1 in C order; ``grid.shape``."""
    return np.arange(1, trace.grid.size + 1, dtype=np.int32).reshape(trace.grid.shape)


def _ramp(anchors: tuple[str, ...], number: int) -> list[str]:
    """Spread some colours evenly from the first anchor to the last."""
    channels = np.array([list(bytes.fromhex(anchor[1:])) for anchor in anchors], dtype=float)
    at = np.linspace(0, len(anchors) - 1, number)
    mixed = np.stack([np.interp(at, range(len(anchors)), c) for c in channels.T], axis=1)
    return [f"#{bytes(color.round().astype(np.uint8)).hex()}" for color in mixed]
