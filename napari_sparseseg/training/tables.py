"""Small parts of Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence


def line(cells: Sequence[str]) -> str:
    """Return a line of a table."""
    return "| " + " | ".join(cells) + " |"


def rule(head: Sequence[str]) -> str:
    """Return the line below the head of a table."""
    return "|---" * len(head) + "|"


def token_counts(tokens: dict[str, float]) -> str:
    """Return how many tokens were kept, pruned and exited."""
    return " / ".join(f"{tokens[key]:.0f}" for key in ("kept", "pruned", "exited"))
