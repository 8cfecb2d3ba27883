"""The setting that a model should start with, chosen on the validation scans alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.quality.figures import AS_GOOD
from benchmarks.quality.outcome import Json, mean_dice
from napari_sparseseg.methods import METHODS

SURE = 0.99
"""Share of the voxels of exited tokens that has to be right."""

_SET = "validation"


@dataclass(frozen=True)
class _Option:
    """A setting that was tried, with its mean Dice and what else it has to be judged by."""

    setting: float
    dice: float
    right: float = 1.0


def recommend(found: Json) -> dict[str, Json]:
    """Choose for each measured model the sparsest setting that loses next to nothing.

    That is the smallest one whose mean Dice on the validation scans is within :data:`AS_GOOD` of
    the dense twin's; where tokens exit, also :data:`SURE` of their voxels have to be right. If
    there is none, nothing is pruned.

    Parameters
    ----------
    found : dict
        The JSON of a task.

    Returns
    -------
    dict
        For each model with a setting "setting" and "why"; models that lack figures are left out.
    """
    models = found.get("models", {})
    twin = next((m for m in models.values() if m["method"] == "dense"), None)
    if twin is None:
        return {}
    dense = mean_dice(_arms(twin)[0]["rows"])
    chosen = {}
    for name, model in models.items():
        if model["setting"] is None:
            continue
        options = _options(name, model, found)
        if options:
            chosen[name] = _choose(options, dense, model["setting"], exits=_exits(model))
    return chosen


def _options(name: str, model: Json, found: Json) -> list[_Option]:
    """List what was tried: thresholds of early exit, else the ratios that were reached."""
    if _exits(model):
        return [
            _Option(
                row["threshold"],
                row["dice"],
                1.0 if row["voxels_right"] is None else row["voxels_right"],
            )
            for row in found.get("exits", {}).get(name, [])
        ]
    return [_Option(arm["setting"], mean_dice(arm["rows"])) for arm in _arms(model)]


def _choose(options: Sequence[_Option], dense: float, control: str, exits: bool) -> Json:
    """Return the smallest setting that fulfils the rule, and the reason in words."""
    rule = f"mean Dice within {AS_GOOD:g} of the dense twin's {dense:.4f}"
    if exits:
        rule += f" and at least {SURE:.0%} of the exited voxels right"
    good = [o for o in options if o.dice >= dense - AS_GOOD and o.right >= SURE]
    if not good:
        return {"setting": 1.0, "why": f"no {control} on the validation scans has {rule}"}
    best = min(good, key=lambda option: option.setting)
    facts = f"mean Dice {best.dice:.4f}" + (f", {best.right:.2%} right" if exits else "")
    why = f"the smallest {control} on the validation scans with {rule}: {facts}"
    return {"setting": _rounded_up(best.setting), "why": why}


def _rounded_up(setting: float) -> float:
    """Return a setting with two digits that prunes no more."""
    return math.ceil(round(100 * setting, 6)) / 100


def _arms(model: Json) -> list[Json]:
    """Return the arms of the model's own rule on the validation scans."""
    return [
        arm
        for arm in model["arms"]
        if (arm["set"], arm["sparsifier"]) == (_SET, model["method"]) and arm["reached"]
    ]


def _exits(model: Json) -> bool:
    return METHODS[model["method"]].fate == "exited"
