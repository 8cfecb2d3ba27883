"""The tables beside the comparison: robustness, tissue, calibration, exits, recommendation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.markdown import table
from benchmarks.quality import words
from benchmarks.quality.figures import Figures, Json, Model
from benchmarks.quality.stats import spread


def robustness_table(figures: Figures) -> str:
    """Return Dice under each condition, and what it lost against the same scans without it."""
    rows = figures.part("robustness")
    arms = list(dict.fromkeys((row["model"], row["setting"]) for row in rows))
    groups: dict[tuple[str, str, str], list[Json]] = {}
    for row in rows:
        key = (row["condition"], str(row["level"]), _set_of(figures, row["case"]))
        groups.setdefault(key, []).append(row)
    lines = []
    for (condition, level, where), found in groups.items():
        cells = [_changed([r for r in found if (r["model"], r["setting"]) == arm]) for arm in arms]
        scans = len({row["case"] for row in found})
        about = found[0].get("about", "")
        name = f"{condition} {level}".strip() + (f": {about}" if about else "")
        lines.append([name, f"{scans} of {where}", *cells])
    titles = [f"`{name.split('-', 2)[-1]}`{_at(setting)}" for name, setting in arms]
    return table(["condition, level", "scans", *titles], lines)


def _set_of(figures: Figures, case: str) -> str:
    """Return the set that a case is of."""
    sets = figures.data["sets"]
    return next((name for name in sets if case in sets[name]["cases"]), words.MISSING)


def losses(rows: Sequence[Json]) -> list[float]:
    """Return mean Dice under a condition minus that of the same scan without it."""
    return [mean_of(row["dice"]) - mean_of(row["reference"]) for row in rows]


def mean_of(dice: Sequence[float | None]) -> float:
    """Return the mean over the classes that have a value."""
    return float(np.mean([value for value in dice if value is not None]))


def _changed(rows: Sequence[Json]) -> str:
    if not rows:
        return words.MISSING
    dice = words.dice([mean_of(row["dice"]) for row in rows])
    return f"{dice} ({words.points(float(np.mean(losses(rows))))})"


def _at(setting: float | None) -> str:
    return "" if setting is None else f" {setting:.3g}"


def tissue_table(figures: Figures) -> str:
    """Return the agreement with the tissue maps of a template."""
    return table(
        ["model", "setting", "scan", "Dice of grey matter", "Dice of white matter"],
        (
            [
                f"`{row['model'].split('-', 2)[-1]}`",
                words.number(row["setting"], ".3g"),
                row["case"],
                f"{row['grey']:.3f}",
                f"{row['white']:.3f}",
            ]
            for row in figures.part("tissue")
        ),
    )


def calibration_table(figures: Figures, models: Sequence[Model]) -> str:
    """Return how far confidence can be trusted."""
    head = ["model", "setting", "voxels", "wrong", "expected calibration error",
            "errors among the least confident 10 %"]  # fmt: skip
    rows = []
    for model in models:
        found = figures.part("calibration").get(model.name)
        if found:
            errors = found["errors"]
            rows.append(
                [
                    f"`{model.label}`",
                    words.number(found["setting"], ".3g"),
                    f"{errors['voxels']:,}".replace(",", " "),
                    f"{100 * errors['wrong'] / max(1, errors['voxels']):.1f} %",
                    f"{found['ece']:.3f}",
                    words.percent(errors["wrong_among_least_confident_10_percent"]),
                ]
            )
    return table(head, rows)


def exit_table(rows: Sequence[Json], chosen: float | None) -> str:
    """Return what leaves early at each threshold, and whether it was right.

    Parameters
    ----------
    rows : sequence of dict
        One for each threshold.
    chosen : float or None
        The threshold that is recommended; its row is marked.
    """
    head = ["exit threshold", "tissue tokens that exit", "their voxels that are right", "Dice",
            "over nothing exited, points"]  # fmt: skip
    return table(
        head,
        (
            [
                f"{row['threshold']:g}" + (" (chosen)" if row["threshold"] == chosen else ""),
                words.percent(row["exited"]),
                f"{100 * row['voxels_right']:.2f} %" if row["voxels_right"] is not None
                else words.MISSING,
                f"{row['dice']:.3f}",
                words.points(row["dice"] - row["dense_dice"]),
            ]
            for row in rows
        ),
    )  # fmt: skip


def choice_table(figures: Figures, models: Sequence[Model]) -> str:
    """Return validation Dice at every ratio, from which the default is recommended."""
    head = ["model", "ratio", "setting", "Dice on validation", "over dense twin, points",
            "recommended"]  # fmt: skip
    rows = []
    for model in models:
        chosen = figures.part("chosen").get(model.name, {}).get("setting")
        for arm in model.own("validation"):
            if not arm.measured:
                continue
            found = spread(arm.by_case().values())
            test = figures.against_twin(arm, "validation")
            rows.append(
                [
                    f"`{model.label}`",
                    words.number(arm.ratio, "g"),
                    words.setting(model, arm),
                    words.number(found.mean if found else None, ".3f"),
                    words.points(test.mean_gain) if test else words.MISSING,
                    "**yes**" if chosen is not None and arm.setting == chosen else "",
                ]
            )
    return table(head, rows)
