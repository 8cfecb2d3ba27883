"""An engine that is the scripted program beside this file, and a record of what it told."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from SparseSegLib.engine import Engine
from SparseSegLib.jobs import Job, Launch, Scan, Setup
from SparseSegLib.runner import Worker

FAKE = Path(__file__).parent / "fake_engine.py"
PATIENCE_SECONDS = 60.0


def wait_until(poll: Callable[[], None], done: Callable[[], bool]) -> None:
    """Poll until something has come about."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not done():
        assert time.monotonic() < end, "it did not come about"
        poll()
        time.sleep(0.002)


def finish(engine: Engine) -> None:
    """Poll until nobody waits for a run any more."""
    wait_until(engine.poll, lambda: not engine.busy)


def runs(pid: int) -> bool:
    """Tell whether a process runs; one that waits to be collected by its parent does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


class Record:
    """What a job was told."""

    def __init__(self) -> None:
        self.answers, self.errors, self.steps = [], [], []

    @property
    def told(self) -> bool:
        return bool(self.answers or self.errors)

    def job(self, scan: Scan, setting: float | None = 0.5, model: str = "m", **more) -> Job:
        return Job(
            scan=scan,
            setup=Setup(model, **more),
            setting=setting,
            compare_dense=False,
            on_answer=self.answers.append,
            on_error=self.errors.append,
            on_progress=lambda *step: self.steps.append(step),
        )


@pytest.fixture
def record() -> Record:
    return Record()


@pytest.fixture
def scan() -> Scan:
    voxels = np.arange(60, dtype=np.int16).reshape(3, 4, 5) - 30
    return Scan(voxels, np.eye(4), "scan", key="scan")


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def engine_with(tmp_path: Path, log: list[str]) -> Iterator[Callable[[str], Engine]]:
    """Make engines that have a fault, "" for none."""
    made: list[Engine] = []

    def make(fault: str = "") -> Engine:
        def launch() -> Launch:
            return Launch((sys.executable, str(FAKE), *(["--fault", fault] if fault else [])))

        made.append(Engine(launch, Worker(on_log=log.append), folder=tmp_path))
        return made[-1]

    yield make
    for engine in made:
        engine.stop()
    assert list(tmp_path.iterdir()) == []
