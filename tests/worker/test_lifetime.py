"""The end of a worker, wanted or not: it is quick, and nothing stays behind."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from napari_sparseseg.volume import Volume

from .client import PATIENCE, Host

NETWORK = "Encoding and decoding"


COMPUTE = """
import torch, napari_sparseseg.weights as w
def compute(name):
    square = torch.ones(700, 700)
    while True:
        square @ square
w.find_model = compute
"""
HANG = "import napari_sparseseg.weights as w, time; w.find_model = lambda name: time.sleep(1000)"


def running(host: Host, scan: Volume) -> Host:
    """Bring a worker into the middle of a run."""
    host.greet().open(scan)
    host.progress(host.send("run", setting=0.5), NETWORK)
    return host


def test_end_of_input_in_the_middle_of_a_run_ends_it_and_leaves_no_file(
    start: Callable[..., Host], long_scan: Volume
) -> None:
    host = running(start(), long_scan)

    assert host.end() == 0
    assert host.files() == []
    assert "Traceback" not in host.errors.read_text()


@pytest.mark.parametrize("code", [HANG, COMPUTE], ids=["sleeps", "computes"])
def test_end_of_input_does_not_wait_for_a_job_that_does_not_stop(
    start: Callable[..., Host], scan: Volume, code: str
) -> None:
    host = start(code).greet()
    host.send_open(scan)
    host.call("models")

    assert host.end() == 0
    assert host.errors.read_text() == ""


def test_end_of_input_removes_what_a_job_that_hangs_has_written(
    start: Callable[..., Host], scan: Volume
) -> None:
    slow_disk = """
from napari_sparseseg.worker.folder import Folder
import time
write = Folder.write
def hang(folder, name, array):
    write(folder, name, array)
    time.sleep(1000)
Folder.write = hang
"""
    host = start(slow_disk).greet()
    host.open(scan)
    host.send("run")
    give_up = time.monotonic() + PATIENCE
    while not host.files():
        assert time.monotonic() < give_up
        time.sleep(0.05)

    assert host.end() == 0
    assert host.files() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_in_the_middle_of_a_run_ends_it_and_leaves_no_file(
    start: Callable[..., Host], long_scan: Volume, number: signal.Signals
) -> None:
    host = running(start(), long_scan)

    host.process.send_signal(number)

    assert host.process.wait(PATIENCE) == 0
    assert host.files() == []
    assert "Traceback" not in host.errors.read_text()


def test_shutdown_answers_everything_first(start: Callable[..., Host], long_scan: Volume) -> None:
    host = running(start(), long_scan)
    run = max(m["params"]["id"] for m in host.log if m.get("method") == "progress")
    waiting, shutdown = host.send("devices"), host.send("shutdown")

    assert host.answer(shutdown) == {}
    assert [host.failure(id_).kind for id_ in (run, waiting)] == ["cancelled"] * 2
    assert host.process.wait(PATIENCE) == 0
    assert host.files() == []


def test_shutdown_answers_for_a_job_that_hangs(start: Callable[..., Host], scan: Volume) -> None:
    host = start(HANG).greet()
    opening, shutdown = host.send_open(scan), host.send("shutdown")

    assert host.failure(opening).kind == "cancelled"
    assert host.answer(shutdown) == {}
    assert host.process.wait(PATIENCE) == 0


def test_killed_worker_leaves_a_folder_that_the_host_can_remove(
    start: Callable[..., Host], long_scan: Volume
) -> None:
    host = running(start(), long_scan)

    host.process.kill()
    host.process.wait(PATIENCE)

    shutil.rmtree(host.folder)
    assert not host.folder.exists()


def test_worker_does_not_outlive_a_host_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "command = [sys.executable, '-m', 'napari_sparseseg.worker', '--folder', sys.argv[1]]\n"
        "worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        """worker.stdin.write(b'{"jsonrpc": "2.0", "id": 1, "method": "hello", """
        """"params": {"protocol": 1}}\\n')\n"""
        "worker.stdin.flush(); worker.stdout.readline()\n"
        "print(worker.pid, flush=True); time.sleep(1000)\n"
    )
    host = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE)
    assert host.stdout is not None
    worker = Path(f"/proc/{int(host.stdout.readline())}/status")
    assert alive(worker)

    host.kill()
    host.wait(PATIENCE)
    host.stdout.close()

    give_up = time.monotonic() + PATIENCE
    while alive(worker):
        assert time.monotonic() < give_up
        time.sleep(0.05)


def alive(status: Path) -> bool:
    """Tell whether a process runs, by its status file; one that nobody reaped does not."""
    try:
        return "State:\tZ" not in status.read_text()
    except OSError:
        return False


def test_folder_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "napari_sparseseg.worker", "--folder", tmp_path / "none"]

    ended = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)

    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "is not an existing folder" in ended.stderr
