"""How fast the slider is: ``python benchmarks/slider.py --out benchmarks/results/slider.json``.

Four figures on one scan of 256^3 voxels at 1 mm (the ICBM152 template on a larger grid), all in
one process, alternating, medians with their range:

* the first press of Segment: a full run in a fresh process, the import of torch included;
* a full run in a process that has done one before: weights from disk, preprocessing, first
  stage, and all behind it, at the default keep ratio;
* a re-run at keep ratio 0.3 of a session that is open already;
* the preview of the kept mask from cached scores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_sparseseg import Segmenter, Volume
from napari_sparseseg.files import read_volume, write_volume
from napari_sparseseg.plugin.sample import template_path
from napari_sparseseg.segmenter import DEFAULT_MODEL

RERUN_RATIO = 0.3


def scan_of_256() -> Volume:
    """Return the sample scan in the middle of a 256^3 grid of the same voxels."""
    sample = read_volume(template_path())
    lead = [(256 - n) // 2 for n in sample.shape]
    padding = [(b, 256 - n - b) for b, n in zip(lead, sample.shape, strict=True)]
    shift = np.eye(4)
    shift[:3, 3] = -np.array(lead)
    return Volume(np.pad(sample.data, padding), sample.affine @ shift, "ICBM152 in 256^3")


FRESH = """
import sys, time
from napari_sparseseg.files import read_volume, write_volume
scan = read_volume(sys.argv[1])
start = time.perf_counter()
from napari_sparseseg import Segmenter
Segmenter(device=sys.argv[2]).open(scan).run()
print(time.perf_counter() - start)
"""


def fresh_runs(scan: Volume, repeats: int, device: str) -> list[float]:
    """Return the seconds of a full run in processes of their own, the scan read before."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.nii.gz"
        write_volume(scan, path)
        command = [sys.executable, "-c", FRESH, str(path), device]
        return [
            float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            for _ in range(repeats)
        ]


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that an action took, and its result."""
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


def spread(seconds: list[float]) -> dict[str, float]:
    """Return median and range."""
    names = {"median": np.median, "min": np.min, "max": np.max}
    return {name: round(float(f(seconds)), 5) for name, f in names.items()}


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(x.split(":")[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def measure(repeats: int, device: str) -> dict[str, Any]:
    """Measure all three, one after the other, ``repeats`` times after a warm-up round."""
    scan = scan_of_256()
    first, rerun, preview = [], [], []
    parts, rerun_parts = [], []
    for number in range(repeats + 1):
        start = time.perf_counter()
        session = Segmenter(DEFAULT_MODEL, device).open(scan)
        answer = session.run()
        seconds = time.perf_counter() - start
        again, second = timed(partial(session.run, RERUN_RATIO))
        ratios = np.linspace(0.05, 1.0, 20)
        previews = [timed(partial(session.preview, float(r)))[0] for r in ratios]
        precision = session.segmenter.precision
        session.close()
        if number:
            first.append(seconds)
            rerun.append(again)
            parts.append(answer.report["seconds"])
            rerun_parts.append(second.report["seconds"])
            preview += previews
    fresh = fresh_runs(scan, repeats, device)
    return {
        "scan": {"shape": list(scan.shape), "spacing": list(scan.spacing)},
        "device": device,
        "precision": precision,
        "repeats": repeats,
        "default_keep_ratio": answer.report["setting"]["value"],
        "tokens": answer.report["tokens"],
        "first_press_seconds": spread(fresh),
        "rerun_median_over_first_press_median": round(
            float(np.median(rerun) / np.median(fresh)), 3
        ),
        "first_run_seconds": spread(first),
        "first_run_parts_median": _median_parts(parts),
        "rerun_seconds": spread(rerun),
        "rerun_parts_median": _median_parts(rerun_parts),
        "rerun_over_first": spread([b / a for a, b in zip(first, rerun, strict=True)]),
        "preview_seconds": spread(preview),
    }


def _median_parts(parts: list[dict[str, float]]) -> dict[str, float]:
    return {key: round(float(np.median([p[key] for p in parts])), 4) for key in parts[0]}


PAGE = """\
# How fast the slider is

Written by `make bench` from `benchmarks/results/slider.json`.

One scan of {shape} voxels at {spacing:g} mm (the ICBM152 template on a larger grid), on
{processor}, {cores} cores, torch {torch}, device {device}, {precision}. All arms in one process,
one after the other, {repeats} times; median (range).

| what | seconds |
|---|---|
| first press of Segment at {default:g}, in a fresh process, torch imported | {fresh} |
| full run at {default:g} in a process that has done one, weights from disk | {first} |
| re-run at {rerun_ratio:g} of the open session | {rerun} |
| preview of the kept mask while the slider moves | {preview} |

Re-run over first press: {press_ratio:.3g}. Re-run over full run: {ratio}.

A re-run was meant to take at most a third. It does against the first press, and does not
against a full run in a warm process: air never enters the encoder, so that what a re-run leaves
out is small beside the decoder and the way back to the scan's own grid, which it repeats.

Of the full run, in seconds: {parts}. Of the re-run: {rerun_parts}. What remains of the full run
is loading and checking the weights.

The figures of a GPU are empty until they are measured on one.
"""


def page(result: dict[str, Any]) -> str:
    """Return the documentation page of a measurement."""

    def span(values: dict[str, float]) -> str:
        return f"{values['median']:.3g} ({values['min']:.3g} to {values['max']:.3g})"

    def listed(parts: dict[str, float]) -> str:
        named = ((key.replace("_", " "), value) for key, value in parts.items() if key != "total")
        return ", ".join(f"{key} {value:.3g}" for key, value in named if value)

    return PAGE.format(
        shape="x".join(map(str, result["scan"]["shape"])),
        spacing=result["scan"]["spacing"][0],
        processor=result["machine"]["processor"],
        cores=result["machine"]["cores"],
        torch=result["machine"]["torch"],
        device=result["device"],
        precision=result["precision"],
        repeats=result["repeats"],
        default=result["default_keep_ratio"],
        rerun_ratio=RERUN_RATIO,
        fresh=span(result["first_press_seconds"]),
        press_ratio=result["rerun_median_over_first_press_median"],
        first=span(result["first_run_seconds"]),
        rerun=span(result["rerun_seconds"]),
        preview=span(result["preview_seconds"]),
        ratio=span(result["rerun_over_first"]),
        parts=listed(result["first_run_parts_median"]),
        rerun_parts=listed(result["rerun_parts_median"]),
    )


def main() -> None:
    """Run the benchmark and write its JSON."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--page", type=Path, help="Markdown page to write")
    options.add_argument("--repeats", type=int, default=7)
    options.add_argument("--device", default="cpu")
    chosen = options.parse_args()
    result = {
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
            "torch": torch.__version__,
        },
        **measure(chosen.repeats, chosen.device),
    }
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(result, indent=1) + "\n")
    text = page(result)
    if chosen.page:
        chosen.page.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
