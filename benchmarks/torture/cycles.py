"""A thousand rounds of every kind of work in one process."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.torture.rows import Row
from benchmarks.torture.torture import Torture
from tests.faults.cycles import Cycles, cycle, grown
from tests.faults.work import WORK

NOISE_MB = 8.0
"""Growth of memory that is put down to the allocator; a scan kept each round would be 23."""


def measure(torture: Torture) -> Iterator[Row]:
    """Repeat every kind of work, and compare what the process holds before and after."""
    for cycles in cycle(list(WORK), torture.rounds):
        yield row_of(cycles)


def row_of(cycles: Cycles) -> Row:
    """Return the row of one kind of work: every round counts, and a growth is one defect."""
    row = Row(cycles.name, handled=cycles.rounds - 1)
    row.count(grown(cycles, NOISE_MB))
    before, after = cycles.before, cycles.after
    for what in ("handles", "threads", "files"):
        row.figures[what] = f"{getattr(before, what)} → {getattr(after, what)}"
    row.figures["objects"] = f"{before.objects} → {after.objects}"
    row.figures["memory, MB"] = f"{before.megabytes:.1f} → {after.megabytes:.1f}"
    row.figures["growth, MB"] = cycles.growth
    return row
