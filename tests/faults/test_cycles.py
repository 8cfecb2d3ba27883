"""The same again and again: nothing is held on to. The long version is ``make torture``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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


def leak(what: str, folder: Path) -> Iterator[Callable[[int], object]]:
    """Give work that leaks."""
    kept: list[object] = []
    if what == "handles":
        yield lambda n: kept.append((folder / "one").open("w"))
    elif what == "files":
        yield lambda n: (folder / str(n)).write_text("")
    elif what == "memory":
        yield lambda n: kept.append(bytearray(b"1" * 2**20))
    else:
        yield lambda n: kept.append([kept])


@pytest.mark.parametrize("what", ["handles", "files", "memory", "objects"])
def test_what_leaks_is_told(what: str, tmp_path: Path) -> None:
    for act in leak(what, tmp_path):
        numbers = iter(range(1000))  # the warm-up leaves files of other names
        found = repeat("a leak", lambda _: act(next(numbers)), 30, psutil.Process(), tmp_path)

    assert any(problem.startswith(what) for problem in grown(found, 8))
