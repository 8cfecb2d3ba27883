"""The ``sparseseg`` command in this process, disturbed while it runs."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from napari_sparseseg.cli import main

TINY = ("--model", "tiny-stp", "--device", "cpu", "--precision", "float32")
CANCELLED = 130
_PROGRESS = ("segment", "sweep")  # the commands that show it

Step = Callable[[int, str], None]
"""Called with the number of a step of the command, from 0, and what it is."""


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    code: object
    out: str
    err: str


def call(*arguments: object, step: Step | None = None) -> Answer:
    """Run the command; its steps are what it shows progress of, or the files that it opens."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["sparseseg", *map(str, arguments)]
    watch = _progress if arguments[0] in _PROGRESS else _opened
    with mock.patch.object(sys, "argv", argv), watch(step or (lambda n, what: None)):
        try:
            with redirect_stdout(out), redirect_stderr(err):
                main()
        except SystemExit as left:
            return Answer(left.code or 0, out.getvalue(), err.getvalue())
    raise AssertionError("the command has not left")


def interrupted_everywhere(
    folder: Path, number: signal.Signals, *arguments: object
) -> Iterator[str | None]:
    """Send a command a signal at its first step, then at its second, until it gets through.

    Parameters
    ----------
    folder : Path
        Where it reads and writes; must be the same after each signal.
    number : signal.Signals
        What is sent.
    *arguments : object
        The command.

    Yields
    ------
    str or None
        What was wrong after each signal, None for nothing.
    """
    before = snapshot(folder)
    for wanted in range(1000):
        came = []

        def step(n: int, what: str, wanted: int = wanted, came: list[str] = came) -> None:
            if n == wanted:
                came.append(what)
                os.kill(os.getpid(), number)

        answer = call(*arguments, step=step)
        if not came:
            assert answer.code == 0, answer.err
            return
        yield _wrong(answer, came[0], snapshot(folder) == before)
    raise AssertionError("the command takes more steps than anybody would wait for")


def snapshot(folder: Path) -> dict[str, bytes]:
    """Give all files and folders below one, hidden ones too."""
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


def _wrong(answer: Answer, what: str, unchanged: bool) -> str | None:
    if answer.code != CANCELLED:
        return f"{what}: exit code {answer.code}, {answer.err}"
    if "cancelled" not in answer.err or answer.err.count("\n") != 1 or answer.out:
        return f"{what}: it said {answer.out}{answer.err}"
    return None if unchanged else f"{what}: something was left behind"


@contextmanager
def _progress(step: Step) -> Iterator[None]:
    """Let a function take part in the progress of a command."""

    @contextmanager
    def bar() -> Iterator[Callable[[int, int, str], None]]:
        told: list[str] = []

        def progress(done: int, total: int, what: str) -> None:
            told.append(what)
            step(len(told) - 1, what)

        yield progress

    with (
        mock.patch("napari_sparseseg.cli.segment.progress_bar", bar),
        mock.patch("napari_sparseseg.cli.sweep.progress_bar", bar),
    ):
        yield


@contextmanager
def _opened(step: Step) -> Iterator[None]:
    """Call a function before each volume or trace that a command reads."""
    from napari_sparseseg import files, tokens

    told: list[str] = []

    def watched(read: Callable) -> Callable:
        def call(path: Path, *more: object, **named: object) -> object:
            for when in ("before", "after"):
                told.append(f"{when} reading {path.name}")
                step(len(told) - 1, told[-1])
                if when == "before":
                    found = read(path, *more, **named)
            return found

        return call

    with (
        mock.patch.object(files, "read_volume", watched(files.read_volume)),
        mock.patch.object(tokens, "read_map", watched(tokens.read_map)),
    ):
        yield
