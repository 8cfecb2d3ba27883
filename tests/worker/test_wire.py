"""Lines to messages, and whatever else may be on the wire; in this process."""

from __future__ import annotations

import io
import json
import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_sparseseg.errors import OutOfMemory
from napari_sparseseg.worker.engine import Engine
from napari_sparseseg.worker.failures import Refusal, failure_of
from napari_sparseseg.worker.folder import Folder
from napari_sparseseg.worker.server import AT_ONCE, IN_TURN, Server
from napari_sparseseg.worker.wire import MAX_LINE, Wire, lines, parse

from .client import PATIENCE

KINDS = {
    "input", "model", "device", "memory", "output", "cancelled", "version", "busy", "protocol",
    "internal",
}  # fmt: skip


class Sent(io.RawIOBase):
    """A stream that remembers what was written to it, message by message."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def write(self, line: Any) -> int:
        assert line.endswith(b"\n")
        self.messages.put(json.loads(line))
        return len(line)


class Desk:
    """A server with a real engine, whose answers are read from memory."""

    def __init__(self, folder: Path) -> None:
        self.sent = Sent()
        wire, shared = Wire(self.sent), Folder(folder)
        self.server = Server(wire, shared, Engine(shared, lambda text: None))

    def handle(self, **message: Any) -> None:
        self.server.handle(json.dumps({"jsonrpc": "2.0", **message}).encode())

    def ask(self, line: bytes | dict[str, Any]) -> list[dict[str, Any]]:
        """Send what is answered at once, and give the answers."""
        if isinstance(line, dict):
            self.handle(**line)
        else:
            self.server.handle(line)
        return [self.sent.messages.get() for _ in range(self.sent.messages.qsize())]

    def until(self, id_: str) -> list[dict[str, Any]]:
        """Give all answers up to that to one request."""
        found = [self.sent.messages.get(timeout=PATIENCE)]
        while found[-1].get("id") != id_:
            found.append(self.sent.messages.get(timeout=PATIENCE))
        return found


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("folder"))
    assert "result" in desk.ask({"id": 0, "method": "hello", "params": {"protocol": 1}})[0]
    yield desk
    desk.server.stop()


def check_error(answer: dict[str, Any], id_: Any, code: int, kind: str) -> None:
    error = answer["error"]
    assert answer["jsonrpc"] == "2.0"
    assert (answer["id"], error["code"], error["data"]["kind"]) == (id_, code, kind)
    assert error["message"].endswith(".")
    assert "\n" not in error["message"]


def test_stream_is_cut_into_lines_and_an_unfinished_one_is_dropped() -> None:
    assert [*lines(io.BytesIO(b"one\n\r\ntwo\nthr"))] == [b"one\n", b"\r\n", b"two\n"]
    assert [*lines(io.BytesIO(b""))] == []


@pytest.mark.parametrize("more", [1, 2, MAX_LINE, 3 * MAX_LINE + 5])
def test_long_line_is_refused_and_the_next_one_is_read(more: int) -> None:
    stream = io.BytesIO(b"x" * (MAX_LINE + more - 1) + b"\n" + b"next\n")

    long, after = lines(stream)

    assert after == b"next\n"
    assert len(long) == MAX_LINE + 1, "no more than that may be held"
    with pytest.raises(Refusal, match="longer"):
        parse(long)


def test_longest_line_is_read() -> None:
    frame = b'{"jsonrpc":"2.0","method":"models","params":{"x":""},"id":1}\n'
    line = frame.replace(b'""', b'"' + b"y" * (MAX_LINE - len(frame)) + b'"')
    assert len(line) == MAX_LINE

    (read,) = lines(io.BytesIO(line))

    assert len(parse(read).params["x"]) == MAX_LINE - len(frame)


@pytest.mark.parametrize(
    "line",
    [
        b"hello",
        b"\xff\xfe",
        b'"\xe9"',
        b'{"jsonrpc": "2.0", "id": 1, "method": "run", "params": {"setting": NaN}}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "run", "params": {"setting": -Infinity}}',
        b"[" * 100_000,
        b'{"jsonrpc": "2.0", "id": ' + b"9" * 5000 + b', "method": "models"}',
        b"\x00",
        b"{}{}",
    ],
)
def test_what_is_no_json_is_a_parse_error(desk: Desk, line: bytes) -> None:
    (answer,) = desk.ask(line + b"\n")

    check_error(answer, None, -32700, "protocol")


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"null",
        b"7",
        b"{}",
        b'[{"jsonrpc": "2.0", "id": 1, "method": "models"}]',
        b'{"jsonrpc": "1.0", "id": 1, "method": "models"}',
        b'{"id": 1, "method": "models"}',
        b'{"jsonrpc": "2.0", "id": 1}',
        b'{"jsonrpc": "2.0", "id": 1, "result": {}}',
        b'{"jsonrpc": "2.0", "id": 1, "method": 5}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "models", "params": []}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "models", "params": null}',
        b'{"jsonrpc": "2.0", "id": null, "method": "models"}',
        b'{"jsonrpc": "2.0", "id": true, "method": "models"}',
        b'{"jsonrpc": "2.0", "id": 1.5, "method": "models"}',
        b'{"jsonrpc": "2.0", "id": {}, "method": "models"}',
    ],
)
def test_json_that_is_no_request_is_refused(desk: Desk, line: bytes) -> None:
    (answer,) = desk.ask(line + b"\n")

    check_error(answer, None, -32600, "protocol")


@pytest.mark.parametrize("line", [b"\n", b"\r\n", b"  \n"])
def test_empty_line_is_nothing(desk: Desk, line: bytes) -> None:
    assert desk.ask(line) == []


def test_unknown_method_is_refused_with_those_there_are(desk: Desk) -> None:
    (answer,) = desk.ask({"id": "a", "method": "segment"})

    check_error(answer, "a", -32601, "protocol")
    assert "run" in answer["error"]["message"]


def test_cancel_is_no_request(desk: Desk) -> None:
    (answer,) = desk.ask({"id": 4, "method": "cancel", "params": {"id": 3}})

    check_error(answer, 4, -32601, "protocol")


@pytest.mark.parametrize("id_", [0, -1, 2**60, "", "a b", "\ud800"])
def test_answer_carries_the_id(desk: Desk, id_: Any) -> None:
    (answer,) = desk.ask({"id": id_, "method": "models"})

    assert answer["id"] == id_
    assert answer["result"]["models"]


@pytest.mark.parametrize(
    ("method", "params", "told"),
    [
        ("models", {"x": 1}, "'x'"),
        ("preview", {}, "preview.setting is missing"),
        ("preview", {"setting": "0.3"}, "preview.setting is not a number"),
        ("preview", {"setting": True}, "preview.setting is not a number"),
        ("preview", {"setting": None}, "preview.setting is not a number"),
        ("preview", {"setting": 10**400}, "finite"),
        ("hello", {}, "hello.protocol is missing"),
        ("hello", {"protocol": "1"}, "hello.protocol is not an integer"),
        ("hello", {"protocol": True}, "hello.protocol is not an integer"),
        ("hello", {"protocol": 1, "host": 3}, "hello.host is not a string"),
    ],
)
def test_wrong_params_are_named(desk: Desk, method: str, params: dict[str, Any], told: str) -> None:
    (answer,) = desk.ask({"id": 1, "method": method, "params": params})

    check_error(answer, 1, -32602, "protocol")
    assert told in answer["error"]["message"]


def test_overflowing_number_is_not_finite(desk: Desk) -> None:
    line = b'{"jsonrpc":"2.0","id":1,"method":"preview","params":{"setting":1e999}}\n'

    (answer,) = desk.ask(line)

    check_error(answer, 1, -32602, "protocol")


@pytest.mark.parametrize("protocol", [0, 2, -1, 10**30])
def test_other_protocol_is_refused_by_name_of_both(tmp_path: Path, protocol: int) -> None:
    desk = Desk(tmp_path)
    hello = {"protocol": protocol, "host": "Other 9", "news": True}

    (answer,) = desk.ask({"id": 1, "method": "hello", "params": hello})
    (after,) = desk.ask({"id": 2, "method": "models"})

    check_error(answer, 1, -32000, "version")
    assert "protocol 1" in answer["error"]["message"]
    assert f"Other 9 protocol {protocol}" in answer["error"]["message"]
    check_error(after, 2, -32600, "protocol")
    desk.server.stop()


@pytest.mark.parametrize("method", [*AT_ONCE, *IN_TURN])
def test_nothing_goes_before_hello(tmp_path: Path, method: str) -> None:
    desk = Desk(tmp_path)

    (answer,) = desk.ask({"id": 1, "method": method})

    expected = (-32602, "protocol") if method == "hello" else (-32600, "protocol")
    check_error(answer, 1, *expected)
    desk.server.stop()


def test_unknown_notification_is_told_in_the_log_and_not_answered(desk: Desk) -> None:
    (told,) = desk.ask({"method": "models"})

    assert told["method"] == "log"
    assert told["params"]["level"] == "warning"


@pytest.mark.parametrize("params", [{}, {"id": 99}, {"id": None}, {"id": []}, {"id": True}])
def test_cancelling_what_is_not_there_changes_nothing(desk: Desk, params: dict[str, Any]) -> None:
    told = desk.ask({"method": "cancel", "params": params})

    assert all("error" not in message and "id" not in message for message in told)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "memory"),
        (OutOfMemory("The graphics card ran out of memory; choose the CPU."), "memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "memory"),
        (RuntimeError("shape mismatch"), "internal"),
        (KeyError("x"), "internal"),
        (SystemExit(1), "internal"),
    ],
)
def test_exception_is_told_in_a_sentence(error: BaseException, kind: str) -> None:
    failure = failure_of(error).to_dict()

    assert failure["data"]["kind"] == kind
    assert failure["message"].endswith(".")
    assert ("detail" in failure["data"]) == (kind == "internal")


def test_graphics_card_that_is_full_is_a_matter_of_memory() -> None:
    import torch

    from napari_sparseseg.exhaustion import giving_back

    with pytest.raises(OutOfMemory) as caught, giving_back():
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert failure_of(caught.value).kind == "memory"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["jsonrpc", "method", "params", "id", "setting", "protocol", "volume", "data", "affine",
     "model", "host", "compare_dense", "device"]
)  # fmt: skip
# shutdown ends the conversation, devices imports torch
METHODS = st.sampled_from([*({*AT_ONCE, *IN_TURN} - {"shutdown", "devices"}), "cancel", "log"])
PARAMS = st.dictionaries(NAMES, JSON, max_size=4)
ALMOST = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0"), "method": METHODS | st.text(max_size=6)},
    optional={"params": PARAMS | JSON, "id": st.integers() | JSON},
)
LINES = st.binary(max_size=40) | (JSON | ALMOST).map(lambda data: json.dumps(data).encode())


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(garbage=st.lists(LINES, min_size=1, max_size=5))
def test_garbage_gets_errors_and_the_worker_goes_on(desk: Desk, garbage: list[bytes]) -> None:
    stream = io.BytesIO(b"".join(line.replace(b"\n", b" ") + b"\n" for line in garbage))

    assert all(desk.server.handle(line) for line in lines(stream))
    # closing takes its turn behind all others: when it is answered they are
    desk.handle(id="the end", method="close")

    for answer in desk.until("the end"):
        assert answer["jsonrpc"] == "2.0"
        if "error" in answer:
            assert answer["error"]["data"]["kind"] in KINDS - {"internal"}
        else:
            assert "result" in answer or answer["method"] in ("log", "progress")
    (models,) = desk.ask({"id": "still here", "method": "models"})
    assert models["id"] == "still here"
