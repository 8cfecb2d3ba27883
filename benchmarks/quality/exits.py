"""What tokens exit at a threshold of early exit, and whether their final class was right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.quality.cases import Case, CaseSet
from benchmarks.quality.outcome import mean_dice
from benchmarks.quality.voxels import OUTSIDE, Voxels
from napari_sparseseg.analysis.metrics import dice_per_class
from napari_sparseseg.methods import METHODS
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.session import Session
from napari_sparseseg.weights import ModelInfo

SET = "validation"
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
DENSE = 1.0
"""The threshold at which no token exits."""


@dataclass(frozen=True)
class Exits:
    """What happened to one scan.

    Attributes
    ----------
    tissue, exited : int
        Tokens that are not air, and those of them that exited.
    voxels, right : int
        Voxels of the exited tokens, and those of them whose final class is the true one.
    dice : list of float
        Of each foreground class, None where the truth lacks it.
    """

    tissue: int
    exited: int
    voxels: int
    right: int
    dice: list[float | None]


def measure(
    task: str, models: Sequence[ModelInfo], data: Path, cases: Mapping[str, CaseSet]
) -> dict[str, list[dict[str, Any]]]:
    """Run every model of early exit at several thresholds on the validation scans.

    Parameters
    ----------
    task, data
        As every part is given them; not used.
    models : sequence of ModelInfo
        The models; those without early exit are passed over.
    cases : mapping of str to CaseSet
        Sets of the task.

    Returns
    -------
    dict
        For each model of early exit a row for each threshold: share of the tissue tokens that
        exit, share of their voxels that are right (None if none exits), mean Dice, and
        "dense_dice", that of the same model with no exits.
    """
    early = [info for info in models if METHODS[info.method].fate == "exited"]
    return {info.name: _rows(Segmenter(info), cases[SET]) for info in early}


def _rows(segmenter: Segmenter, cases: CaseSet) -> list[dict[str, Any]]:
    found: dict[float, list[Exits]] = {threshold: [] for threshold in (*THRESHOLDS, DENSE)}
    for case in cases:
        with segmenter.open(case.volume) as session:
            for threshold, every in found.items():
                every.append(exits_of(session, case, threshold))
    dense = _mean_dice(found[DENSE])
    return [_row(threshold, found[threshold], dense) for threshold in THRESHOLDS]


def exits_of(session: Session, case: Case, threshold: float) -> Exits:
    """Run a session at one threshold and look at the tokens that exited.

    Parameters
    ----------
    session : Session
        A scan, opened with a model of early exit.
    case : Case
        The scan and its truth.
    threshold : float
        The exit threshold.
    """
    answer = session.run(threshold)
    voxels = Voxels.of(session.probabilities(threshold), session.space, case.truth)
    exited = ~answer.trace.air & ~answer.trace.kept
    theirs = exited[voxels.shown]
    truth, found = voxels.truth[theirs], voxels.found[theirs]
    inside = truth != OUTSIDE
    return Exits(
        tissue=int((~answer.trace.air).sum()),
        exited=int(exited.sum()),
        voxels=int(inside.sum()),
        right=int((truth == found)[inside].sum()),
        dice=dice_per_class(answer.labels.data, case.truth, len(answer.classes)),
    )


def _row(threshold: float, every: Sequence[Exits], dense: float) -> dict[str, Any]:
    voxels = sum(one.voxels for one in every)
    return {
        "threshold": threshold,
        "exited": sum(one.exited for one in every) / sum(one.tissue for one in every),
        "voxels_right": sum(one.right for one in every) / voxels if voxels else None,
        "dice": _mean_dice(every),
        "dense_dice": dense,
    }


def _mean_dice(every: Sequence[Exits]) -> float:
    return mean_dice([asdict(one) for one in every])
