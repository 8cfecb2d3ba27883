"""The section of the page on one task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.markdown import table
from benchmarks.quality import parts, runs, tables, words
from benchmarks.quality.figures import AS_GOOD, Figures
from benchmarks.quality.findings import findings
from benchmarks.quality.recommend import SURE
from benchmarks.quality.runs import RECIPES
from napari_sparseseg.training.synthesis import SynthesisConfig

PAGE = "results.md"
NOT_MEASURED = "Not measured yet."
UNKNOWN = "(number not recorded)"

_PARTS = {
    "models": "the models",
    "times": "times",
    "chosen": "the recommended defaults",
    "baselines": "the networks of others",
    "budget": "the training budget",
    "robustness": "robustness",
    "calibration": "calibration",
    "exits": "exits",
}
_CONTROLS = (
    "`truncated` ends the encoder at the first stage, `none` runs no encoder block. They take the "
    "place of the model's own rule, without further training for it."
)


def section(figures: Figures, pictures: dict[str, str], logs: Path) -> str:
    """Return everything that was measured of a task.

    Parameters
    ----------
    figures : Figures
        The task.
    pictures : dict
        Path of each picture that was drawn, "comparison", "reliability" or "training", as the
        page has to name it.
    logs : Path
        Folder with the training logs.
    """
    text = [f"## {figures.task.title}"]
    if "comparison" in pictures:
        text.append(f"![Mean Dice over encoder GMACs and over time]({pictures['comparison']})")
    text += [_missing(figures), "### What this says", _findings(figures)]
    text += ["### Data, and how it was measured", data_text(figures), measured_text(figures)]
    text += _compared(figures)
    text += _beside(figures)
    for title, write in _FURTHER.items():
        text += [f"### {title}", write(figures, pictures) or NOT_MEASURED]
    text += ["### Where more training leads", _training(figures, pictures, logs)]
    return "\n\n".join(part for part in text if part)


def data_text(figures: Figures) -> str:
    """Return what the scans are; the numbers of scans are those that were measured."""
    counts = {"train": figures.data.get("training", UNKNOWN), "val": UNKNOWN, "test": UNKNOWN}
    for where, key in (("validation", "val"), ("test", "test")):
        if where in figures.data["sets"]:
            counts[key] = len(figures.data["sets"][where]["cases"])
    heads = held_out(figures.task.name)
    if heads is not None:
        counts["val"] = heads
    return figures.task.data.format(**counts).strip()


def held_out(task: str) -> int | None:
    """Return how many heads a task keeps for validation, None if it has real scans instead."""
    path = RECIPES / f"{task}-dense.toml"
    data = runs.load_recipe(path).data if path.exists() else None
    return len(data.validation) if isinstance(data, SynthesisConfig) else None


def measured_text(figures: Figures) -> str:
    """Return how the figures of a task were made."""
    sets = [figures.title(where) for where in figures.data["sets"]]
    text = f"Scans: {words.listed(sets)}. " if sets else ""
    precisions = sorted({str(m.data["precision"]) for m in figures.models if "precision" in m.data})
    if precisions:
        text += f"Inference in {words.listed(precisions)}. "
    machine = figures.part("machine")
    if machine:
        text += f"Measured on {machine.get('processor', 'an unknown processor')}"
        threads = machine.get("threads")
        text += f", {threads} thread{'' if threads == 1 else 's'}. " if threads else ". "
    seeds = figures.data.get("random_seeds")
    if seeds:
        text += f"Random pruning: mean over {len(seeds)} seeds, patient by patient. "
    if figures.too_few("test"):
        count = len(figures.data["sets"].get("test", {}).get("cases", []))
        text += (
            f"On {figures.title('test')} there is {words.reason_for_no_test(count)}; the paired "
            f"tests run on {figures.title('validation')}, which were also used for choices. Random "
            "pruning was run on the test alone, so its differences have no test. "
        )
    return (text + figures.task.reference).strip()


def _missing(figures: Figures) -> str:
    lacking = [title for key, title in _PARTS.items() if not figures.part(key)]
    return f"Not measured yet: {words.listed(lacking)}." if lacking else ""


def _findings(figures: Figures) -> str:
    return "\n".join(f"* {sentence}" for sentence in findings(figures)) or NOT_MEASURED


def _compared(figures: Figures) -> list[str]:
    """Return the tables of methods on every set that is reported."""
    text = []
    for where in figures.places:
        text.append(f"### Methods by ratio: {figures.title(where)}")
        if not any(arm.measured for model in figures.models for arm in model.own(where)):
            text.append(NOT_MEASURED)
            continue
        text += [
            "What ran:",
            tables.cost_table(figures, figures.models, where),
            "How good it is:",
            tables.quality_table(figures, figures.models, where),
        ]
    text += ["### Controls: is the encoder needed?", _CONTROLS]
    return [*text, tables.control_table(figures.models, "test")]


def _beside(figures: Figures) -> list[str]:
    """Return other networks, and every structure."""
    where = figures.places[0]
    models = ([figures.twin] if figures.twin else []) + figures.sparse
    every = [*tables.ours(figures, where, models), *tables.others(figures, where)]
    text = ["### Beside other networks"]
    if figures.part("baselines"):
        text.append(
            "Trained on the same scans by our own runs; budgets differ as the table says. GMACs of "
            "other networks are those of all windows of a scan."
        )
    else:
        text.append("Networks of others: not measured yet.")
    text.append(tables.baseline_table(figures, where))
    named = {one.title for one in tables.ours(figures, where, models)}
    absent = [m for m in models if not any(t.startswith(f"`{m.label}`") for t in named)]
    if absent:
        said = words.listed([f"`{model.label}`" for model in absent])
        text.append(f"Not measured at the setting to be shown: {said}.")
    if every:
        text += ["### Structure by structure", "Dice:", tables.class_table(figures, every, "dice")]
        text += ["HD95, mm, where truth and prediction both hold the structure:"]
        text.append(tables.class_table(figures, every, "hd95"))
    return text


def _robustness(figures: Figures, _: dict[str, str]) -> str:
    if not figures.part("robustness"):
        return ""
    text = (
        "Mean Dice, and in brackets the mean change in points against the same scans without the "
        "condition.\n\n" + parts.robustness_table(figures)
    )
    if figures.part("tissue"):
        text += "\n\nA template of another origin, tissue against its tissue maps:\n\n"
        text += parts.tissue_table(figures)
    return text


def _calibration(figures: Figures, pictures: dict[str, str]) -> str:
    if not figures.part("calibration"):
        return ""
    text = (
        "On the validation set: is a voxel with a largest class probability of 0.8 right in 80 % "
        "of the cases, and do errors hide where the network is unsure?\n\n"
        + parts.calibration_table(figures, figures.models)
    )
    if "reliability" in pictures:
        text += f"\n\n![Accuracy over confidence]({pictures['reliability']})"
    return text


def _exits(figures: Figures, _: dict[str, str]) -> str:
    text = []
    for name, rows in figures.part("exits").items():
        chosen = figures.part("chosen").get(name, {}).get("setting")
        text += [f"`{name}` on the validation set:", parts.exit_table(rows, chosen)]
    return "\n\n".join(text)


def _choices(figures: Figures, _: dict[str, str]) -> str:
    if not any(model.own("validation") for model in figures.sparse):
        return ""
    return (
        f"The rule: the smallest ratio whose mean Dice on validation is within {100 * AS_GOOD:g} "
        f"points of the dense twin's; for DToP also at least {words.percent(SURE)} of the voxels "
        "that exited right; otherwise nothing is pruned.\n\n"
        + parts.choice_table(figures, figures.sparse)
    )


def _training(figures: Figures, pictures: dict[str, str], logs: Path) -> str:
    path = RECIPES / f"{figures.task.name}-dense.toml"
    names = [recipe.name for recipe in runs.chain(path)] if path.exists() else []
    rows = []
    for name in names:
        found, terms = runs.length(logs / f"{name}.csv"), []
        if found:
            terms = [f"{value:.3f}" for value in runs.tenths(logs / f"{name}.csv", "dice")]
        steps = [f"{found[0]}", f"{found[1] / 60:.0f}"] if found else ["not recorded", ""]
        rows.append([f"`{name}`", *steps, *(terms or [words.MISSING] * 3)])
    if not rows:
        return NOT_MEASURED
    text = (
        "The runs of the dense twin, first to last. Dice loss on training scans: mean over the "
        "first tenth of a run, the last but one, and the last. The learning rate falls to zero at "
        "the end of most runs, which alone lowers the loss; a fall before that says that longer "
        "training would still gain.\n\n"
    )
    head = ["run", "steps", "minutes", "first tenth", "last but one", "last"]
    text += table(head, rows)
    if "training" in pictures:
        text += f"\n\n![Terms of the loss over the steps]({pictures['training']})"
    return text


_FURTHER: dict[str, Callable[[Figures, dict[str, str]], str]] = {
    "Robustness": _robustness,
    "Calibration": _calibration,
    "Exits by threshold": _exits,
    "Which default is recommended": _choices,
}
"""What is written of a task beside the comparison, by its heading."""
