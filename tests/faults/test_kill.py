"""A process that is killed while it writes: what is there afterwards is old or new, never half."""

from __future__ import annotations

import pytest

from tests.faults.killing import kill
from tests.faults.writers import ALONE, IN_PLACE, LABELS, TOGETHER


@pytest.mark.parametrize("names", [LABELS, (*ALONE, *TOGETHER)], ids=["labels", "others"])
def test_a_killed_process_leaves_old_or_new_files(names: tuple[str, ...]) -> None:
    deaths = list(kill(list(names), steps=5, sizes=3))

    assert [death.writer for death in deaths] == list(names)
    assert all(death.tried >= 12 and death.refused for death in deaths)
    assert {death.writer: death.problems for death in deaths if death.problems} == {}


def test_a_file_that_is_written_in_place_is_told() -> None:
    (deaths,) = kill([IN_PLACE], steps=5, sizes=3)

    assert any("neither the old one nor the new one" in problem for problem in deaths.problems)
    assert any("no user can act on" in problem for problem in deaths.problems)
