"""The engine as the panel sees it, against a scripted program on real pipes."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from SparseSegLib import engine as engine_module
from SparseSegLib.engine import Engine
from SparseSegLib.jobs import Launch, Scan
from SparseSegLib.runner import State

from .conftest import FAKE, Record, finish, runs, wait_until


def files(engine: Engine) -> list[str]:
    return sorted(path.name for path in engine.worker.folder.iterdir())


def test_run_gives_labels_maps_and_report_and_leaves_no_file(engine_with, scan, record):
    engine = engine_with()
    engine.segment(record.job(scan, setting=0.5))
    finish(engine)

    (answer,) = record.answers
    assert (answer.labels == (scan.array > 0.5)).all()
    assert answer.structures[0].name == "bright"
    assert answer.maps[0].key == ("kept", None)
    assert [line.text for line in answer.maps[0].legend] == ["pruned at stage 1", "kept"]
    assert answer.grid.shape == answer.maps[0].data.shape == (2, 2, 2)
    assert answer.report["setting"] == {"name": "keep ratio", "value": 0.5}
    assert files(engine) == []
    assert engine.worker.state is State.READY


def test_slicers_axis_order_arrives_without_a_copy_of_the_voxels(engine_with, record):
    kji = np.arange(60, dtype=np.int16).reshape(5, 4, 3)
    scan = Scan(kji.transpose(2, 1, 0), np.eye(4), "scan", "scan")
    engine = engine_with()
    engine.segment(record.job(scan, setting=0.5))
    finish(engine)

    assert (record.answers[0].labels == (kji.transpose(2, 1, 0) > 0.5)).all()


def test_another_setting_runs_in_the_open_session(engine_with, scan, record):
    engine = engine_with()
    sent = []
    request = engine.worker.request
    engine.worker.request = lambda method, *a, **k: (sent.append(method), request(method, *a, **k))[
        1
    ]
    for setting in (0.5, 0.3):
        engine.segment(record.job(scan, setting))
        finish(engine)
    engine.segment(record.job(scan, model="another"))
    finish(engine)
    engine.segment(record.job(dataclasses.replace(scan, key="edited"), model="another"))
    finish(engine)

    assert sent == ["hello", "open", "run", "run", "open", "run", "open", "run"]
    assert len(record.answers) == 4


def test_progress_tells_the_present_step(engine_with, scan, record):
    engine = engine_with("run:progress")
    engine.segment(record.job(scan))
    finish(engine)

    assert record.steps == [(step, 3, f"step {step}") for step in range(3)]


@pytest.mark.parametrize("fault", ["garbage", "number", "stranger", "text", "partial", "outside"])
def test_what_breaks_the_protocol_is_told_and_the_next_run_starts_anew(
    engine_with, scan, record, fault
):
    engine = engine_with(f"run:{fault}")
    engine.segment(record.job(scan))
    finish(engine)

    (error,) = record.errors
    assert error.kind == "protocol"
    assert str(error).endswith("press Apply to start it again.")
    assert not engine.worker.alive
    engine.segment(record.job(scan))
    assert engine.worker.alive


def test_crash_is_told_with_the_last_words_in_the_detail(engine_with, scan, record, log):
    engine = engine_with("run:crash")
    engine.segment(record.job(scan))
    finish(engine)

    (error,) = record.errors
    assert error.kind == "crash"
    assert str(error) == (
        "The engine stopped unexpectedly (exit code 3); press Apply to start it again."
    )
    assert "something broke" in error.detail
    assert "fake engine at work" in log
    assert engine.worker.state is State.FAILED


def test_engine_killed_by_the_system_is_told_with_what_to_do(engine_with, scan, record):
    engine = engine_with("run:killed")
    engine.segment(record.job(scan))
    finish(engine)

    assert "if memory ran out" in str(record.errors[0])


def test_run_after_a_crash_starts_a_new_engine(engine_with, scan, record):
    engine = engine_with()
    engine.segment(record.job(scan))
    finish(engine)
    first = engine.worker._process.pid
    os.kill(first, signal.SIGKILL)
    wait_until(engine.poll, lambda: not engine.worker.alive)
    engine.segment(record.job(scan, 0.3))
    finish(engine)

    assert len(record.answers) == 2
    assert engine.worker._process.pid != first


def test_refusal_of_the_engine_is_told_as_it_is_and_the_engine_goes_on(engine_with, scan, record):
    engine = engine_with("run:memory")
    engine.segment(record.job(scan))
    finish(engine)

    assert (record.errors[0].kind, str(record.errors[0])) == ("memory", "The card is full.")
    assert engine.worker.alive
    assert files(engine) == []


def test_other_version_of_the_protocol_is_refused_by_both_names(engine_with, scan, record):
    engine = engine_with("hello:version")
    engine.segment(record.job(scan))
    finish(engine)

    assert record.errors[0].kind == "version"
    assert "version 1" in str(record.errors[0]) and "version 2" in str(record.errors[0])
    assert not engine.worker.alive


def test_engine_that_cannot_be_started_is_told(tmp_path: Path, scan, record):
    engine = Engine(lambda: Launch(("/no/such/python",)), folder=tmp_path)
    engine.segment(record.job(scan))

    assert record.errors[0].kind == "crash"
    assert "/no/such/python" in str(record.errors[0])
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_told_and_leaves_no_half_file(engine_with, scan, record, monkeypatch):
    def full(path: Path, *_: object, **__: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(engine_module.np, "save", full)
    engine = engine_with()
    engine.segment(record.job(scan))

    assert record.errors[0].kind == "output"
    assert "No space left on device" in str(record.errors[0])
    assert files(engine) == []


def test_cancel_of_a_run_that_listens_keeps_the_engine(engine_with, scan, record):
    engine = engine_with("run:slow")
    engine.segment(record.job(scan))
    wait_until(engine.poll, lambda: bool(record.steps))
    engine.cancel()
    assert engine.worker.state is State.CANCELLING
    finish(engine)

    assert [error.kind for error in record.errors] == ["cancelled"]
    assert engine.worker.state is State.READY


@pytest.mark.parametrize("fault", ["hang", "child"])
def test_cancel_of_a_run_that_hangs_kills_all_it_started(engine_with, scan, record, log, fault):
    engine = engine_with(f"run:{fault}")
    engine.segment(record.job(scan))
    wait_until(engine.poll, lambda: engine._open is not None)
    if fault == "child":
        wait_until(engine.poll, lambda: log[-1].startswith("child"))
    started = [engine.worker._process.pid, *(int(s.split()[1]) for s in log if "child" in s)]
    assert all(map(runs, started))
    engine.cancel()
    finish(engine)

    assert [error.kind for error in record.errors] == ["cancelled"]
    assert engine.worker.state is State.IDLE
    wait_until(lambda: None, lambda: not any(map(runs, started)))


def test_cancel_does_not_wait_for_a_process_that_left_the_engine(engine_with, scan, record, log):
    engine = engine_with("run:escaped")
    engine.segment(record.job(scan))
    wait_until(engine.poll, lambda: bool(log) and log[-1].startswith("child"))
    child = int(log[-1].split()[1])
    try:
        engine.cancel()
        finish(engine)
        assert [error.kind for error in record.errors] == ["cancelled"]
        assert runs(child)  # it holds the pipes open
    finally:
        os.kill(child, signal.SIGKILL)


def test_answer_that_comes_after_a_cancel_is_dropped_with_its_files(engine_with, scan, record):
    engine = engine_with("run:late")
    engine.segment(record.job(scan))
    wait_until(engine.poll, lambda: engine._open is not None)
    engine.cancel()
    finish(engine)

    assert record.answers == []
    assert [error.kind for error in record.errors] == ["cancelled"]
    assert files(engine) == []


def test_run_asked_for_while_another_is_cancelled_comes_after_it(engine_with, scan, record):
    engine, second = engine_with("run:slow"), Record()
    engine.segment(record.job(scan))
    wait_until(engine.poll, lambda: bool(record.steps))
    engine.cancel()
    engine.segment(second.job(scan, 0.3))
    assert engine.busy and not second.told
    wait_until(engine.poll, lambda: bool(second.steps))

    assert [error.kind for error in record.errors] == ["cancelled"]


def test_cancel_reaches_the_run_that_waits_for_another_cancel_too(engine_with, scan, record):
    engine, second = engine_with("run:slow"), Record()
    engine.segment(record.job(scan))
    wait_until(engine.poll, lambda: bool(record.steps))
    engine.cancel()
    engine.segment(second.job(scan, 0.3))
    engine.cancel()
    finish(engine)

    assert [error.kind for error in record.errors + second.errors] == ["cancelled"] * 2
    assert second.steps == []


def test_latest_run_wins_and_the_older_is_told_nothing(engine_with, scan, record):
    engine, second = engine_with("run:slow"), Record()
    engine.segment(record.job(scan))
    wait_until(engine.poll, lambda: bool(record.steps))
    engine.segment(second.job(scan, 0.3))
    wait_until(engine.poll, lambda: bool(second.steps))
    engine.cancel()
    finish(engine)

    assert not record.told
    assert [error.kind for error in second.errors] == ["cancelled"]


def test_newer_run_of_the_scan_that_is_being_opened_waits_for_it(engine_with, scan, record):
    engine, second = engine_with(), Record()
    engine.segment(record.job(scan, 0.5))
    engine.segment(second.job(scan, 20))
    finish(engine)

    assert not record.told
    assert (second.answers[0].labels == (scan.array > 20)).all()


def test_other_scan_while_one_is_open_is_the_one_that_is_segmented(engine_with, scan, record):
    engine, second = engine_with(), Record()
    other = Scan(-scan.array, scan.affine, "other", "other")
    engine.segment(record.job(scan))
    engine.segment(second.job(other))
    finish(engine)

    assert not record.told
    assert (second.answers[0].labels == (-scan.array > 0.5)).all()
    assert files(engine) == []


def test_preview_is_there_for_the_open_session_only(engine_with, scan, record):
    engine = engine_with()
    job, maps = record.job(scan), []
    engine.preview(job.session, 0.3, lambda shown, grid: maps.append((shown, grid)))
    assert not engine.worker.alive
    engine.segment(job)
    finish(engine)
    engine.preview(("other", job.setup), 0.3, lambda *_: pytest.fail("not open"))
    engine.preview(job.session, 0.3, lambda shown, grid: maps.append((shown, grid)))
    wait_until(engine.poll, lambda: bool(maps))

    ((shown, grid),) = maps
    assert shown.kind == "kept" and shown.data.shape == grid.shape
    assert files(engine) == []


def test_close_lets_go_of_the_scan_and_tells_nobody(engine_with, scan, record):
    engine = engine_with("run:slow")
    engine.segment(record.job(scan))
    wait_until(engine.poll, lambda: bool(record.steps))
    engine.close()
    assert not engine.busy
    wait_until(engine.poll, lambda: engine.worker.state is State.READY)

    assert not record.told
    assert engine._open is None


def test_hundred_cancelled_runs_leave_no_process_and_no_file(engine_with, scan, tmp_path: Path):
    engine, pids = engine_with("run:slow"), set()
    for round_number in range(100):
        record = Record()
        engine.segment(record.job(scan, 0.5, model=f"m{round_number % 3}"))
        if round_number % 2:
            wait_until(engine.poll, lambda record=record: bool(record.steps))
        pids.add(engine.worker._process.pid)
        engine.cancel()
        finish(engine)
        assert [error.kind for error in record.errors] == ["cancelled"]
        assert not engine.worker.alive or files(engine) == []
    engine.stop()

    assert list(tmp_path.iterdir()) == []
    assert not any(map(runs, pids))


def start_host(tmp_path: Path, last: str) -> tuple[subprocess.Popen, int]:
    """Start a program that starts an engine, and then does something last."""
    code = (
        f"import sys, time; sys.path[:0] = {sys.path!r}\n"
        "from pathlib import Path\n"
        "from SparseSegLib.runner import Worker\n"
        "worker = Worker()\n"
        f"worker.start([sys.executable, {str(FAKE)!r}], Path({str(tmp_path / 'private')!r}))\n"
        "print(worker._process.pid, flush=True)\n"
        f"{last}\n"
    )
    host = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with host.stdout:
        return host, int(host.stdout.readline())


def test_engine_ends_when_its_host_dies(tmp_path: Path):
    host, pid = start_host(tmp_path, "time.sleep(3600)")
    assert runs(pid)
    host.kill()
    host.wait()

    wait_until(lambda: None, lambda: not runs(pid))


def test_host_that_ends_without_a_word_leaves_no_engine_and_no_folder(tmp_path: Path):
    host, pid = start_host(tmp_path, "pass")
    host.wait()

    assert not runs(pid)
    assert list(tmp_path.iterdir()) == []
