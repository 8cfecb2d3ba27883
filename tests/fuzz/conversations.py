"""Random conversations with the worker: valid, odd and spoilt lines in any order."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from napari_sparseseg.worker.engine import Engine
from napari_sparseseg.worker.folder import Folder
from napari_sparseseg.worker.server import Server
from napari_sparseseg.worker.wire import Wire
from tests.fuzz.fuzzing import SECONDS, Entry
from tests.fuzz.mutations import as_bytes, edits, spoilt, spoilt_json

_AFFINE = np.eye(4).tolist()
_VOLUME = {"data": "scan.npy", "affine": _AFFINE, "name": "scan"}
_PARAMS: dict[str, Any] = {
    "hello": {"protocol": 1, "host": "fuzz"},
    "models": {},
    "devices": {},
    "open": {"volume": _VOLUME, "model": "tiny-stp", "device": "cpu", "precision": "float32"},
    "run": {"setting": 0.5, "compare_dense": False},
    "preview": {"setting": 0.3},
    "close": {},
    "cancel": {"id": 1},
}


@st.composite
def _line(draw: st.DrawFn) -> bytes:
    method = draw(st.sampled_from(sorted(_PARAMS)))
    message: Any = {"jsonrpc": "2.0", "method": method, "params": _PARAMS[method]}
    if method != "cancel":
        message["id"] = draw(st.integers(1, 6) | st.text(max_size=3))
    kind = draw(st.sampled_from(["valid", "valid", "spoilt", "bytes", "noise"]))
    if kind == "spoilt":
        message = draw(spoilt_json(message))
    if kind == "noise":
        return draw(st.binary(max_size=60)).replace(b"\n", b" ")
    line = as_bytes(message)
    if kind == "bytes":
        line = spoilt(line, draw(edits(len(line)))).replace(b"\n", b" ")
    return line


def conversation_entry(folder: Path) -> Entry:
    """Make the entry: a server of its own for each conversation, with a real engine."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    np.save(folder / "scan.npy", rng.normal(100, 30, (20, 18, 16)).astype(np.float32))
    return Entry("worker, lines", st.lists(_line(), max_size=8), lambda given: _talk(folder, given))


def _talk(folder: Path, given: list[bytes]) -> None:
    sink = io.BytesIO()
    shared = Folder(folder)
    wire = Wire(sink)
    server = Server(wire, shared, Engine(shared, lambda text: wire.notify("log", text=text)))
    hello = as_bytes({"jsonrpc": "2.0", "id": 0, "method": "hello", "params": _PARAMS["hello"]})
    said = [hello, *given]
    try:
        for line in said:
            assert server.handle(line + b"\n"), "it ends though nobody asked it to"
        wanted = sum(map(_wants_an_answer, said))
        end = time.monotonic() + SECONDS / 2
        while len(_answers(sink)) < wanted and time.monotonic() < end:
            time.sleep(0.001)
    finally:
        server.stop()
        for path in folder.glob("*-*.npy"):
            path.unlink()
    answers = _answers(sink)
    assert len(answers) == wanted, f"{len(answers)} answers to {wanted} requests"
    for answer in answers:
        if "error" in answer:
            assert answer["error"]["data"]["kind"] != "internal", answer["error"]
            assert answer["error"]["message"].endswith(".")


def _answers(sink: io.BytesIO) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in sink.getvalue().splitlines()]
    assert all(line["jsonrpc"] == "2.0" for line in lines)
    return [line for line in lines if "method" not in line]


def _wants_an_answer(line: bytes) -> bool:
    """Tell whether a line is anything else than a blank or a proper notification."""
    if not line.strip():
        return False
    try:
        data = json.loads(line.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return True
    return not (
        isinstance(data, dict)
        and data.get("jsonrpc") == "2.0"
        and "id" not in data
        and data.keys() <= {"jsonrpc", "method", "params"}
        and isinstance(data.get("method"), str)
        and isinstance(data.get("params", {}), dict)
    )


def _refuse(text: str) -> None:
    raise ValueError(text)
