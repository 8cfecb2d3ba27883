"""All that is known of one token of a result: plain data, for the tab "Token"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.analysis.patches import Box, TokenIndex
from napari_sparseseg.fates import fate_map, fate_names
from napari_sparseseg.tokens import TokenGrid, TokenTrace
from napari_sparseseg.words import stage_choices

if TYPE_CHECKING:
    from napari_sparseseg.session import Segmentation

_LETTERS = ("LR", "PA", "IS")  # for each axis of the patient, towards less and towards more


@dataclass(frozen=True)
class Decision:
    """What was decided on a token at one stage.

    Attributes
    ----------
    stage : str
        Where it was decided, in the words of :func:`words.stage_choices`.
    score : float or None
        Its importance there; None where it was not scored.
    rank : int or None
        Its place among the scored tokens, 1 for the highest score; those with equal scores
        share one.
    scored : int
        Number of tokens that were scored at the stage.
    text : str
        What was decided: "kept", "reactivated", a fate of the method, or "had left".
    """

    stage: str
    score: float | None
    rank: int | None
    scored: int
    text: str


@dataclass(frozen=True)
class ClassShare:
    """How much of a patch a class takes.

    Attributes
    ----------
    name, color : str
        The class.
    share : float
        Part of the voxels of the patch, above 0.
    """

    name: str
    color: str
    share: float


@dataclass(frozen=True)
class TokenFacts:
    """All that is known of one token.

    Attributes
    ----------
    token : int
        Its place in the flattened token grid.
    fate : str
        What became of it, in the words of :func:`fates.fate_names`.
    point : tuple of float
        Its centre in RAS mm.
    box : tuple of slice
        Its voxels, along the axes of the scan; empty where the scan has none.
    ran : tuple of bool
        For each encoder block, whether the token ran it.
    reactivated : int
        How often it ran a block after it had skipped the one before.
    confidence : float or None
        Probability of the most probable class, averaged over the patch; None if unknown.
    decisions : tuple of Decision
        At each stage; none for air.
    mix : tuple of ClassShare
        The classes that were predicted in its patch, the largest share first.
    attended : str
        How many tokens it attended to, in words; "" if the method does not tell.
    """

    token: int
    fate: str
    point: tuple[float, float, float]
    box: Box
    ran: tuple[bool, ...]
    reactivated: int
    confidence: float | None
    decisions: tuple[Decision, ...]
    mix: tuple[ClassShare, ...]
    attended: str


def token_facts(result: Segmentation, index: TokenIndex, token: int) -> TokenFacts:
    """Gather what is known of a token.

    Parameters
    ----------
    result : Segmentation
        The observed run.
    index : TokenIndex
        Its tokens on the scan.
    token : int
        Place in the flattened token grid.
    """
    trace, box = result.trace, index.box(token)
    confidence = float(trace.confidence.flat[token])
    return TokenFacts(
        token=token,
        fate=fate_names(trace)[int(fate_map(trace).flat[token])],
        point=centre_of(trace.grid, token),
        box=box,
        ran=tuple(_ran(trace, token).tolist()),
        reactivated=int(trace.reactivations.flat[token]),
        confidence=None if np.isnan(confidence) else confidence,
        decisions=decisions(trace, token),
        mix=class_mix(result, box),
        attended=_attended(trace, token) if trace.dependencies else "",
    )


def centre_of(grid: TokenGrid, token: int) -> tuple[float, float, float]:
    """Return the centre of a token in RAS mm."""
    x, y, z = grid.centre(token).tolist()
    return x, y, z


def decisions(trace: TokenTrace, token: int) -> tuple[Decision, ...]:
    """Tell what was decided on a token at each stage; nothing of air, which met none."""
    if trace.air.flat[token]:
        return ()
    stages = enumerate(stage_choices(trace), start=1)
    return tuple(_decision(trace, token, stage, words) for stage, words in stages)


def _decision(trace: TokenTrace, token: int, stage: int, words: str) -> Decision:
    scores = trace.importance[stage - 1].ravel()
    known = np.isfinite(scores)
    text, scored = _decided(trace, token, stage), int(known.sum())
    if not known[token]:
        return Decision(words, None, None, scored, text)
    rank = 1 + int((scores[known] > scores[token]).sum())
    return Decision(words, float(scores[token]), rank, scored, text)


def _decided(trace: TokenTrace, token: int, stage: int) -> str:
    """Say what a stage decided; it stands before the block with the index `block`."""
    ran, block = _ran(trace, token), trace.stages[stage - 1]
    left = int(trace.left_stage.flat[token])
    if left:
        return "had left" if left < stage else trace.fate if left == stage else "kept"
    if block < len(ran) and not ran[block]:
        return trace.fate
    if 0 < block < len(ran) and not ran[block - 1]:
        return "reactivated"
    return "kept"


def class_mix(result: Segmentation, box: Box) -> tuple[ClassShare, ...]:
    """Share a part of the labels out among the classes that it holds, largest first."""
    labels = result.labels.data[box]
    counts: NDArray[np.int64] = np.bincount(labels.ravel(), minlength=len(result.classes))
    found = [int(c) for c in np.argsort(-counts, kind="stable") if counts[c]]
    return tuple(
        ClassShare(result.classes[c], result.colors[c], int(counts[c]) / labels.size) for c in found
    )


def place_words(point: tuple[float, float, float]) -> str:
    """Write RAS millimetres as a radiologist reads them: "R 12.0, P 3.5, S 40.1 mm"."""
    parts = (
        f"{letters[mm >= 0]} {abs(mm):.1f}" for letters, mm in zip(_LETTERS, point, strict=True)
    )
    return ", ".join(parts) + " mm"


def box_words(box: Box) -> str:
    """Write the voxels of a box as "12-19, 0-7, 4-6", counted from 0; "none" if it is empty."""
    if any(part.start == part.stop for part in box):
        return "none"
    return ", ".join(f"{part.start}-{part.stop - 1}" for part in box)


def _attended(trace: TokenTrace, token: int) -> str:
    shares = trace.attended(token)
    if shares is None:
        return "none: air" if trace.air.flat[token] else "none: its query was pruned"
    return f"{(shares > 0).sum():,} of {np.isfinite(shares).sum():,} tokens"


def _ran(trace: TokenTrace, token: int) -> NDArray[np.bool_]:
    return trace.ran.reshape(trace.num_blocks, -1)[:, token]
