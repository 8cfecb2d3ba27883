"""Inputs drawn at random for everything that reads what others wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.torture.rows import Row
from benchmarks.torture.suites import REPOSITORY
from benchmarks.torture.torture import Torture


def measure(torture: Torture) -> Iterator[Row]:
    """Fuzz every entry point in a process with bounded memory, then the headers of images."""
    examples = torture.share(300, least=10)
    command = [sys.executable, "-m", "tests.fuzz", "--examples", str(examples)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE)
    for line in done.stdout.splitlines():
        facts = json.loads(line)
        yield Row(facts.pop("name"), **facts)
    if done.returncode:
        yield Row("fuzzing", defects=[f"the process ended with {done.returncode}"])
    yield from _headers(torture, examples)


def _headers(torture: Torture, examples: int) -> Iterator[Row]:
    from tests.files.mutations import KINDS, changed_headers

    for kind in KINDS:
        row = Row(f"{kind}, fields of the header changed")
        folder = torture.folder / kind
        folder.mkdir()
        row.attempt(lambda at=folder, kind=kind: changed_headers(kind, at, examples))  # type: ignore[misc]
        row.handled *= examples  # each is a volume or a sentence, which are not told apart
        yield row
