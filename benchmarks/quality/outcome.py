"""How well labels agree with the truth, and what a run cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.quality.cases import Case
from napari_sparseseg.analysis.metrics import dice_per_class, hd95_per_class
from napari_sparseseg.session import Segmentation

Json = dict[str, Any]


def row_of(case: Case, answer: Segmentation) -> Json:
    """Return what one run on one scan gave, JSON-ready.

    Parameters
    ----------
    case : Case
        The scan with its true classes.
    answer : Segmentation
        The observed run.
    """
    labels, classes = answer.labels.data, len(answer.classes)
    trace = answer.trace
    return {
        "case": case.name,
        "dice": dice_per_class(labels, case.truth, classes),
        "hd95": hd95_per_class(labels, case.truth, classes, case.volume.spacing),
        "tokens": answer.report["tokens"],
        "block_share": round(float(trace.ran[:, ~trace.air].mean()), 4),
        "gmacs": answer.report["gmacs"],
    }


def kept_share(tokens: dict[str, int]) -> float:
    """Return the share of the tokens with tissue that ran every block."""
    return tokens["kept"] / max(1, tokens["total"] - tokens["air"])


def mean_dice(rows: Sequence[Json]) -> float:
    """Return the mean over scans of the mean Dice of the classes that the truth holds."""
    scans = [np.nanmean(np.array(row["dice"], dtype=np.float64)) for row in rows]
    return float(np.mean(scans))
