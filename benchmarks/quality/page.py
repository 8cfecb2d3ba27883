"""docs/results.md and its pictures, from the JSON of the measurements."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.quality import plots, runs
from benchmarks.quality.card import write_cards
from benchmarks.quality.claims import claim_table
from benchmarks.quality.figures import Figures, read_results
from benchmarks.quality.sections import PAGE, section
from napari_sparseseg.training.tasks import TASKS

_IMAGES = "images/results"

_INTRODUCTION = """\
# How good it is

Written by `python -m benchmarks.quality page` from the raw rows in `benchmarks/results/quality`:
one for each scan and arm. Speed against other arms is on [another page](performance.md).

* **Ratio**: the share of the tokens with tissue that is to run every encoder block. For a keep
  ratio it is the setting itself; a threshold was calibrated on validation scans, and where no
  threshold gives a ratio the row says so. The *dense twin* is the same network with as much
  training and nothing pruned. `random` drops as many tokens of each scan at each stage.
* **Dice and HD95** by MONAI, on the scan's own grid, from the segmentation as a user gets it: mean
  over the structures of a patient, then mean ± standard deviation over patients. HD95 in mm; a
  structure that the prediction lacks has no distance, so the number of such scans stands beside it.
* **Tests**: median of the differences patient by patient, in points (a hundredth of Dice), and p of
  the two-sided Wilcoxon signed-rank test, *not corrected*. A star marks what survives Holm's
  correction for the number of tests in its table, at 0.05.
* **Cost**: GMACs counted from what ran. *Encoder* GMACs are encoder blocks and scoring, without the
  embedding of patches; *saved* is against what the dense twin ran on the same scans.
* **Time**: the dense twin's time over the model's own, the two alternating in one process; median
  and quartiles over scans and rounds. Above 1x the model is faster.
* **Choices** (thresholds, defaults) were made on validation scans alone."""

_CLAIMS = """\
## Published claims beside ours

Other data, other networks, other yardsticks: the columns say what was claimed and what is seen
here, not who is right."""


def write_page(results: Path, docs: Path, logs: Path) -> None:
    """Write the page, draw its pictures, and write the cards of the measured weights.

    Parameters
    ----------
    results : Path
        Folder with ``<task>.json``.
    docs : Path
        Folder for ``results.md``; pictures go to ``images/results`` in it.
    logs : Path
        Folder with the training logs, ``<run>.csv``.
    """
    every = read_results(results)
    pictures = {figures.task.name: draw(figures, docs, logs) for figures in every}
    docs.mkdir(parents=True, exist_ok=True)
    (docs / PAGE).write_text(make_page(every, pictures, logs))
    write_cards(every, logs)


def draw(figures: Figures, docs: Path, logs: Path) -> dict[str, str]:
    """Draw what can be drawn of a task, and return where each picture lies beside the page."""
    task = figures.task.name
    places = {
        kind: f"{_IMAGES}/{task}{ending}.png"
        for kind, ending in (
            ("comparison", ""), ("reliability", "-reliability"), ("training", "-training")
        )
    }  # fmt: skip
    recipe = runs.RECIPES / f"{task}-dense.toml"
    chain = [run.name for run in runs.chain(recipe)] if recipe.exists() else []
    drawn = {
        "comparison": plots.draw_comparison(figures, docs / places["comparison"]),
        "reliability": plots.draw_reliability(figures, docs / places["reliability"]),
        "training": plots.draw_training(chain, logs, docs / places["training"]),
    }
    return {kind: place for kind, place in places.items() if drawn[kind]}


def make_page(every: Sequence[Figures], pictures: dict[str, dict[str, str]], logs: Path) -> str:
    """Return the page.

    Parameters
    ----------
    every : sequence of Figures
        The tasks that were measured.
    pictures : dict
        The pictures of each task, as :func:`draw` returns them.
    logs : Path
        Folder with the training logs.
    """
    names = {figures.task.name for figures in every}
    absent = [task.title for task in TASKS.values() if task.name not in names]
    text = [_INTRODUCTION]
    if absent:
        text.append(f"Not measured yet: {', '.join(absent)}.")
    text += [section(figures, pictures[figures.task.name], logs) for figures in every]
    text += [_CLAIMS, claim_table(every)]
    return "\n\n".join(text) + "\n"
