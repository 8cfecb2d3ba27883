"""What the token maps show: values and legends, from a trace. Plain arrays.

Which maps there are is for the trace to say (``trace.views``); here stands how each kind is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg import colors
from napari_sparseseg.fates import fate_map, fate_names, stage_name
from napari_sparseseg.methods import Fate, MapKind, View
from napari_sparseseg.tokens import TokenTrace
from napari_sparseseg.words import times

KINDS: tuple[MapKind, ...] = get_args(MapKind)
SHADED = ("importance", "dependencies")
"""Kinds that are shown in shades from 0 to 1; the others are categories with a legend."""

NONE = "none"
"""The choice of no map at all."""

PREVIEW_NOTE = "Preview: tokens that the first stage lets go on."

AIR = -1
"""Air where a map counts something, and 0 counts nothing."""


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


def view_of(trace: TokenTrace, kind: str) -> View | None:
    """Return the view of a kind, None if the method has none."""
    return next((view for view in trace.views if view.kind == kind), None)


# Where tokens left


kept_map = fate_map
"""What became of each token, by the one rule that all share."""


def kept_legend(trace: TokenTrace) -> list[Entry]:
    """List the values of :func:`kept_map`; air is 0 and left clear."""
    stages, names = len(trace.stages), fate_names(trace)
    shades = [*colors.left(stages), colors.KEPT, colors.SOME_BLOCKS]
    counts = np.bincount(kept_map(trace).ravel(), minlength=stages + 3).tolist()
    # what only some methods do is left out where it did not occur
    values = range(1, stages + (3 if counts[stages + 2] else 2))
    return [
        Entry(value, names[value], color, counts[value])
        for value, color in zip(values, shades, strict=False)
    ]


def preview_map(preview: NDArray[np.uint8], stages: int) -> NDArray[np.uint8]:
    """Return a session's preview in values that :func:`kept_map` leaves free or shares.

    Parameters
    ----------
    preview : ndarray
        What ``Session.preview`` returns.
    stages : int
        Number of stages.
    """
    return np.array([0, 1, stages + 3], dtype=np.uint8)[preview]


def preview_legend(states: NDArray[np.uint8], stages: int, fate: Fate) -> list[Entry]:
    """List the values of :func:`preview_map`, for a rule with so many stages and this fate."""
    goes_on, first = stages + 3, colors.left(max(1, stages))[0]
    return [
        Entry(1, f"{fate} at stage 1", first, int((states == 1).sum())),
        Entry(goes_on, "goes on", colors.GOES_ON, int((states == goes_on).sum())),
    ]


# How deep, how often


def depth_map(trace: TokenTrace) -> NDArray[np.int16]:
    """Return the number of blocks that each token ran; ``grid.shape``, :data:`AIR` for air."""
    return np.where(trace.air, AIR, trace.depth.astype(np.int16))


def depth_legend(trace: TokenTrace) -> list[Entry]:
    """List the depths that occur, in blocks."""
    ramp, blocks = colors.depths(trace.num_blocks), trace.num_blocks
    return [
        Entry(depth, f"{depth} of {blocks} blocks", ramp[depth], count)
        for depth, count in _counts(depth_map(trace)).items()
    ]


def reactivation_map(trace: TokenTrace) -> NDArray[np.int16]:
    """Return how often each token came back; ``grid.shape``, :data:`AIR` for air."""
    return np.where(trace.air, AIR, trace.reactivations.astype(np.int16))


def reactivation_legend(trace: TokenTrace) -> list[Entry]:
    """List the numbers of reactivations, from 0 to the largest that occurs."""
    counts = _counts(reactivation_map(trace))
    ramp = colors.counts(max(counts, default=0))
    return [Entry(n, times(n), color, counts.get(n, 0)) for n, color in enumerate(ramp)]


def _counts(values: NDArray[np.int16]) -> dict[int, int]:
    """Count each value that occurs, but for air."""
    found, counts = np.unique(values[values != AIR], return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


# Scores, and what they were for


def scores(trace: TokenTrace) -> NDArray[np.float32]:
    """Return the scores as they are shown, from 0 to 1; ``(stages, *grid.shape)``.

    Ranks, where the size of a score means nothing; NaN where a token was not scored.
    """
    view = view_of(trace, "importance")
    return trace.importance if view is not None and not view.ranked else trace.percentile()


def dependency_map(trace: TokenTrace, token: int) -> NDArray[np.float32]:
    """Return ``trace.attended``, all NaN if the token attended to nothing."""
    shares = trace.attended(token)
    return np.full(trace.grid.shape, np.nan, np.float32) if shares is None else shares


def nearest_attending(trace: TokenTrace, distance: NDArray[np.floating]) -> int:
    """Choose a token that attended to others, or at least is not air, by its distance.

    Parameters
    ----------
    trace : TokenTrace
        The trace.
    distance : ndarray
        ``grid.shape``, in any unit.

    Returns
    -------
    int
        Its place in the flattened token grid.
    """
    attending = np.zeros(trace.grid.size, dtype=bool)
    for window in trace.dependencies:
        attending[window.tokens[window.kept.any(axis=1)]] = True
    wanted = attending.reshape(trace.grid.shape)
    for candidates in (wanted & trace.kept, wanted, ~trace.air):
        if candidates.any():
            return int(np.where(candidates, distance, np.inf).argmin())
    return int(distance.argmin())


# All kinds alike


def values_of(
    trace: TokenTrace, kind: str, stage: int, token: int, shown: NDArray[np.float32]
) -> NDArray[Any]:
    """Return the map of a kind, on the token grid.

    Parameters
    ----------
    trace : TokenTrace
        The trace.
    kind : str
        One of :data:`KINDS`.
    stage : int
        Stage, from 1, for scores.
    token : int
        Token whose dependencies are shown.
    shown : ndarray
        :func:`scores`, which take time and stay the same.
    """
    if kind == "importance":
        return shown[stage - 1]
    if kind == "dependencies":
        return dependency_map(trace, token)
    return _VALUES[kind](trace)


def legend_of(trace: TokenTrace, kind: str) -> list[Entry]:
    """List what the colours of a map mean; empty for shades from 0 to 1, which have a bar."""
    if kind == "dependencies":
        return [Entry(0, "chosen token", colors.CHOSEN)]
    return _LEGENDS[kind](trace) if kind in _LEGENDS else []


_VALUES: dict[str, Callable[[TokenTrace], NDArray[Any]]] = {
    "kept": kept_map,
    "depth": depth_map,
    "reactivations": reactivation_map,
}
_LEGENDS: dict[str, Callable[[TokenTrace], list[Entry]]] = {
    "kept": kept_legend,
    "depth": depth_legend,
    "reactivations": reactivation_legend,
}


def blocks_saved(trace: TokenTrace) -> float:
    """Return the share of encoder work that was left out.

    Counted in tokens times blocks, against running every token that is not air through every
    block; 0 if all tokens are air.
    """
    dense = int((~trace.air).sum()) * trace.num_blocks
    return 1.0 - int(trace.depth.sum()) / dense if dense else 0.0


def token_table(trace: TokenTrace, shown: NDArray[np.float32], stage: int) -> dict[str, Any]:
    """Describe each token, for the table of a labels layer.

    Parameters
    ----------
    trace : TokenTrace
        The trace.
    shown : ndarray
        :func:`scores`.
    stage : int
        Stage, from 1, whose scores are told.

    Returns
    -------
    dict of arrays
        One row for each token in C order: its label (``index``, from 1), state and depth, and
        where the method shows them, how often it was reactivated and its score at the stage
        under the name of that view (and ``score``, the raw one, if that is a rank).
    """
    names = np.array([*fate_names(trace).values()])
    depths = [f"{depth} of {trace.num_blocks} blocks" for depth in range(trace.num_blocks + 1)]
    table: dict[str, Any] = {
        "index": np.arange(1, trace.grid.size + 1),
        "state": names[kept_map(trace).ravel()],
        "depth": np.array(depths)[trace.depth.ravel()],
    }
    if view_of(trace, "reactivations") is not None:
        table["reactivated"] = np.array([times(n) for n in range(trace.num_blocks + 1)])[
            trace.reactivations.ravel()
        ]
    view = view_of(trace, "importance")
    if view is not None:
        # float64: napari leaves out a NaN only if it is a Python float.
        name = f"{view.title} at {stage_name(trace, stage)}"
        table[name] = shown[stage - 1].ravel().astype(np.float64)
        if view.ranked:
            table["score"] = trace.importance[stage - 1].ravel().astype(np.float64)
    return table


def token_ids(trace: TokenTrace) -> NDArray[np.int32]:
    """Return the number of each token, from 1 in C order; ``grid.shape``."""
    return np.arange(1, trace.grid.size + 1, dtype=np.int32).reshape(trace.grid.shape)
