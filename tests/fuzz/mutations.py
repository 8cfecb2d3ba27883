"""Ways to spoil a file: bytes by place, JSON by member."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Edit = Callable[[bytearray], None]

_NUMBERS = (0, 1, -1, 2, 127, 255, 32767, -32768, 2**31 - 1, -(2**31))
_TEXTS = (b"", b"0", b"-1", b"9" * 20, b"nan", b"1e308", b"\x00", b"\xff\xfe", b"../x", b"%s" * 9)
_HOSTILE: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2.5, 255, 10**20, 1e308, float("nan"), float("inf"), "", "x" * 300,
    "\x00\n", "../../etc", [], {}, [[]], [0] * 40, [1e9] * 3, {"a": 1},
)  # fmt: skip


@st.composite
def edits(draw: st.DrawFn, size: int) -> list[Edit]:
    """Draw a few edits of a file of so many bytes; most lie in its beginning, the header."""
    return draw(st.lists(_edit(size), min_size=1, max_size=4))


@st.composite
def _edit(draw: st.DrawFn, size: int) -> Edit:
    reach = size if draw(st.integers(0, 3)) == 0 else min(size, 600)
    at = draw(st.integers(0, max(0, reach - 1)))
    kind = draw(st.sampled_from(["bit", "byte", "number", "text", "cut", "double", "remove"]))
    if kind == "number":
        code = draw(st.sampled_from(["<b", "<h", ">h", "<i", ">i", "<q", "<f", ">f"]))
        return _put(at, _packed(code, draw(st.sampled_from(_NUMBERS))))
    if kind == "text":
        return _put(at, draw(st.sampled_from(_TEXTS)))
    if kind == "byte":
        return _put(at, bytes([draw(st.integers(0, 255))]))
    length = draw(st.integers(1, 64))
    bit = draw(st.integers(0, 7))

    def edit(data: bytearray) -> None:
        if kind == "bit" and at < len(data):
            data[at] ^= 1 << bit
        elif kind == "cut":
            del data[at:]
        elif kind == "double":
            data[at:at] = data[at : at + length]
        elif kind == "remove":
            del data[at : at + length]

    return edit


def _packed(code: str, number: int) -> bytes:
    try:
        return struct.pack(code, number)
    except struct.error:
        return struct.pack(code, -1)


def _put(at: int, content: bytes) -> Edit:
    def edit(data: bytearray) -> None:
        data[at : at + len(content)] = content

    return edit


def spoilt(content: bytes, chosen: list[Edit]) -> bytes:
    """Apply edits one after the other."""
    data = bytearray(content)
    for edit in chosen:
        edit(data)
    return bytes(data)


@st.composite
def spoilt_json(draw: st.DrawFn, data: Any) -> Any:
    """Draw JSON data in which a few members are removed, doubled or hostile."""
    data = copy.deepcopy(data)
    for _ in range(draw(st.integers(1, 3))):
        data = _spoil_member(draw, data)
    return data


def _spoil_member(draw: st.DrawFn, data: Any) -> Any:
    place = data
    while isinstance(place, dict | list) and place:
        keys = list(place) if isinstance(place, dict) else range(min(len(place), 8))
        key = draw(st.sampled_from(list(keys)))
        below = place[key]
        if isinstance(below, dict | list) and below and draw(st.integers(0, 4)):
            place = below
            continue
        action = draw(st.sampled_from(["replace", "replace", "remove", "more"]))
        if action == "remove":
            del place[key]
        elif action == "more" and isinstance(place, dict):
            place["unknown"] = _hostile(draw)
        else:
            place[key] = _hostile(draw)
        return data
    return _hostile(draw)


def _hostile(draw: st.DrawFn) -> Any:
    return copy.deepcopy(draw(st.sampled_from(_HOSTILE)))  # one put into itself has no end


def as_bytes(data: Any) -> bytes:
    """Write JSON as Python does, which can write NaN too."""
    return json.dumps(data).encode()
