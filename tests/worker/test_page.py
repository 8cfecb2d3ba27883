"""What docs/worker.md tells the author of a host is so."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from napari_sparseseg.volume import Volume
from napari_sparseseg.worker import failures
from napari_sparseseg.worker.failures import Kind
from napari_sparseseg.worker.server import AT_ONCE, IN_TURN
from napari_sparseseg.worker.wire import PROTOCOL

from .client import PATIENCE, Host

LEFT_OUT = "…"


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "worker.md").read_text()


def names(page: str, title: str) -> set[str]:
    """Give the names in the first column of the table under a heading."""
    table = page[page.index(title) :].split("\n\n", 1)[0]
    return set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))


def test_tables_name_every_request_and_every_kind_of_error(page: str) -> None:
    assert names(page, "| request |") == {*AT_ONCE, *IN_TURN}
    assert names(page, "| kind |") == {*get_args(Kind)}


def test_page_names_the_protocol_and_every_code(page: str) -> None:
    codes = {value for name, value in vars(failures).items() if name.isupper() and name[0] != "_"}

    assert f"This is protocol {PROTOCOL}." in page
    assert {str(code) for code in codes if isinstance(code, int)} <= {*re.findall(r"-32\d+", page)}


def matches(told: Any, expected: Any) -> bool:
    """Tell whether a message is as the page has it, but for what is left out there."""
    if isinstance(expected, dict):
        if not isinstance(told, dict) or not expected.keys() - {LEFT_OUT} <= told.keys():
            return False
        complete = LEFT_OUT in expected or expected.keys() == told.keys()
        return complete and all(matches(told[k], v) for k, v in expected.items() if k != LEFT_OUT)
    if isinstance(expected, list):
        return isinstance(told, list) and (
            expected == [LEFT_OUT]
            or (len(told) == len(expected) and all(map(matches, told, expected)))
        )
    if isinstance(expected, str) and LEFT_OUT in expected and expected != LEFT_OUT:
        start, end = expected.split(LEFT_OUT)
        return isinstance(told, str) and told.startswith(start) and told.endswith(end)
    return expected == LEFT_OUT or told == expected


def test_conversation_goes_as_it_is_written(
    page: str, start: Callable[..., Host], scan: Volume
) -> None:
    (dialogue,) = re.findall(r"```\n(--> .*?)```", page, re.DOTALL)
    host = start()
    np.save(host.folder / "input.npy", scan.data)

    for line in dialogue.splitlines():
        way, message = line[:4], line[4:]
        if way == "--> ":
            host.write(message.encode() + b"\n")
            continue
        assert way == "<-- "
        expected = json.loads(message)
        told = host.next_message()
        # the page shows one step of each
        while "id" not in told and not matches(told, expected):
            told = host.next_message()
        assert matches(told, expected), told

    assert host.process.wait(PATIENCE) == 0
