"""Evaluation on real scans: ``python -m napari_sparseseg.training.evaluate_scans``.

Every model segments the test scans as a user would, at several ratios of kept tokens, with its
own sparsifier and with the controls. Thresholds for the ratios are found on the validation scans.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from napari_sparseseg.errors import ModelError
from napari_sparseseg.files import read_volume
from napari_sparseseg.methods import METHODS
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.training.calibrate import Calibrated, calibrate
from napari_sparseseg.training.evaluation import (
    RANDOM_SEEDS,
    RATIOS,
    Outcome,
    contenders,
    has_keep_ratio,
    kept_share,
    run_session,
)
from napari_sparseseg.training.recipe import load_recipe
from napari_sparseseg.training.scans import Case, read_split
from napari_sparseseg.weights import ModelInfo, find_model

Outcomes = list[Outcome]
"""One for each scan, in the order of the split."""
_SIGNIFICANT = 0.05


def settings_for_ratios(info: ModelInfo, cases: list[Case]) -> dict[float, Calibrated]:
    """Return the setting for each ratio of kept tokens.

    A keep ratio is its own setting; a threshold is calibrated.

    Parameters
    ----------
    info : ModelInfo
        The model.
    cases : list of Case
        Validation scans, on which a threshold is calibrated.
    """
    dense = Calibrated(1.0, 1.0, True)
    control = METHODS[info.method].control
    if control is None:
        return {1.0: dense}
    if has_keep_ratio(info.method):
        return {ratio: Calibrated(ratio, ratio, True) for ratio in RATIOS}
    segmenter = Segmenter(info)
    with ExitStack() as stack:
        sessions = [stack.enter_context(segmenter.open(read_volume(c.image))) for c in cases]

        @cache  # bisections for different ratios begin alike
        def share_of(setting: float) -> float:
            return float(np.mean([kept_share(s.run(setting).trace.counts()) for s in sessions]))

        found = {ratio: calibrate(share_of, control.low, ratio) for ratio in RATIOS if ratio < 1}
    return {1.0: dense, **found}


def run_cases(
    segmenter: Segmenter, cases: list[Case], settings: Sequence[float]
) -> dict[float, Outcomes]:
    """Segment every scan at every setting, with one session for each scan."""
    outcomes: dict[float, Outcomes] = {setting: [] for setting in settings}
    for case in cases:
        truth = np.rint(read_volume(case.label).data).astype(np.int64)
        with segmenter.open(read_volume(case.image)) as session:
            for setting in settings:
                outcomes[setting].append(run_session(session, truth, setting))
    return outcomes


def evaluate_model(info: ModelInfo, validation: list[Case], test: list[Case]) -> dict[str, Any]:
    """Evaluate a model on the test scans.

    Parameters
    ----------
    info : ModelInfo
        The model.
    validation, test : list of Case
        Scans to calibrate a threshold on, and scans to report.

    Returns
    -------
    dict
        JSON-ready: a row for each ratio, with random pruning of as many tokens beside it, and
        the controls that have no setting.
    """
    control = METHODS[info.method].control
    ratios = settings_for_ratios(info, validation)
    runs: dict[tuple[str, float], list[Outcomes]] = {}
    for contender in contenders(info):
        segmenter = contender.open(info)
        reached = [found.setting for found in ratios.values() if found.reached]
        settings = contender.settings(info, reached)
        for setting, outcomes in run_cases(segmenter, test, settings).items():
            runs.setdefault((contender.sparsifier, setting), []).append(outcomes)
            mean = np.mean([outcome.dice for outcome in outcomes])
            print(f"{info.name:24} {contender.sparsifier:9} {setting:<8.6g} {mean:.4f}", flush=True)
    rows = []
    for ratio, found in ratios.items():
        row: dict[str, Any] = {
            "ratio": ratio,
            "setting": found.setting if control else None,
            "validation_share": round(found.share, 4),
            "reached": found.reached,
        }
        if found.reached:
            own = runs[info.method, found.setting]
            drawn = runs.get(("random", found.setting))
            row |= summary(own, info.classes)
            row["random"] = drawn and summary(drawn, info.classes) | paired(own, drawn)
        rows.append(row)
    return {
        "model": info.name,
        "title": info.title,
        "method": info.method,
        "setting": control.name if control else None,
        "weights_sha256": segmenter.sha256,
        "precision": segmenter.precision,
        "rows": rows,
        "controls": {
            name: summary(outcomes, info.classes)
            for (name, _), outcomes in runs.items()
            if name not in (info.method, "random")
        },
    }


def summary(runs: list[Outcomes], classes: tuple[str, ...]) -> dict[str, Any]:
    """Return mean and standard deviation of Dice over scans, and mean counts.

    Parameters
    ----------
    runs : list of list of Outcome
        One list for each seed; seeds are averaged before the spread is taken.
    classes : tuple of str
        Class names, background first.
    """
    dice = _dice(runs)
    every = [outcome for run in runs for outcome in run]
    return {
        "dice": {
            name: _mean_sd(values)
            for name, values in zip(
                ("mean", *classes[1:]), (dice.mean(axis=1), *dice.T), strict=True
            )
        },
        "tokens": {
            key: round(float(np.mean([o.tokens[key] for o in every])), 1) for key in every[0].tokens
        },
        "kept_share": round(float(np.mean([kept_share(o.tokens) for o in every])), 4),
        "block_share": round(float(np.mean([o.blocks for o in every])), 4),
        "gmacs": {
            key: round(float(np.mean([o.gmacs[key] for o in every])), 3) for key in every[0].gmacs
        },
    }


def paired(informed: list[Outcomes], drawn: list[Outcomes]) -> dict[str, Any]:
    """Compare mean Dice scan by scan: two-sided Wilcoxon signed-rank test.

    Returns
    -------
    dict
        "gain", informed minus random; "p"; "beaten", whether random pruning is worse with p
        below 0.05.
    """
    gains = _dice(informed).mean(axis=1) - _dice(drawn).mean(axis=1)
    p = float(wilcoxon(gains).pvalue) if gains.any() else 1.0
    gain = float(gains.mean())
    return {
        "gain": round(gain, 4),
        "p": float(f"{p:.2g}"),
        "beaten": bool(gain > 0 and p < _SIGNIFICANT),
    }


def _dice(runs: list[Outcomes]) -> NDArray[np.float64]:
    """Return ``(scans, classes - 1)`` Dice, the mean over seeds."""
    return np.array([[outcome.dice for outcome in run] for run in runs]).mean(axis=0)


def _mean_sd(values: NDArray[np.float64]) -> dict[str, float]:
    return {"mean": round(float(values.mean()), 4), "sd": round(float(values.std(ddof=1)), 4)}


def find_trained(name: str, others: Path) -> ModelInfo:
    """Return a shipped model, or one that was exported for the evaluation only."""
    try:
        return find_model(name)
    except ModelError:
        return find_model(others / f"{name}.safetensors")


def main(
    recipes: Annotated[list[Path], typer.Argument(help="Recipes of the models.")],
    data: Annotated[Path, typer.Option(help="Folder of the data set.")],
    others: Annotated[Path, typer.Option(help="Folder with models that are not shipped.")],
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
) -> None:
    """Evaluate models on the test split and write the figures as JSON."""
    plans = [load_recipe(path) for path in recipes]
    infos = [find_trained(plan.name, others) for plan in plans]
    parts = {part: read_split(data, part) for part in ("train", "val", "test")}
    results = {
        "task": plans[0].task.name,
        "cases": {part: len(cases) for part, cases in parts.items()},
        "random_seeds": len(RANDOM_SEEDS),
        "versions": {"torch": torch.__version__},
        "models": [evaluate_model(info, parts["val"], parts["test"]) for info in infos],
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
