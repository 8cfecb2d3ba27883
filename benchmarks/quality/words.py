"""Figures as words: the cells of tables and the parts of sentences."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.quality.figures import Arm, Model
from benchmarks.quality.stats import LEAST_PAIRS, Paired, Quartiles, spread

MISSING = "–"
"""What stands where there is no figure."""


def dice(values: Sequence[float]) -> str:
    """Return mean and standard deviation of Dice."""
    found = spread(values)
    if found is None:
        return MISSING
    return f"{found.mean:.3f}" if found.sd is None else f"{found.mean:.3f} ± {found.sd:.3f}"


def millimetres(values: Sequence[float]) -> str:
    """Return mean and standard deviation of distances in mm."""
    found = spread(values)
    if found is None:
        return MISSING
    return f"{found.mean:.1f}" if found.sd is None else f"{found.mean:.1f} ± {found.sd:.1f}"


def number(value: float | None, digits: str = ".2f") -> str:
    """Return a number, or the sign for none."""
    return MISSING if value is None else format(value, digits)


def percent(share: float | None) -> str:
    """Return a share in whole percent."""
    if share is None:
        return MISSING
    return f"{round(100 * share) + 0} %"


def points(value: float) -> str:
    """Return a difference of Dice in points, a hundredth of Dice, with its sign."""
    return f"{round(100 * value, 1) + 0.0:+.1f}"  # + 0.0: no minus before a zero


def p_value(value: float) -> str:
    """Return a p as it is quoted."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def verdict(test: Paired | None, survives: bool = False) -> str:
    """Return the median gain in points and its p, starred if it survives Holm's correction."""
    if test is None:
        return MISSING
    if test.p is None:
        return f"{points(test.gain)} (no test)"
    return f"{points(test.gain)} ({p_value(test.p)}{'*' if survives else ''})"


def reason_for_no_test(count: int) -> str:
    """Say why there is no test."""
    scans = "one scan" if count == 1 else f"{count} scans"
    return f"no test: {scans}, and fewer than {LEAST_PAIRS} cannot reach p < 0.05"


def quartiles(ratio: Quartiles | None) -> str:
    """Return median and quartiles of a ratio of times."""
    if ratio is None:
        return MISSING
    return f"{ratio.median:.2f}x ({ratio.low:.2f} to {ratio.high:.2f})"


def setting(model: Model, arm: Arm) -> str:
    """Return the setting of an arm by its name."""
    name = model.data.get("setting")
    return MISSING if name is None or arm.setting is None else f"{name} {arm.setting:.4g}"


def tokens(arm: Arm) -> str:
    """Return the mean numbers of tokens kept, pruned and exited."""
    means = [arm.mean("tokens", key) for key in ("kept", "pruned", "exited")]
    return " / ".join(number(mean, ".0f") for mean in means)


def listed(words: Sequence[str]) -> str:
    """Join words as a sentence does."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
