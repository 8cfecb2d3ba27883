"""The words for what happened to tokens, and for where a result came from."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_sparseseg.fates import stage_name
from napari_sparseseg.methods import METHODS
from napari_sparseseg.tokens import TokenTrace


def stage_choices(trace: TokenTrace) -> list[str]:
    """Describe each stage, for choosing one."""
    if trace.fate == "skipped":
        return [f"before {stage_name(trace, s)}" for s in range(1, len(trace.stages) + 1)]
    return [
        f"{s}, after {after} block{'' if after == 1 else 's'}"
        for s, after in enumerate(trace.stages, start=1)
    ]


def times(number: int) -> str:
    """Put a number of times into words."""
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times")


def rounded(value: float, digits: int, signed: bool = False) -> str:
    """Round a number for reading; what would become 0 keeps its first digit."""
    small = 0 < abs(value) < 0.5 * 10.0**-digits
    return format(value, f"{'+' if signed else ''}{'.1g' if small else f',.{digits}f'}")


def dependency_note(trace: TokenTrace, token: int) -> str:
    """Say in words what a token attended to."""
    name = f"Token {token + 1}"
    if trace.air.flat[token]:
        return f"{name} is air: it never entered the encoder. Click on another one."
    shares = trace.attended(token)
    if shares is None:
        return f"The query of token {token + 1} was pruned: it attended to nothing."
    return f"{name} attended to {(shares > 0).sum():,} of {np.isfinite(shares).sum():,} tokens."


def describe(token: dict[str, Any] | None, structure: str | None) -> str:
    """Put what lies under the pointer into words.

    Parameters
    ----------
    token : dict or None
        A row of :func:`token_table`.
    structure : str or None
        Name of the class.
    """
    if token is None:
        return ""
    text = f"Token {token['index']}: {token['state']}, {token['depth']}"
    if token.get("reactivated", "never") != "never":
        text += f", reactivated {token['reactivated']}"
    facts = [text]
    for name, value in token.items():
        # NaN where it was not scored
        if isinstance(value, float) and name != "score" and value == value:
            raw = f" (score {token['score']:.3g})" if "score" in token else ""
            facts.append(f"{name}: {value:.2f}{raw}")
    facts.append(f"Structure: {structure or 'none'}")
    return "\n".join(facts)


def origin(report: dict[str, Any]) -> str:
    """Say in short what a result came from: method, control if one was used, and setting."""
    parts = [METHODS[report["method"]].title]
    if report["sparsifier"] != report["method"]:
        parts.append(f"control {METHODS[report['sparsifier']].title.lower()}")
    setting = report["setting"]
    if setting is not None:
        parts.append(f"{setting['name']} {setting['value']:g}")
    return ", ".join(parts)
