"""What all areas share: how long, on which scans, where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROUNDS = 1000
"""Runs in one process by default; whatever else is repeated goes with it."""


@dataclass(frozen=True)
class Torture:
    """One call of the command.

    Parameters
    ----------
    rounds : int
        Runs in one process.
    data : Path, optional
        Folder of real scans; None where there is none.
    folder : Path
        An empty folder for this area alone.
    """

    rounds: int
    data: Path | None
    folder: Path

    def share(self, number: int, least: int = 1) -> int:
        """Return how often to repeat what is repeated `number` times at the default length."""
        return max(least, round(number * self.rounds / ROUNDS))
