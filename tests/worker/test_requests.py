"""Requests that are cancelled, replaced or refused: each is answered and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.volume import Volume

from .client import Host

NETWORK = "Encoding and decoding"


def check_labels(host: Host, answer: dict[str, Any], expected: np.ndarray) -> None:
    labels, _ = host.take_all(answer)
    np.testing.assert_array_equal(labels, expected)


def test_run_that_is_cancelled_stops_and_leaves_the_session_as_it_was(
    host: Host, long_scan: Volume, segmenter: Segmenter
) -> None:
    host.open(long_scan)
    before = host.files()
    run = host.send("run", setting=0.3)
    host.progress(run, NETWORK)

    host.notify("cancel", id=run)

    failed = host.failure(run)
    assert (failed.kind, failed.code) == ("cancelled", -32800)
    assert host.files() == before
    told = [m for m in host.log if m.get("params", {}).get("id") == run]
    assert not any(m["params"]["text"] == "Done" for m in told), "it ran to its end"
    answer = host.call("run", setting=0.2)
    check_labels(host, answer, segmenter.segment(long_scan, 0.2).labels.data)


def test_latest_run_wins(host: Host, long_scan: Volume) -> None:
    host.open(long_scan)

    first = host.send("run", setting=0.5)
    host.progress(first, NETWORK)
    second, third = host.send("run", setting=0.4), host.send("run", setting=0.1)

    assert [host.failure(run).kind for run in (first, second)] == ["cancelled"] * 2
    answer = host.answer(third)
    assert answer["report"]["setting"]["value"] == 0.1
    assert sorted([answer["labels"], *(m["data"] for m in answer["maps"])]) == host.files()
    host.take_all(answer)


def test_newer_scan_replaces_a_run_on_the_older(
    host: Host, long_scan: Volume, scan: Volume, segmenter: Segmenter
) -> None:
    host.open(long_scan)
    run = host.send("run", setting=0.5)
    host.progress(run, NETWORK)

    opening, after = host.send_open(scan), host.send("run", setting=0.3)

    assert host.failure(run).kind == "cancelled"
    assert host.answer(opening)["grid"]["shape"]
    check_labels(host, host.answer(after), segmenter.segment(scan, 0.3).labels.data)
    (host.folder / "input.npy").unlink()


def test_preview_and_models_are_answered_while_a_run_goes_on(
    host: Host, long_scan: Volume, segmenter: Segmenter
) -> None:
    host.open(long_scan)
    run = host.send("run", setting=0.5)
    host.progress(run, NETWORK)

    preview, models = host.send("preview", setting=0.2), host.send("models")

    shown = host.take(host.answer(preview)["map"]["data"])
    assert host.answer(models)["models"]
    ids = [m["id"] for m in host.log if "id" in m]
    assert run not in ids, "the run was over before"
    with segmenter.open(long_scan) as session:
        np.testing.assert_array_equal(shown == 0, session.preview(0.2) == 0)
        assert (shown > 1).sum() == (session.preview(0.2) == 2).sum()
    check_labels(host, host.answer(run), segmenter.segment(long_scan, 0.5).labels.data)


def test_preview_waits_for_the_scan(start: Callable[..., Host], scan: Volume) -> None:
    host = start().greet()
    opening = host.send_open(scan)
    host.progress(opening, "Loading the model")

    assert host.failure(host.send("preview", setting=0.3)).kind == "busy"

    host.answer(opening)
    assert host.call("preview", setting=0.3)["map"]


def test_cancelled_opening_leaves_no_scan_open(start: Callable[..., Host], scan: Volume) -> None:
    host = start().greet()
    opening = host.send_open(scan)
    host.progress(opening, "Loading the model")

    host.notify("cancel", id=opening)

    assert host.failure(opening).kind == "cancelled"
    assert host.failure(host.send("run")).kind == "input"


def test_work_that_cannot_stop_is_cancelled_all_the_same(start: Callable[..., Host]) -> None:
    deaf = """
from napari_sparseseg.worker.engine import Engine
import time
def devices(engine):
    engine._log("begun")
    while not (engine._folder.path / "go").exists():
        time.sleep(0.01)
    return {"devices": []}
Engine.devices = devices
"""
    host = start(deaf).greet()
    devices = host.send("devices")
    while host.next_message()["params"].get("text") != "begun":
        pass

    host.notify("cancel", id=devices)
    host.call("models")  # the cancel has been read by then
    (host.folder / "go").touch()

    assert host.failure(devices).kind == "cancelled"


@pytest.mark.parametrize(
    ("changed", "kind", "told"),
    [
        ({"model": "brain-mr-stq"}, "model", "brain-mr-stp"),
        ({"model": "/nowhere/my.safetensors"}, "model", "cannot be read"),
        ({"device": "cuda:77"}, "device", "cpu"),
        ({"device": "abacus"}, "device", "cpu"),
        ({"precision": "float8"}, "device", "float32"),
        ({"sparsifier": "dtop"}, "input", "random"),
        ({"sparsifier": "guess"}, "input", "random"),
        ({"volume": {"data": "missing.npy", "affine": np.eye(4).tolist()}}, "input", "missing"),
        ({"volume": {"data": "../x.npy", "affine": np.eye(4).tolist()}}, "protocol", "bare name"),
        ({"volume": {"data": "input.npy", "affine": np.eye(3).tolist()}}, "protocol", "four rows"),
        ({"volume": {"data": "input.npy"}}, "protocol", "open.volume.affine is missing"),
        ({"volume": "input.npy"}, "protocol", "open.volume is not an object"),
        ({"volume": {"data": "input.npy", "affine": np.zeros((4, 4)).tolist()}}, "input", "affine"),
        ({"color": "red"}, "protocol", "'color'"),
        ({"model": 5}, "protocol", "open.model is not a string"),
    ],
)
def test_opening_that_fails_says_why_and_leaves_no_scan_open(
    host: Host, scan: Volume, changed: dict[str, Any], kind: str, told: str
) -> None:
    host.open(scan)

    failed = host.failure(host.send_open(scan, **changed))

    assert (failed.kind, failed.code) == (kind, -32602 if kind == "protocol" else -32000)
    assert told in failed.message
    assert failed.message.endswith(".")
    after = host.failure(host.send("run"))
    assert (after.kind, after.message) == ("input", "No scan is open; open one first.")
    (host.folder / "input.npy").unlink()


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((20, 20, 20), np.float32),
        np.full((20, 20, 20), np.nan, np.float32),
        np.zeros((0, 20, 20), np.float32),
        np.zeros((20, 20), np.float32),
    ],
    ids=["one value", "nothing finite", "no voxels", "a slice"],
)
def test_scan_that_holds_nothing_is_refused(host: Host, data: np.ndarray) -> None:
    failed = host.failure(host.send_open(Volume(data, np.eye(4), "my\nscan")))

    assert failed.kind == "input"
    assert failed.message.startswith("my scan ")
    (host.folder / "input.npy").unlink()


@pytest.mark.parametrize(
    ("params", "code", "kind"),
    [
        ({"setting": 0}, -32000, "input"),
        ({"setting": -0.5}, -32000, "input"),
        ({"setting": 1.01}, -32000, "input"),
        ({"setting": "half"}, -32602, "protocol"),
        ({"setting": True}, -32602, "protocol"),
        ({"compare_dense": 1}, -32602, "protocol"),
        ({"settings": 0.5}, -32602, "protocol"),
    ],
)
def test_setting_that_cannot_be_used_is_refused_and_the_scan_stays_open(
    host: Host, scan: Volume, params: dict[str, Any], code: int, kind: str
) -> None:
    host.open(scan)

    failed = host.failure(host.send("run", **params))

    assert (failed.code, failed.kind) == (code, kind)
    host.take_all(host.call("run", setting=1))


def test_closed_scan_is_gone_and_another_can_be_opened(host: Host, scan: Volume) -> None:
    host.open(scan)

    assert host.call("close") == {}

    assert host.failure(host.send("run")).kind == "input"
    assert host.failure(host.send("preview", setting=0.5)).kind == "input"
    assert host.call("close") == {}
    host.open(scan)


def test_id_in_use_is_refused_and_its_owner_goes_on(host: Host, long_scan: Volume) -> None:
    host.open(long_scan)
    run = host.send("run", setting=0.1)
    host.progress(run, NETWORK)

    line = f'{{"jsonrpc": "2.0", "id": {run}, "method": "models"}}\n'
    host.write(line.encode())

    assert host.failure(None).kind == "protocol"
    host.take_all(host.answer(run))


def test_garbage_between_requests_changes_nothing(host: Host, scan: Volume) -> None:
    host.open(scan)
    run = host.send("run", setting=0.5)

    for garbage in (b"\xff\xfe\n", b"}{\n", b"x" * (2**20 + 77) + b"\n", b"[1, 2]\n"):
        host.write(garbage)

    assert [host.failure(None).code for _ in range(4)] == [-32700, -32700, -32700, -32600]
    host.take_all(host.answer(run))


def test_many_rounds_leave_no_files_threads_or_open_files(host: Host, scan: Volume) -> None:
    def state() -> tuple[list[str], int, int]:
        process = Path(f"/proc/{host.process.pid}")
        return (
            host.files(),
            len([*(process / "task").iterdir()]),
            len([*(process / "fd").iterdir()]),
        )

    def round_(number: int) -> None:
        opening = host.send_open(scan)
        runs = [host.send("run", setting=0.1 * k) for k in (2, 4, 6)]
        host.notify("cancel", id=runs[number % 3])
        if number % 4 == 3:
            host.notify("cancel", id=opening)
        for id_ in (opening, *runs):
            try:
                answer = host.answer(id_)
            except Exception as failed:
                assert getattr(failed, "kind", None) in ("cancelled", "input"), failed
            else:
                if "labels" in answer:
                    host.take_all(answer)
        (host.folder / "input.npy").unlink()

    for number in range(4):
        round_(number)
    before = state()
    for number in range(24):
        round_(number)

    assert before[0] == []
    assert state() == before


# Failures that are not the host's


def test_full_disk_is_told_leaves_nothing_and_the_next_run_is_well(
    start: Callable[..., Host], scan: Volume
) -> None:
    limit = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))"
    )
    host = start(limit).greet()
    host.open(scan)

    failed = host.failure(host.send("run"))

    assert (failed.kind, failed.code) == ("output", -32000)
    assert "cannot be written" in failed.message
    assert host.files() == []
    host.take(host.call("preview", setting=0.5)["map"]["data"])


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        ("MemoryError()", "memory", -32000),
        ("ValueError('boom')", "internal", -32603),
        ("SystemExit(4)", "internal", -32603),
    ],
)
def test_failing_engine_is_told_and_the_worker_goes_on(
    start: Callable[..., Host], scan: Volume, error: str, kind: str, code: int
) -> None:
    breaks = f"""
import napari_sparseseg.weights as weights
find = weights.find_model
def broken(name):
    if name == "broken":
        raise {error}
    return find(name)
weights.find_model = broken
"""
    host = start(breaks).greet()

    failed = host.failure(host.send_open(scan, model="broken"))

    assert (failed.kind, failed.code) == (kind, code)
    assert failed.message.endswith(".")
    assert ("Traceback" in failed.detail) == (kind == "internal")
    assert host.failure(host.send_open(scan, model="unknown")).kind == "model"


def test_what_libraries_print_and_read_does_not_touch_the_wire(start: Callable[..., Host]) -> None:
    noisy = """
import napari_sparseseg.weights as weights, os, subprocess, sys
models = weights.models
def noisy():
    print("printed")
    sys.__stdout__.write("written to the first stdout"); sys.__stdout__.flush()
    os.write(1, b"from a C library" + b"\\n")
    subprocess.run(["echo", "from a child"], check=True)
    assert sys.stdin.read() == "" and subprocess.run(["cat"], capture_output=True).stdout == b""
    return models()
weights.models = noisy
"""
    host = start(noisy).greet()

    assert host.call("models")["models"]
    assert host.call("models")["models"]

    assert host.end() == 0
    told = host.errors.read_text()
    assert all(
        text in told for text in ("printed", "first stdout", "from a C library", "from a child")
    )
