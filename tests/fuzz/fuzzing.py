"""One entry point, many spoilt inputs: each ends in a result or in one sentence, in bounds."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from napari_sparseseg.errors import SparseSegError

SECONDS = 60
"""What one input may take at the most; the machine may be slow, a loop never ends."""

MEMORY = 2**31
"""Bytes that all inputs together may need beyond what the program itself takes."""


@dataclass(frozen=True)
class Entry:
    """Something that takes input of unknown origin.

    Attributes
    ----------
    name : str
        What it is.
    inputs : SearchStrategy
        Spoilt inputs.
    call : callable
        Gives one of them to the program; raises whatever that raises, ``AssertionError`` for a
        result that cannot be.
    """

    name: str
    inputs: st.SearchStrategy[Any]
    call: Callable[[Any], object]


@dataclass
class Outcome:
    """How the inputs of one entry ended."""

    name: str
    handled: int = 0
    refused: int = 0
    defects: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return asdict(self)


def fuzz(entry: Entry, examples: int, number: int = 0) -> Outcome:
    """Give spoilt inputs to an entry point.

    Parameters
    ----------
    entry : Entry
        The entry point.
    examples : int
        Number of inputs.
    number : int
        Seed of what is drawn.

    Returns
    -------
    Outcome
        With one defect at the most, the smallest input that hypothesis could find for it.
    """
    outcome = Outcome(entry.name)
    last: list[str] = []

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(entry.inputs)
    def attempt(given_input: Any) -> None:
        try:
            _try(entry, given_input, outcome)
        except Exception as error:
            last[:] = traceback.format_exception(error)
            raise

    try:
        attempt()
    except Exception as error:  # hypothesis puts several together
        outcome.defects.append("".join(last or traceback.format_exception(error))[-2000:])
    return outcome


def _try(entry: Entry, given_input: Any, outcome: Outcome) -> None:
    try:
        with _in_time():
            entry.call(given_input)
    except SparseSegError as error:
        _check_sentence(str(error))
        outcome.refused += 1
        if len(outcome.messages) < 3 and str(error) not in outcome.messages:
            outcome.messages.append(str(error))
    else:
        outcome.handled += 1


def _check_sentence(message: str) -> None:
    assert message.endswith(".") and ". " not in message and ";" in message, message
    assert message.isprintable() and "Traceback" not in message, message


@contextmanager
def _in_time() -> Iterator[None]:
    def late(*_: object) -> None:
        raise AssertionError(f"it took more than {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def limit_memory() -> None:
    """Let this process grow by :data:`MEMORY` and no further; Linux only."""
    import resource
    from pathlib import Path

    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
