"""The wire: JSON-RPC 2.0, one message a line, UTF-8."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeGuard

from napari_sparseseg.worker.failures import INVALID_REQUEST, PARSE, Failure, Refusal

PROTOCOL = 1
"""Version of the messages; it grows when an old host could misread a new worker."""

MAX_LINE = 2**20
"""Longest message in bytes, its line feed included."""

Id = str | int


@dataclass(frozen=True)
class Message:
    """What a host sent.

    Attributes
    ----------
    method : str
        What to do.
    params : dict
        With what.
    id : str, int or None
        What the answer is to be called; None for a notification, which gets none.
    """

    method: str
    params: dict[str, Any]
    id: Id | None = None


def lines(stream: BinaryIO) -> Iterator[bytes]:
    """Give each line of a stream until it ends.

    Of a line that is too long only the beginning is given, one byte more than :data:`MAX_LINE`:
    no host can fill the memory. A last line without its end is dropped, for it was cut off.
    """
    while (line := stream.readline(MAX_LINE + 1)).endswith(b"\n") or len(line) > MAX_LINE:
        ended = line.endswith(b"\n")
        yield line
        while not ended:
            rest = stream.readline(MAX_LINE)
            ended = not rest or rest.endswith(b"\n")


def parse(line: bytes) -> Message:
    """Read one line.

    Raises
    ------
    Refusal
        If it is too long, is no JSON, or is no request of JSON-RPC 2.0.
    """
    if len(line) > MAX_LINE:
        raise Refusal(f"The message is longer than {MAX_LINE} bytes; send arrays as files.", PARSE)
    try:
        data = json.loads(line.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Refusal("The message is not one line of JSON in UTF-8.", PARSE) from error
    if not isinstance(data, dict) or data.get("jsonrpc") != "2.0":
        raise _no_request("it is not an object with 'jsonrpc': '2.0'")
    if unknown := data.keys() - {"jsonrpc", "method", "params", "id"}:
        raise _no_request(f"it has the unknown member '{min(unknown)}'")
    method, params, id_ = data.get("method"), data.get("params", {}), data.get("id")
    if not isinstance(method, str):
        raise _no_request("'method' is not a string")
    if not isinstance(params, dict):
        raise _no_request("'params' is not an object")
    if "id" in data and not is_id(id_):
        raise _no_request("'id' is neither a string nor an integer")
    return Message(method, params, id_)


def is_id(value: object) -> TypeGuard[Id]:
    """Tell whether something can be the id of a request; True is an integer to Python only."""
    return isinstance(value, str | int) and not isinstance(value, bool)


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def _no_request(reason: str) -> Refusal:
    return Refusal(f"The message is no request of JSON-RPC 2.0: {reason}.", INVALID_REQUEST)


class Wire:
    """The way to the host; safe to use from any thread.

    Parameters
    ----------
    stream : BinaryIO
        Where the messages go.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def result(self, id_: Id, result: dict[str, Any]) -> None:
        """Answer a request."""
        self._send({"id": id_, "result": result})

    def error(self, id_: Id | None, failure: Failure) -> None:
        """Answer a request that failed, or with None a line that is none."""
        self._send({"id": id_, "error": failure.to_dict()})

    def notify(self, method: str, **params: Any) -> None:
        """Tell something that needs no answer."""
        self._send({"method": method, "params": params})

    def _send(self, message: dict[str, Any]) -> None:
        line = json.dumps({"jsonrpc": "2.0", **message}, allow_nan=False) + "\n"
        # a host that is gone ends the standard input too, which ends the worker
        with self._lock, suppress(OSError):
            self._stream.write(line.encode())
            self._stream.flush()
