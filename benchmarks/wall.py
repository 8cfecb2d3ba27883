"""Whole-volume wall time of every arm, and whether its labels are as good."""

from __future__ import annotations

from typing import Any

from benchmarks.arms import ARMS, Answer, make_arm
from benchmarks.bench import Bench, describe_case, mean_dice
from benchmarks.targets import DENSE_TWIN, DICE_LOST, MONAI, MONAI_TUNED
from benchmarks.timing import alternate, ratio, spreads
from benchmarks.volumes import Case
from napari_sparseseg.weights import find_model

CASES = ("brain-t1", "planning-ct")
_SLOW = ("planning-ct",)  # where MONAI takes minutes


def measure(bench: Bench) -> dict[str, Any]:
    """Time every arm on every scan."""
    return {name: _measure_case(bench, bench.case(name)) for name in CASES}


def _measure_case(bench: Bench, case: Case) -> dict[str, Any]:
    classes = len(find_model(bench.dense).classes)
    arms = {name: make_arm(name, case, bench) for name in ARMS}
    slow = case.name in _SLOW
    repeats = {
        name: bench.slow_repeats if slow and not arm.has_weights else bench.repeats
        for name, arm in arms.items()
    }
    facts: dict[str, dict[str, Any]] = {}
    rounds = alternate(
        {name: arm.run for name, arm in arms.items()},
        repeats,
        bench.device,
        {name: arm.warm_up for name, arm in arms.items()},
        settle=[name for name, arm in arms.items() if arm.has_weights or not slow],
    )

    def note(name: str, answer: Answer) -> None:
        if name in facts:
            return
        facts[name] = {"precision": arms[name].precision}
        if answer.report is not None:
            facts[name]["dice"] = mean_dice(answer.labels, case.truth, classes)
            facts[name] |= {key: answer.report[key] for key in ("tokens", "gmacs", "setting")}

    seconds = spreads(rounds, note)
    rows = {name: {"seconds": seconds[name], **facts[name]} for name in arms}
    return {"volume": describe_case(case), "arms": rows, "verdicts": verdicts(rows)}


def verdicts(rows: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Judge the arms of one scan against what was promised.

    Parameters
    ----------
    rows : dict
        For each arm its "seconds", and "dice" where it has one.
    """
    fast = rows["sparse"]["seconds"]
    lost = 100 * (rows["dense_twin"]["dice"] - rows["sparse"]["dice"])
    return [
        DENSE_TWIN.judge(ratio(rows["dense_twin"]["seconds"], fast)),
        DICE_LOST.judge(lost),
        MONAI.judge(ratio(rows["monai"]["seconds"], fast)),
        MONAI_TUNED.judge(ratio(rows["monai_tuned"]["seconds"], fast)),
    ]
