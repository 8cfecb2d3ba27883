"""Taking times so that they can be compared: arms in turn, medians with their range."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

import torch

Spread = dict[str, float]
"""Median, min, max, and the number of repeats behind them."""


def timed(action: Callable[[], Any], device: str = "cpu") -> tuple[float, Any]:
    """Return the wall seconds of an action, work queued on the device included, and its result."""
    _synchronise(device)
    start = time.perf_counter()
    result = action()
    _synchronise(device)
    return time.perf_counter() - start, result


def alternate(
    actions: Mapping[str, Callable[[], Any]],
    repeats: int | Mapping[str, int],
    device: str = "cpu",
    warm_up: Mapping[str, Callable[[], Any]] | None = None,
    settle: Collection[str] = (),
) -> Iterator[tuple[str, float, Any]]:
    """Run actions in turn, so that a drift of the machine meets all of them.

    Parameters
    ----------
    actions : dict of callable
        What to time, by name. Every round runs each of them once, in this order.
    repeats : int or dict of int
        Rounds, or for each name in how many of the first rounds it takes part.
    device : str
        Device to wait for.
    warm_up : dict of callable, optional
        What to run once before the first round in place of the action itself.
    settle : collection of str
        Names that are run once untimed right before each timed call, so that what the one before
        left in caches and in the allocator does not count.

    Yields
    ------
    name, seconds, result
        Of each timed call; what the caller does in between is not timed.
    """
    rounds = {name: repeats if isinstance(repeats, int) else repeats[name] for name in actions}
    for name, action in {**actions, **(warm_up or {})}.items():
        if rounds[name]:
            action()
    for number in range(max(rounds.values(), default=0)):
        for name, action in actions.items():
            if number < rounds[name]:
                if name in settle:
                    action()
                seconds, result = timed(action, device)
                yield name, seconds, result


def spreads(
    rounds: Iterable[tuple[str, float, Any]], note: Callable[[str, Any], None] | None = None
) -> dict[str, Spread]:
    """Take the times of :func:`alternate` and return the spread of each name.

    Parameters
    ----------
    rounds : iterable
        What :func:`alternate` yields.
    note : callable, optional
        Told each name and its result, which are too large to be kept.
    """
    seconds: dict[str, list[float]] = {}
    for name, taken, result in rounds:
        seconds.setdefault(name, []).append(taken)
        if note:
            note(name, result)
    return {name: spread(values) for name, values in seconds.items()}


def spread(seconds: Sequence[float]) -> Spread:
    """Return median, range and number of repeats."""
    return {
        "median": round(median(seconds), 6),
        "min": round(min(seconds), 6),
        "max": round(max(seconds), 6),
        "repeats": len(seconds),
    }


def ratio(slow: Spread, fast: Spread) -> float:
    """Return how many times longer the one took than the other, by medians."""
    return round(slow["median"] / fast["median"], 4)


def median_parts(reports: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the median seconds of each part, from the reports of several runs."""
    parts = [report["seconds"] for report in reports]
    return {key: round(median(p[key] for p in parts), 5) for key in parts[0]}


def network_seconds(parts: Mapping[str, float]) -> float:
    """Return the seconds inside the network: all parts but the way to the model grid and back."""
    outside = ("total", "preprocess", "restore")
    return sum(seconds for key, seconds in parts.items() if key not in outside)


def _synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
