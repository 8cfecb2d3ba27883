"""Figures as Markdown: tables, times with their range, verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Result = dict[str, Any]

EMPTY = ""
"""What stands where nothing was measured."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    return "\n".join([_line(head), "|---" * len(head) + "|", *(_line(row) for row in rows)])


def span(spread: Result | None, unit: float = 1.0) -> str:
    """Return median and range of a spread of seconds, in units of so many seconds."""
    if not spread:
        return EMPTY
    middle, low, high = (f"{spread[key] / unit:.3g}" for key in ("median", "min", "max"))
    return f"{middle} ({low} to {high})"


def number(value: float | None, digits: str = ".3g") -> str:
    """Return a number, or nothing."""
    return EMPTY if value is None else format(value, digits)


def percent(share: float) -> str:
    """Return a share in percent."""
    return f"{100 * share:.3g} %"


def at(result: Result | None, *keys: str | int) -> Any:
    """Follow keys into a result, None where one is missing."""
    for key in keys:
        try:
            result = result[key]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return None
    return result


def verdict_table(rows: Iterable[tuple[str, Result, Result | None]]) -> str:
    """Return a table of targets.

    Parameters
    ----------
    rows : iterable of tuple
        Where, the verdict on the CPU, and that on a GPU if there is one.
    """
    head = ["scan", "figure", "target", "measured", "verdict", "GPU", "GPU verdict"]
    return table(
        head,
        (
            [
                where,
                verdict["what"],
                verdict["target"],
                _value(verdict),
                _word(verdict),
                _value(gpu) if gpu else EMPTY,
                _word(gpu) if gpu else EMPTY,
            ]
            for where, verdict, gpu in rows
        ),
    )


def _value(verdict: Result) -> str:
    return f"{verdict['value']:.3g}{verdict['unit']}"


def _word(verdict: Result) -> str:
    return "met" if verdict["met"] else "**missed**"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
