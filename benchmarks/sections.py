"""The sections of the page that compare: arms, slider, memory, trace, growth."""

from __future__ import annotations

from benchmarks.arms import ARMS
from benchmarks.markdown import (
    EMPTY,
    Result,
    at,
    number,
    percent,
    span,
    table,
    verdict_table,
)
from benchmarks.slider import FULL_RUNS


def wall(cpu: Result, gpu: Result | None) -> str:
    """Return whole-volume time and quality of every arm."""
    verdicts = [
        (name, verdict, at(gpu, name, "verdicts", number_))
        for name, case in cpu.items()
        for number_, verdict in enumerate(case["verdicts"])
    ]
    text = [verdict_table(verdicts)]
    for name, case in cpu.items():
        text += [f"### {_title(case)}", _arms(case, at(gpu, name))]
    return "\n\n".join(text)


def _arms(case: Result, gpu: Result | None) -> str:
    head = ["arm", "precision", "seconds", "runs", "over sparse", "GPU seconds", "GPU over sparse",
            "mean Dice", "GMACs"]  # fmt: skip
    return table(
        head,
        (
            [
                ARMS[name],
                row["precision"],
                span(row["seconds"]),
                str(row["seconds"]["repeats"]),
                _over(case, name),
                span(at(gpu, "arms", name, "seconds")),
                _over(gpu, name),
                number(row.get("dice"), ".4f") or "random weights",
                number(at(row, "gmacs", "run"), ".1f"),
            ]
            for name, row in case["arms"].items()
        ),
    )


def _over(case: Result | None, name: str) -> str:
    if not case:
        return EMPTY
    medians = [case["arms"][arm]["seconds"]["median"] for arm in (name, "sparse")]
    return f"{medians[0] / medians[1]:.3g}x"


def slider(cpu: Result, gpu: Result | None) -> str:
    """Return the slider's times."""
    titles = FULL_RUNS | {"rerun": "re-run at 0.3 of the open session"}
    rows = [
        [name, title, span(case["seconds"][key]), span(at(gpu, name, "seconds", key))]
        for name, case in cpu.items()
        for key, title in titles.items()
    ]
    rows += [
        [
            name,
            "preview of the kept mask, milliseconds",
            span(case["seconds"]["preview"], 1e-3),
            span(at(gpu, name, "seconds", "preview"), 1e-3),
        ]
        for name, case in cpu.items()
    ]
    verdicts = [
        (
            f"{name}, against {FULL_RUNS[key]}" if key in FULL_RUNS else name,
            verdict,
            at(gpu, name, "verdicts", key),
        )
        for name, case in cpu.items()
        for key, verdict in case["verdicts"].items()
    ]
    parts = [
        f"Parts of a {title} on {name}, in seconds: {_parts(case['parts'][key])}."
        for name, case in cpu.items()
        for key, title in (("in_memory", "full run"), ("rerun", "re-run"))
    ]
    shown = table(["scan", "what", "seconds", "GPU seconds"], rows)
    return "\n\n".join([shown, verdict_table(verdicts), *parts])


def memory(cpu: Result, gpu: Result | None) -> str:
    """Return the memory of every arm."""
    head = ["scan", "arm", "run, MB", "peak of the process, MB", "GPU run, MB"]
    rows = [
        [
            name,
            ARMS[arm],
            number(row["run"], ".0f"),
            number(row["peak"], ".0f"),
            number(at(gpu, name, "arms", arm, "run"), ".0f"),
        ]
        for name, case in cpu.items()
        for arm, row in case["arms"].items()
    ]
    verdicts = [
        (name, case["verdicts"][0], at(gpu, name, "verdicts", 0)) for name, case in cpu.items()
    ]
    note = (
        "Each run in a fresh process. *Run*: the highest resident size during the run less that "
        "just before it, with model and scan loaded."
    )
    return "\n\n".join([note, table(head, rows), verdict_table(verdicts)])


def large(cpu: Result, gpu: Result | None) -> str:
    """Return what the largest scan took."""
    text = (
        f"{_title(cpu)}. One run in a fresh process took {cpu['seconds']:.3g} s, peak resident "
        f"{cpu['peak']:.0f} MB, the loaded scan among them, {cpu['swap']:.0f} MB in swap."
    )
    rows = [("planning-ct-600", v, at(gpu, "verdicts", n)) for n, v in enumerate(cpu["verdicts"])]
    return "\n\n".join([text, verdict_table(rows)])


def trace(cpu: Result, gpu: Result | None) -> str:
    """Return what observing costs."""
    rows = [
        [name, key, span(case["seconds"][key]), span(at(gpu, name, "seconds", key))]
        for name, case in cpu.items()
        for key in ("on", "off")
    ]
    verdicts = [
        (name, case["verdicts"][0], at(gpu, name, "verdicts", 0)) for name, case in cpu.items()
    ]
    shown = table(["scan", "trace", "seconds", "GPU seconds"], rows)
    return "\n\n".join([shown, verdict_table(verdicts)])


def growth(cpu: Result, gpu: Result | None) -> str:
    """Return how time grows."""
    head = ["phantom of heads at 1 mm", "tissue", "token-blocks", "network s", "whole s",
            "GPU network s", "GPU whole s"]  # fmt: skip
    rows = [
        [
            f"{'x'.join(map(str, row['shape']))}: {row['name']}",
            percent(row["tissue_share"]),
            str(row["token_blocks"]),
            number(row["parts"]["network"]),
            span(row["seconds"]),
            number(at(gpu, "rows", n, "parts", "network")),
            span(at(gpu, "rows", n, "seconds")),
        ]
        for n, row in enumerate(cpu["rows"])
    ]
    fits = [
        [
            part,
            f"{1e6 * fit['slope']:.3g}",
            f"{fit['intercept']:.3g}",
            f"{fit['r2']:.4f}",
            number(at(gpu, "fits", part, "r2"), ".4f"),
        ]
        for part, fit in cpu["fits"].items()
    ]
    text = (
        "A token-block is one token in one encoder block, counted from the trace. The claim is "
        "that the time in the network is linear in them; the parts around it grow with the voxels "
        "of the scan as well."
    )
    lines = table(["part", "µs per token-block", "seconds at 0", "R²", "GPU R²"], fits)
    verdicts = verdict_table([("phantoms", cpu["verdicts"][0], at(gpu, "verdicts", 0))])
    return "\n\n".join([text, table(head, rows), lines, verdicts])


def _parts(parts: Result) -> str:
    return ", ".join(f"{k.replace('_', ' ')} {v:.3g}" for k, v in parts.items() if v)


def _title(case: Result) -> str:
    share = percent(case["volume"]["tissue_share"])
    return f"{case['volume']['title']}; {share} of the patches hold tissue"


def viewer(found: Result) -> str:
    """Return how long a step to the next slice takes with each map visible."""
    more = found["more_than_scan_alone_ms"]
    rows = (
        [name, f"{row['median_ms']:.0f}", f"{row['p95_ms']:.0f}", f"{more[name]:.0f}"]
        for name, row in found["visible"].items()
    )
    width, height = found["canvas"]
    drawn = "software OpenGL" if found["software_opengl"] else "the graphics card"
    steps = min(row["steps"] for row in found["visible"].values())
    return (
        f"Milliseconds from moving the slider of the slices to the frame with the new slice, over "
        f"{steps} steps in a real napari {found['napari']} window ({width}x{height} pixels of "
        f"canvas, {drawn}), with all layers of a result of `{found['model']}` loaded: "
        f"{found['scan']}. By `make viewer-bench`.\n\n"
        + table(["visible", "median ms", "95th percentile", "more than the scan alone"], rows)
    )
