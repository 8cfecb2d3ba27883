"""The order of jobs, and which of them a newer one replaces; in this process."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import pytest

from napari_sparseseg.worker.jobs import Job, Jobs
from napari_sparseseg.worker.wire import Message

from .client import PATIENCE


class Bench:
    """Jobs whose work goes on until the test lets it end."""

    def __init__(self) -> None:
        self.begun: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self.ended: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self.dropped: list[int | str] = []
        self.go_on: dict[int | str, threading.Event] = {}
        self.jobs = Jobs(self._work, lambda job: self.dropped.append(job.id))

    def _work(self, job: Job) -> None:
        self.begun.put(job)
        self.go_on[job.id].wait(PATIENCE)
        job.answered = True
        self.ended.put(job)

    def add(self, id_: int, method: str) -> Job:
        self.go_on[id_] = threading.Event()
        job = Job(Message(method, {}, id_), id_)
        self.jobs.add(job)
        return job

    def begins(self) -> int | str:
        return self.begun.get(timeout=PATIENCE).id

    def end(self, id_: int) -> None:
        self.go_on[id_].set()
        assert self.ended.get(timeout=PATIENCE).id == id_


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    for event in bench.go_on.values():
        event.set()
    assert bench.jobs.close(PATIENCE) is None


@pytest.mark.parametrize(
    ("older", "newer", "replaced"),
    [
        ("run", "run", True),
        ("open", "open", True),
        ("run", "open", True),
        ("open", "run", False),
        ("open", "close", True),
        ("run", "close", True),
        ("devices", "run", False),
        ("run", "devices", False),
        ("close", "open", False),
    ],
)
def test_newer_request_replaces_what_it_makes_pointless(
    bench: Bench, older: str, newer: str, replaced: bool
) -> None:
    bench.add(0, "devices")
    assert bench.begins() == 0
    waiting = bench.add(1, older)
    bench.add(2, newer)
    assert waiting.token.cancelled == replaced
    assert bench.dropped == ([1] if replaced else [])

    bench.end(0)
    if not replaced:
        assert bench.begins() == 1
        bench.end(1)
    assert bench.begins() == 2
    bench.end(2)


@pytest.mark.parametrize(("newer", "stopped"), [("run", True), ("devices", False)])
def test_job_that_is_worked_on_is_asked_to_stop(bench: Bench, newer: str, stopped: bool) -> None:
    current = bench.add(1, "run")
    assert bench.begins() == 1

    bench.add(2, newer)

    assert current.token.cancelled == stopped
    assert bench.dropped == [], "its own work answers it"


def test_cancel_finds_its_job_whether_it_waits_or_not(bench: Bench) -> None:
    current, waiting = bench.add(1, "open"), bench.add(2, "run")
    assert bench.begins() == 1

    bench.jobs.cancel(2)
    assert (current.token.cancelled, waiting.token.cancelled) == (False, True)
    assert bench.dropped == [2]
    bench.jobs.cancel(1)
    assert current.token.cancelled


def test_answered_job_is_no_longer_held(bench: Bench) -> None:
    job = bench.add(1, "open")
    assert bench.begins() == 1
    assert bench.jobs.holds(method="open")
    assert bench.jobs.holds(id_=1)

    job.answered = True

    assert not bench.jobs.holds(method="open")
    assert not bench.jobs.holds(id_=1)


def test_closing_names_the_job_that_does_not_stop(bench: Bench) -> None:
    stuck, waiting = bench.add(1, "open"), bench.add(2, "run")
    assert bench.begins() == 1

    assert bench.jobs.close(0.01) is stuck
    assert stuck.token.cancelled
    assert waiting.token.cancelled
    assert bench.dropped == [2]
