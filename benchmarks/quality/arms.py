"""Who is compared with whom, and at which settings: own rules, controls, ratios, thresholds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache

import numpy as np

from benchmarks.quality.cases import CaseSet
from benchmarks.quality.outcome import kept_share
from napari_sparseseg.methods import KEEP_RATIO, METHODS, control_of, controls
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.weights import ModelInfo

RATIOS = (1.0, 0.7, 0.5, 0.3, 0.1)
"""Shares of the tokens at which rules are compared."""

RANDOM_SEEDS = (1, 2, 3)

_MOST_SCANS = 8
_HALVINGS = 12
_TOLERANCE = 0.03


@dataclass(frozen=True)
class Contender:
    """A sparsifier that decides for a model: its own, or a control.

    Attributes
    ----------
    sparsifier : str
        Name of the method or control.
    seed : int
        Seed of what a control draws.
    """

    sparsifier: str
    seed: int = 0

    def open(self, info: ModelInfo) -> Segmenter:
        """Load the model with this sparsifier."""
        return Segmenter(info, sparsifier=self.sparsifier, seed=self.seed)

    def ratios(self, info: ModelInfo) -> tuple[float | None, ...]:
        """Return the ratios to run; None alone for a control that has none.

        What imitates the model's own rule has nothing to draw where that one prunes nothing.
        """
        if self.sparsifier == info.method:
            return RATIOS if METHODS[info.method].control else (1.0,)
        if control_of(info.method, self.sparsifier) is None:
            return (None,)
        return tuple(ratio for ratio in RATIOS if ratio < 1)


def contenders(info: ModelInfo) -> Iterator[Contender]:
    """List the model's own sparsifier and the controls that it has to beat.

    A model that has no rule of its own has nothing to beat.
    """
    yield Contender(info.method)
    if METHODS[info.method].control is None:
        return
    for name in controls():
        seeds = RANDOM_SEEDS if METHODS[name].mimics else (0,)
        yield from (Contender(name, seed) for seed in seeds)


def default_setting(info: ModelInfo) -> float | None:
    """Return the setting that a model starts with, None if its method has none."""
    return info.default_setting if METHODS[info.method].control else None


@dataclass(frozen=True)
class Calibrated:
    """A setting and the share of tokens that it keeps.

    Attributes
    ----------
    setting, share : float
        The setting whose share comes nearest to the wanted one.
    reached : bool
        Whether it comes near enough to be compared at that ratio.
    """

    setting: float
    share: float
    reached: bool


NOTHING_PRUNED = Calibrated(1.0, 1.0, True)


def calibrate(share_of: Callable[[float], float], low: float, ratio: float) -> Calibrated:
    """Find the setting whose share of kept tokens comes nearest to a ratio, by bisection.

    Parameters
    ----------
    share_of : callable
        Share of kept tokens at a setting in (0, 1); rises with the setting.
    low : float
        Least setting to consider.
    ratio : float
        Wanted share, below 1.
    """
    tried = {low: share_of(low)}
    below, above = low, 1.0
    if tried[low] < ratio:
        for _ in range(_HALVINGS):
            middle = round((below + above) / 2, 6)
            if middle in tried or middle >= 1.0:
                break
            tried[middle] = share_of(middle)
            if tried[middle] < ratio:
                below = middle
            else:
                above = middle
    setting = min(tried, key=lambda s: (abs(tried[s] - ratio), s))
    return Calibrated(setting, tried[setting], abs(tried[setting] - ratio) <= _TOLERANCE)


def settings_for_ratios(info: ModelInfo, validation: CaseSet) -> Mapping[float, Calibrated]:
    """Return the setting of a model for each of its ratios.

    A keep ratio is its own setting; a threshold is calibrated, on no more than eight scans from
    the whole range of the set.

    Parameters
    ----------
    info : ModelInfo
        The model.
    validation : CaseSet
        Scans on which choices may be made.
    """
    control = METHODS[info.method].control
    if control is None:
        return {1.0: NOTHING_PRUNED}
    if control.name == KEEP_RATIO.name:
        return {ratio: Calibrated(ratio, ratio, True) for ratio in RATIOS}
    segmenter = Segmenter(info)
    names = validation.names[:: -(-len(validation) // _MOST_SCANS)]
    with ExitStack() as stack:
        volumes = (validation.load(name).volume for name in names)
        sessions = [stack.enter_context(segmenter.open(volume)) for volume in volumes]

        @cache  # bisections for different ratios begin alike
        def share_of(setting: float) -> float:
            return float(np.mean([kept_share(s.run(setting).trace.counts()) for s in sessions]))

        found = {ratio: calibrate(share_of, control.low, ratio) for ratio in RATIOS if ratio < 1}
    return {1.0: NOTHING_PRUNED, **found}
