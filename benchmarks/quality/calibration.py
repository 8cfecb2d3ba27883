"""Whether a model is as often right as it is confident, and whether doubt points to errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.arms import default_setting
from benchmarks.quality.cases import Case, CaseSet
from benchmarks.quality.voxels import OUTSIDE, Voxels
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.weights import ModelInfo

SET = "validation"
CERTAIN = 0.999
"""Background of a higher probability is left out: there is so much of it, and so little to doubt,
that it would hide the rest."""

BINS = 20
LEAST_CONFIDENT = 0.1


def measure(
    task: str, models: Sequence[ModelInfo], data: Path, cases: Mapping[str, CaseSet]
) -> dict[str, dict[str, Any]]:
    """Compare confidence and truth of every model at its default setting.

    Parameters
    ----------
    task, data
        As every part is given them; not used.
    models : sequence of ModelInfo
        The models.
    cases : mapping of str to CaseSet
        Sets of the task, of which the validation scans are segmented.

    Returns
    -------
    dict
        For each model what :func:`summary` returns, with the set and the setting.
    """
    parts = {}
    for info in models:
        segmenter = Segmenter(info)
        found = [_doubtful(segmenter, case) for case in cases[SET]]
        confidence = np.concatenate([values for values, _ in found])
        right = np.concatenate([values for _, values in found])
        facts = {"set": SET, "setting": default_setting(info)}
        parts[info.name] = {**facts, **summary(confidence, right)}
    return parts


def summary(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> dict[str, Any]:
    """Return how confidence and truth go together.

    Parameters
    ----------
    confidence : ndarray of float
        ``(voxels,)`` probability of the most probable class.
    right : ndarray of bool
        Whether it is the true one.

    Returns
    -------
    dict
        "bins" of confidence that hold any voxel, each with its mean confidence and its accuracy;
        "errors", of which "wrong_among_least_confident_10_percent" is the share found among the
        tenth of the voxels that the model was least sure of (None if nothing is wrong); "ece",
        the mean difference of confidence and accuracy over the bins, weighted by their voxels.
    """
    edges = np.linspace(0, 1, BINS + 1)
    number = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = [
        {
            "low": round(float(edges[index]), 6),
            "high": round(float(edges[index + 1]), 6),
            "voxels": int(inside.sum()),
            "confidence": float(confidence[inside].mean(dtype=np.float64)),
            "accuracy": float(right[inside].mean()),
        }
        for index in range(BINS)
        if (inside := number == index).any()
    ]
    gaps = [b["voxels"] * abs(b["confidence"] - b["accuracy"]) for b in bins]
    wrong = ~right
    doubted = np.argsort(confidence, kind="stable")[: round(LEAST_CONFIDENT * len(confidence))]
    share = float(wrong[doubted].sum() / wrong.sum()) if wrong.any() else None
    return {
        "bins": bins,
        "errors": {
            "voxels": len(right),
            "wrong": int(wrong.sum()),
            "wrong_among_least_confident_10_percent": share,
        },
        "ece": float(sum(gaps) / max(1, len(right))),
    }


def _doubtful(segmenter: Segmenter, case: Case) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return confidence and truth of the voxels that are not background with certainty."""
    with segmenter.open(case.volume) as session:
        voxels = Voxels.of(session.probabilities(), session.space, case.truth)
    certain = (voxels.found == 0) & (voxels.confidence > CERTAIN)
    counted = (voxels.truth != OUTSIDE) & ~certain
    return voxels.confidence[counted], (voxels.found == voxels.truth)[counted]
