"""What is broken on purpose, and what is left afterwards."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.torture.rows import Row
from benchmarks.torture.torture import Torture
from tests.faults.killing import kill
from tests.faults.writers import ALONE, LABELS, TOGETHER


def measure(torture: Torture) -> Iterator[Row]:
    """Break everything."""
    yield from _killed(torture)


def _killed(torture: Torture) -> Iterator[Row]:
    most = torture.share(60, least=4)
    for deaths in kill([*LABELS, *ALONE, *TOGETHER], steps=most, sizes=most):
        yield Row(
            f"killed while writing: {deaths.writer}",
            handled=deaths.tried - len(deaths.problems),
            defects=deaths.problems,
        )
