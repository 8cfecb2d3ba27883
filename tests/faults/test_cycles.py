"""The same again and again: nothing is held on to. The long version is ``make torture``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.faults.cycles import cycle, grown, repeat

ROUNDS = 60
NOISE_MB = 12.0
WORK = (
    "sessions opened, run and closed",
    "settings changed in one session",
    "runs cancelled at one step or another",
    "results written over older ones",
    "files of all formats written and read",
    "damaged files refused",
)


def test_sixty_rounds_in_one_process_hold_on_to_nothing() -> None:
    found = {cycles.name: list(grown(cycles, NOISE_MB)) for cycles in cycle(list(WORK), ROUNDS)}

    assert found == {name: [] for name in WORK}


def leak(what: str, folder: Path) -> Callable[[int], object]:
    """Give work that leaks."""
    kept: list[object] = []
    numbers = iter(range(1000))  # files of other names than those of the warm-up
    leaks: dict[str, Callable[[int], object]] = {
        "handles": lambda _: kept.append((folder / "one").open("w")),
        "files": lambda _: (folder / str(next(numbers))).write_text(""),
        # beyond what the allocator of C takes from memory that was freed before
        "memory": lambda _: kept.append(bytearray(b"1") * (40 * 2**20)),
        "objects": lambda _: kept.append([kept]),
    }
    return leaks[what]


@pytest.mark.parametrize("what", ["handles", "files", "memory", "objects"])
def test_what_leaks_is_told(what: str, tmp_path: Path) -> None:
    found = repeat("a leak", leak(what, tmp_path), 9, psutil.Process(), tmp_path)

    assert any(problem.startswith(what) for problem in grown(found, 4))
