"""Which threshold keeps a wanted share of the tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_HALVINGS = 12
_TOLERANCE = 0.03


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
