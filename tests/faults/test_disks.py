"""Real disks that are full or cannot be written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.disks import full, read_only, skip_without_disks
from tests.faults.writers import LABELS, make_writers

NAMES = (*LABELS, "run", "log")


@pytest.mark.parametrize(
    ("act", "match"),
    [(full, "full|No space"), (read_only, "(?i)read-only")],
    ids=["full", "read-only"],
)
def test_a_disk_that_takes_nothing_is_a_sentence_and_all_older_files_stay(
    tmp_path: Path, act: Callable[..., Iterator[str | None]], match: str
) -> None:
    skip_without_disks(tmp_path / "disk")
    for name, writer in make_writers(NAMES, tmp_path).items():
        said = [message for message in act(writer, tmp_path / "disk") if message]

        assert said, name
        for message in said:
            assert message.endswith(".") and ". " not in message and ";" in message
            assert re.search(match, message)
