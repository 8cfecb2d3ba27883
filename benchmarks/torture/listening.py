"""A plugin of pytest that writes how each test ended, and with which sentences for users."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from napari_sparseseg.errors import SparseSegError

_FOLDERS = re.compile(r"/[^\s;,()']*/")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the file to write to."""
    parser.addoption("--endings", type=Path, help="file for a line of JSON for each test")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo
) -> Iterator[None | pytest.TestReport]:
    """Write how a test ended, once it has been called or could not be."""
    report: pytest.TestReport = yield  # type: ignore[misc, assignment]
    out: Path | None = item.config.getoption("--endings")
    if out is not None and (report.when == "call" or report.outcome != "passed"):
        facts = {
            "file": item.path.name,
            "test": getattr(item, "originalname", item.name),
            "outcome": report.outcome,
            "problem": "" if report.passed else str(call.excinfo and call.excinfo.value),
            "messages": [_FOLDERS.sub("", message) for message in _said(item)],
        }
        with out.open("a") as file:
            file.write(json.dumps(facts) + "\n")
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Listen anew: what was said while a test was set up is not its own."""
    _said(item).clear()


def pytest_configure(config: pytest.Config) -> None:
    """Note the sentence of every error for users that is made."""
    said: list[str] = []
    config.stash[_SAID] = said
    make = SparseSegError.__init__

    def noted(error: SparseSegError, *arguments: Any) -> None:
        make(error, *arguments)
        said.extend(str(argument) for argument in arguments[:1])

    SparseSegError.__init__ = noted  # type: ignore[method-assign]


_SAID = pytest.StashKey[list[str]]()


def _said(item: pytest.Item) -> list[str]:
    return item.config.stash[_SAID]
