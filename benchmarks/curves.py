"""Dice and time over the two settings that have defaults: the overlap and the keep ratio.

On held-out heads that need several windows, and on no scan that is for reporting only.
"""

from __future__ import annotations

from functools import partial
from statistics import mean
from typing import Any

from benchmarks.ablation import Variant
from benchmarks.bench import Bench, mean_dice
from benchmarks.timing import alternate, spreads
from benchmarks.volumes import Case
from napari_sparseseg.session import Segmentation

OVERLAPS = (0.0, 0.125, 0.25, 0.5)
RATIOS = (1.0, 0.7, 0.5, 0.3, 0.2, 0.1)


def measure(bench: Bench) -> dict[str, Any]:
    """Run every overlap at the default keep ratio, and every keep ratio at the default overlap."""
    cases = bench.validation()
    return {
        "heads": [case.name for case in cases],
        "overlap": _curve(bench, cases, {o: Variant(overlap=o) for o in OVERLAPS}),
        "keep_ratio": _curve(bench, cases, {r: Variant(setting=r) for r in RATIOS}),
    }


def _curve(bench: Bench, cases: list[Case], variants: dict[float, Variant]) -> list[dict[str, Any]]:
    loaded = {str(value): variant.open(bench) for value, variant in variants.items()}
    heads: dict[str, list[dict[str, Any]]] = {name: [] for name in loaded}
    for case in cases:
        actions = {
            str(value): partial(variant.run, loaded[str(value)], case)
            for value, variant in variants.items()
        }
        facts: dict[str, dict[str, Any]] = {}
        rounds = alternate(actions, bench.repeats // 2 + 1, bench.device)
        for name, seconds in spreads(rounds, partial(_note, case, facts)).items():
            heads[name].append({"head": case.name, "seconds": seconds, **facts[name]})
    return [
        {
            "value": value,
            "seconds": round(mean(h["seconds"]["median"] for h in heads[str(value)]), 5),
            "dice": round(mean(h["dice"] for h in heads[str(value)]), 5),
            "gmacs": round(mean(h["gmacs"] for h in heads[str(value)]), 3),
            "heads": heads[str(value)],
        }
        for value in variants
    ]


def _note(case: Case, facts: dict[str, dict[str, Any]], name: str, result: Segmentation) -> None:
    """Enter what the first result of each name is worth."""
    if name not in facts:
        dice = mean_dice(result.labels.data, case.truth, len(result.classes))
        facts[name] = {"dice": dice, "gmacs": result.report["gmacs"]["run"]}
