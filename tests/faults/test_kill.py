"""A process that is killed while it writes: what is there afterwards is old or new, never half."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.killing import Writer, deaths_of, kill
from tests.faults.writers import ALONE, LABELS, TOGETHER


@pytest.mark.parametrize("names", [LABELS, (*ALONE, *TOGETHER)], ids=["labels", "others"])
def test_a_killed_process_leaves_old_or_new_files(names: tuple[str, ...]) -> None:
    deaths = list(kill(list(names), steps=5, sizes=3))

    assert [death.writer for death in deaths] == list(names)
    assert all(death.tried >= 12 for death in deaths)
    assert {death.writer: death.problems for death in deaths if death.problems} == {}
