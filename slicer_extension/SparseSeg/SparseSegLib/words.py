"""Legends, structures and figures of a run as rich text for the panel; plain data in, text out.

The words are those of the napari panel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from SparseSegLib.answers import RunAnswer, Structure, TokenMap
    from SparseSegLib.catalogue import Catalogue, Model

_TISSUE = 160
_INSIDE = '<span style="font-size: 6pt;">' + 4 * "&nbsp;" + "</span>"
_BAR_STEPS = 24


def legend(token_map: TokenMap) -> str:
    """Explain the colours of a map."""
    if token_map.type == "shades":
        return _bar(token_map.colormap, token_map.range)
    return _table(
        (
            _square(line.color),
            escape(line.text),
            "" if line.count is None else f"{line.count:,} tokens",
        )
        for line in token_map.legend
    )


def structures(found: Sequence[Structure]) -> str:
    """List the structures with their volumes, and their Dice to the dense twin if it is known."""
    compared = any(structure.dice_to_dense is not None for structure in found)
    rows = [
        (
            _square(structure.color),
            escape(structure.name),
            f"{structure.millilitres:,.1f} ml",
            *([_dice(structure.dice_to_dense)] if compared else []),
        )
        for structure in found
    ]
    heading = [("", "<i>structure</i>", "<i>volume</i>", "<i>Dice to dense</i>")] * compared
    return _table([*heading, *rows])


def figures(answer: RunAnswer, catalogue: Catalogue) -> dict[str, str]:
    """Put the report of a run into words.

    Parameters
    ----------
    answer : RunAnswer
        The answer.
    catalogue : Catalogue
        Knows the names of models and controls.

    Returns
    -------
    dict of str
        Values with their units, by name.
    """
    report = answer.report
    tokens, gmacs, seconds = report["tokens"], report["gmacs"], report["seconds"]
    setting, memory = report["setting"], report["peak_memory_mb"]
    inside = max(1, tokens["total"] - tokens["air"])
    others = tokens["pruned"] + tokens["exited"]  # a rule does one of the two
    model = catalogue.model(report["model"])
    dice = [s.dice_to_dense for s in answer.structures if s.dice_to_dense is not None]
    rows = {
        "Model": report["model"],
        "Method": model.method_title if model else report["method"],
        "Control": _control(report, catalogue),
        setting["name"].capitalize() if setting else "": f"{setting['value']:g}" if setting else "",
        "Tokens": f"{tokens['total']:,} ({tokens['air']:,} air)",
        "Kept": f"{tokens['kept']:,} ({tokens['kept'] / inside:.0%} of non-air)",
        answer.fate.capitalize(): f"{others:,} ({others / inside:.0%} of non-air)",
        "Reactivated": f"{tokens['reactivated']:,}" if tokens["reactivated"] else "",
        "Compute": f"{gmacs['run']:,.1f} of {gmacs['dense']:,.1f} GMACs",
        "Time": f"{seconds['total']:.2f} s",
        "Memory": "" if memory is None else f"{memory:,.0f} MB at most",
        "Computed": f"on {report['device']} in {report['precision']}",
        "Dice to dense": f"{sum(dice) / len(dice):.3f} (mean of {len(dice)} structures)"
        if dice
        else "",
    }
    return {name: value for name, value in rows.items() if value}


def figures_table(rows: Mapping[str, str]) -> str:
    """Lay out what :func:`figures` returns."""
    return _table((escape(name), escape(value)) for name, value in rows.items())


def summary(report: Mapping[str, Any]) -> str:
    """Put a report into one short line."""
    tokens = report["tokens"]
    inside = max(1, tokens["total"] - tokens["air"])
    return f"{report['seconds']['total']:.1f} s, {tokens['kept'] / inside:.0%} of tokens kept"


def facts(model: Model, seconds: float | None) -> str:
    """Describe a model: what it is for, its size, and how long a run takes.

    Parameters
    ----------
    model : Model
        The model.
    seconds : float or None
        How long its last run took on this computer, None if there was none.
    """
    parts = [f"{model.modality}, at {model.spacing:g} mm"]
    if model.size_mb is not None:
        parts.append(f"{model.size_mb:.0f} MB")
    expected = model.seconds.get("cpu")
    if seconds is not None:
        parts.append(f"last run here {seconds:.1f} s")
    elif expected is not None:
        parts.append(f"about {expected:g} s on a CPU")
    else:
        parts.append("time not measured here yet")
    return "; ".join(parts)


def device(entry: Mapping[str, Any]) -> str:
    """Describe a device with the memory that is free."""
    free = entry.get("free_mb")
    return entry["title"] if free is None else f"{entry['title']}, {free / 1024:.1f} GiB free"


def _control(report: Mapping[str, Any], catalogue: Catalogue) -> str:
    if report["sparsifier"] == report["method"]:
        return ""
    titles = {rule.name: rule.title.lower() for rule in catalogue.controls}
    return titles.get(report["sparsifier"], report["sparsifier"])


def _dice(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _table(rows: Iterable[Sequence[str]]) -> str:
    lines = (
        "<tr>" + "".join(f'<td style="padding-right: 8px;">{cell}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    return f'<table cellspacing="0" cellpadding="1">{"".join(lines)}</table>'


def _square(color: str) -> str:
    return (
        '<table border="1" cellspacing="0" cellpadding="0" style="border-color: #808080; '
        f'border-style: solid;"><tr><td bgcolor="{_over_grey(color)}">{_INSIDE}</td></tr></table>'
    )


def _bar(colormap: Sequence[str], ends: tuple[float, float]) -> str:
    """Draw shades from the lowest to the highest."""
    last = len(colormap) - 1
    picked = [colormap[round(step * last / (_BAR_STEPS - 1))] for step in range(_BAR_STEPS)]
    cells = "".join(f'<td bgcolor="{_over_grey(color)}">&nbsp;&nbsp;</td>' for color in picked)
    return (
        f'<table cellspacing="0" cellpadding="0"><tr><td>{ends[0]:g}&nbsp;</td>{cells}'
        f"<td>&nbsp;{ends[1]:g}</td></tr></table>"
    )


def _over_grey(color: str) -> str:
    """Return the opaque colour that a "#rrggbbaa" over grey tissue looks like."""
    red, green, blue, alpha = bytes.fromhex(color[1:].ljust(8, "f"))
    mixed = (round((part * alpha + _TISSUE * (255 - alpha)) / 255) for part in (red, green, blue))
    return "#" + "".join(f"{part:02x}" for part in mixed)
