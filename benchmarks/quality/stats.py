"""Statistics over patients: spreads, paired tests, and ratios of times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import wilcoxon

ByCase = Mapping[str, float]
"""A value for each patient, by the name of the case."""

SIGNIFICANT = 0.05
LEAST_PAIRS = 6
"""Fewer pairs cannot reach 0.05: five of one sign give p = 2 / 2^5 = 0.0625."""

_DIGITS = 9  # a mean over seeds of equal values may differ from them in the last digits


@dataclass(frozen=True)
class Spread:
    """A value over patients.

    Attributes
    ----------
    mean, median : float
        In the unit of the values.
    sd : float or None
        Standard deviation with n - 1; None for one patient.
    count : int
        Number of patients.
    """

    mean: float
    median: float
    sd: float | None
    count: int


@dataclass(frozen=True)
class Paired:
    """One arm against another on the same patients.

    Attributes
    ----------
    gain, mean_gain : float
        Median and mean over patients of the first minus the second.
    p : float or None
        Of the two-sided Wilcoxon signed-rank test, not corrected; None with too few patients.
    count : int
        Number of patients that both have.
    """

    gain: float
    mean_gain: float
    p: float | None
    count: int

    @property
    def differs(self) -> bool:
        """Whether the test tells the two apart."""
        return self.p is not None and self.p < SIGNIFICANT


@dataclass(frozen=True)
class Quartiles:
    """Quartiles of a ratio of times over cases and rounds."""

    low: float
    median: float
    high: float


def spread(values: Iterable[float]) -> Spread | None:
    """Return mean, median and standard deviation, None of nothing."""
    data = np.array(list(values), dtype=np.float64)
    if not data.size:
        return None
    sd = float(data.std(ddof=1)) if data.size > 1 else None
    return Spread(float(data.mean()), float(np.median(data)), sd, data.size)


def over_seeds(runs: Sequence[ByCase]) -> dict[str, float]:
    """Return the mean over seeds for each patient that every seed has.

    Parameters
    ----------
    runs : sequence of mapping
        Values of each seed by case.
    """
    if not runs:
        return {}
    common = [case for case in runs[0] if all(case in run for run in runs)]
    return {case: float(np.mean([run[case] for run in runs])) for case in common}


def paired(first: ByCase, second: ByCase) -> Paired | None:
    """Compare two arms patient by patient.

    Parameters
    ----------
    first, second : mapping
        Values by case; cases that one of them lacks are left out.

    Returns
    -------
    Paired or None
        None if they have no case in common.
    """
    gains = np.array([first[case] - second[case] for case in first if case in second])
    if not gains.size:
        return None
    gains = gains.round(_DIGITS)
    p = None
    if gains.size >= LEAST_PAIRS:
        p = float(wilcoxon(gains).pvalue) if gains.any() else 1.0
    return Paired(float(np.median(gains)), float(gains.mean()), p, gains.size)


def holm(ps: Sequence[float], level: float = SIGNIFICANT) -> list[bool]:
    """Tell which of several tests survive Holm's correction for their number.

    Parameters
    ----------
    ps : sequence of float
        p of each test.
    level : float
        Chance of any false finding among them.
    """
    survives = [False] * len(ps)
    for rank, index in enumerate(np.argsort(ps, kind="stable")):
        if ps[index] > level / (len(ps) - rank):
            break
        survives[index] = True
    return survives


def time_ratio(seconds: Sequence[float], dense_seconds: Sequence[float]) -> Quartiles | None:
    """Return how many times longer the dense twin took, pair by pair; None of nothing.

    Parameters
    ----------
    seconds, dense_seconds : sequence of float
        Times of the model and of its dense twin, in s, for each case and round.
    """
    if not seconds:
        return None
    ratios = np.array(dense_seconds) / np.array(seconds)
    low, median, high = np.percentile(ratios, (25, 50, 75))
    return Quartiles(float(low), float(median), float(high))
