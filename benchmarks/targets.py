"""What was promised, and whether a measured value keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """A limit that a figure should keep.

    Attributes
    ----------
    what : str
        The figure, for people.
    limit : float
        The limit itself still keeps the promise.
    at_least : bool
        Whether more is better.
    unit : str
        Written after the numbers.
    """

    what: str
    limit: float
    at_least: bool = False
    unit: str = ""

    @property
    def text(self) -> str:
        """The limit in words: ``">= 3x"``."""
        return f"{'>=' if self.at_least else '<='} {self.limit:g}{self.unit}"

    def judge(self, value: float) -> dict[str, Any]:
        """Return value, target and verdict, JSON-ready."""
        met = value >= self.limit if self.at_least else value <= self.limit
        return {
            "what": self.what,
            "value": round(value, 4),
            "unit": self.unit,
            "target": self.text,
            "met": bool(met),
        }


DENSE_TWIN = Target("dense twin / sparse, time", 3.0, at_least=True, unit="x")
DICE_LOST = Target("mean Dice lost against the dense twin", 0.5, unit=" points")
MONAI = Target("MONAI UNETR as users get it / sparse, time", 25.0, at_least=True, unit="x")
MONAI_TUNED = Target("MONAI UNETR, tuned / sparse, time", 4.0, at_least=True, unit="x")
RERUN = Target("full run / re-run at 0.3, time", 5.0, at_least=True, unit="x")
PREVIEW = Target("preview of the kept mask", 50.0, unit=" ms")
MEMORY = Target("sparse / dense twin, peak memory of a run", 0.5, unit="x")
RESIDENT = Target("peak resident memory", 8.0, unit=" GB")
SWAP = Target("swap in use", 0.0, unit=" GB")
TRACE = Target("trace on / trace off, time", 1.02, unit="x")
LINEAR = Target("R² of network seconds against token-blocks", 0.95, at_least=True)
