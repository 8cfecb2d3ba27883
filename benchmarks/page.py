"""docs/performance.md and its plots, from the JSON of the measurements."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import details, sections
from benchmarks.markdown import Result, at
from benchmarks.plot import draw

CPU_FILE, GPU_FILE, VIEWER_FILE = "speed.json", "speed-cuda.json", "viewer.json"
PICTURE = "speed.png"

_INTRODUCTION = """\
# How fast it is

Written by `make bench` from `benchmarks/results/{file}`. {machine}

{gpu}

All arms of a comparison run in turn in one process after a warm-up round, in inference mode, with
fused attention and, unless a row says otherwise, in the same precision, from the voxels of the
scan to labels on its own grid, with the same functions before and after the network. In the
comparison of arms an untimed run of the same arm precedes each timed one (except where MONAI takes
minutes), so that what another arm left in the caches does not count. Seconds are medians with
their range; ratios are those of medians. The *dense twin* is the same network with
the same training and nothing pruned: every token of every window of the whole volume runs, and
windows are decoded whole. *Dense twin with our other means* leaves out air and empty windows and
decodes active blocks as the sparse model does, so that what is left between them is pruning alone.
*MONAI UNETR* is `sliding_window_inference` (96^3, overlap 0.5, four windows at once) with
`monai.networks.nets.UNETR` (patch 16, feature size 16, ViT-B), as users get it (float32) and tuned
(our precision, channels last, fused attention). Its weights are random, so only its time counts;
since labels of noise take longer to bring back than those of anatomy, its way back is timed on the
true labels."""

_CLOSING = """\
## Reading the figures

* The planning-CT-like scan is a held-out head (`brain-labels`, SynthSeg, Apache-2.0), painted with
  a fixed Gaussian for each tissue. Its time and its Dice are comparable between arms; its Dice is
  not that of real scans.
* `brain-t1` (voxelmorph test scan, Apache-2.0) is labelled by FreeSurfer: Dice is agreement.
* `make bench` measures everything and writes this page; `python -m benchmarks.speed measure --only
  PART` measures one part, and `--device cuda` fills the GPU columns."""


def write_page(results: Path, before: Path, docs: Path) -> None:
    """Write the page, and draw its picture beside the results and for the page.

    Parameters
    ----------
    results : Path
        Folder with ``speed.json``, ``speed-cuda.json`` if a GPU was measured, and ``viewer.json``
        if the window was.
    before : Path
        JSON of the figures before this benchmark; left out where there is none.
    docs : Path
        Folder for the page; the picture goes to ``images`` in it.
    """
    cpu = json.loads((results / CPU_FILE).read_text())
    gpu, viewer, older = (
        _read(path) for path in (results / GPU_FILE, results / VIEWER_FILE, before)
    )
    drawn = "wall" in cpu and "growth" in cpu
    if drawn:
        draw(cpu, results / PICTURE)
        (docs / "images").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(results / PICTURE, docs / "images" / PICTURE)
    (docs / "performance.md").write_text(make_page(cpu, gpu, older, drawn, viewer))


def make_page(
    cpu: Result,
    gpu: Result | None,
    before: Result | None,
    drawn: bool,
    viewer: Result | None = None,
) -> str:
    """Return the page.

    Parameters
    ----------
    cpu : dict
        What was measured on a CPU; parts that it lacks are named as not measured.
    gpu, before : dict or None
        What was measured on a GPU, and before this benchmark.
    drawn : bool
        Whether there is a picture to show.
    viewer : dict or None
        What was measured of the window.
    """
    introduction = _INTRODUCTION.format(
        file=CPU_FILE, machine=_machine(cpu["machine"]), gpu=_gpu_line(gpu)
    )
    text = [introduction]
    if drawn:
        text.append(f"![Time of every arm, and growth with the tokens](images/{PICTURE})")
    for title, part, write in _sections(before):
        text.append(f"## {title}")
        text.append(write(cpu[part], at(gpu, part)) if part in cpu else "Not measured yet.")
    if viewer is not None:
        text += ["## Slices in the window", sections.viewer(viewer)]
    text += ["## Published claims beside ours", details.published(cpu.get("wall")), _CLOSING]
    return "\n\n".join(text) + "\n"


def _sections(
    before: Result | None,
) -> list[tuple[str, str, Callable[[Result, Result | None], str]]]:
    def profile(cpu: Result, gpu: Result | None) -> str:
        return details.profile(cpu, gpu, before)

    return [
        ("Whole volumes, against the dense twin and MONAI", "wall", sections.wall),
        ("The slider", "slider", sections.slider),
        ("Peak memory of a run", "memory", sections.memory),
        ("The largest scan", "large", sections.large),
        ("The trace", "trace", sections.trace),
        ("Growth", "growth", sections.growth),
        ("What each means is worth", "ablation", details.ablation),
        ("Overlap and keep ratio", "curves", details.curves),
        ("Where the time goes", "profile", profile),
        ("How far from the floor", "floor", details.floor),
        ("The network alone", "network", details.network),
    ]


def _machine(machine: Result) -> str:
    memory = f", {machine['memory_gb']:g} GB" if machine["memory_gb"] else ""
    return (
        f"Measured on {machine['processor']}, {machine['cores']} cores{memory}, "
        f"{machine['threads']} threads, torch {machine['torch']}, MONAI {machine['monai']}, "
        f"device {machine['device']}."
    )


def _gpu_line(gpu: Result | None) -> str:
    if gpu is None:
        return "The GPU columns are empty: nothing was measured on one yet."
    machine = gpu["machine"]
    return f"GPU columns: {machine['device']}, torch {machine['torch']}."


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.exists() else None
