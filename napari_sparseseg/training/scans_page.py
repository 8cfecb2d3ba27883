"""The figures on real scans as tables and sentences, for the cards and for a page of their own.

``python -m napari_sparseseg.training.scans_page`` writes the page.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_sparseseg.methods import METHODS
from napari_sparseseg.training.tables import line, rule, token_counts
from napari_sparseseg.training.tasks import TASKS

Figures = dict[str, Any]
"""JSON data of ``evaluate_scans``."""
_AS_GOOD = 0.005


def write_page(results: Figures) -> str:
    """Return the page of a task.

    Parameters
    ----------
    results : dict
        What ``evaluate_scans`` measured.
    """
    task, models = TASKS[results["task"]], results["models"]
    parts = [
        f"# {task.title}: every method beside its controls",
        task.data.format(**results["cases"]),
        explain(results),
        task.reference + " " + _dense_twin(models),
        stakes(models),
        "## Methods by ratio",
        ratio_table(models),
        verdicts(models),
        "## Controls without a setting",
        "`truncated` ends the encoder at the first stage, `none` runs no encoder block. Beside "
        "each model, they take the place of its sparsifier without further training; the models "
        "of that name were trained with them for as many steps as the others.",
        control_table(models),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def figures(name: str, results: Figures) -> str:
    """Return what was measured of one model, for its card."""
    models = [model for model in results["models"] if model["model"] == name]
    parts = [
        explain(results),
        TASKS[results["task"]].reference + " " + _dense_twin(results["models"]),
        ratio_table(models),
        verdicts(models),
        control_table(models),
    ]
    return "\n\n".join(part.strip() for part in parts if part.strip())


def explain(results: Figures) -> str:
    """Return how the figures were made."""
    cases, models = results["cases"], results["models"]
    return (
        f"Dice by MONAI on the {cases['test']} test scans, mean ± standard deviation over "
        "scans, from the segmentation as a user gets it. Tokens and GMACs are means over "
        "scans, counted from what ran. A ratio is the share of the tokens with tissue that is to "
        "run every encoder block. For a keep ratio it is the setting itself; a threshold was "
        f"chosen on the {cases['val']} validation scans so that the mean share comes nearest to "
        "the ratio. Random pruning drops as many tokens of each scan at each stage, mean over "
        f"{results['random_seeds']} seeds. Inference in {models[0]['precision']} on a CPU."
    )


def stakes(models: list[Figures]) -> str:
    """Say how much a rule can save here, and what the tokens are worth."""
    by_method = {model["method"]: model for model in models}
    if "dense" not in by_method:
        return ""
    dense = by_method["dense"]
    gmacs = dense["controls"]["none"]["gmacs"]
    reached = [("the dense twin", dense)]
    reached += [
        (f"trained with {words}", by_method[method])
        for method, words in (
            ("truncated", "an encoder that ends at the first stage"),
            ("none", "no encoder block"),
        )
        if method in by_method
    ]
    means = {model["method"]: model["rows"][0]["dice"]["mean"]["mean"] for _, model in reached}
    said = ", ".join(f"{means[model['method']]:.3f} {words}" for words, model in reached)
    text = (
        f"What is at stake: the encoder blocks are {100 * (1 - gmacs['run'] / gmacs['dense']):.0f} "
        "% of the operations on these scans; a rule that spares no decoding cannot save more. Mean "
        f"Dice: {said}."
    )
    if means.get("none", 0.0) >= means["dense"] - _AS_GOOD:
        text += (
            " Trained without any encoder block, the network is as good as the dense twin (within "
            f"{_AS_GOOD:g}): the decoder needs no more than the image and the embedded patches, so "
            "it is no merit of a rule if its pruning loses nothing here. A gain over random "
            "pruning says that the network would suffer if other tokens were chosen, not that it "
            "had to be trained to need them."
        )
    return text


def ratio_table(models: list[Figures]) -> str:
    """Return a table with a row for each model and ratio, random pruning beside it."""
    classes = _classes(models)
    head = ["model", "ratio", "setting", "tokens kept / pruned / exited", "blocks run", "GMACs"]
    head += [*classes, *(f"random: {name}" for name in classes), "gain over random (p)"]
    lines = [line(head), rule(head)]
    for model in models:
        for row in model["rows"]:
            lines.append(line(_cells(model, row, classes, len(head))))
    return "\n".join(lines)


def _cells(model: Figures, row: Figures, classes: list[str], width: int) -> list[str]:
    cells = [f"`{model['model']}`", f"{row['ratio']:g}"]
    if not row["reached"]:
        found = (
            f"not reached: the nearest share is {row['validation_share']:.2f}, at "
            f"{model['setting']} {row['setting']:.4g}"
        )
        return [*cells, found, *[""] * (width - 3)]
    setting = "–" if row["setting"] is None else f"{model['setting']} {row['setting']:.4g}"
    cells += [setting, *_counts(row), *_dice(row, classes)]
    drawn = row["random"]
    if drawn is None:
        return [*cells, *["–"] * (len(classes) + 1)]
    verdict = "" if drawn["beaten"] else ", **not beaten**"
    gain = f"{drawn['gain']:+.3f} ({drawn['p']:.2g}){verdict}"
    return [*cells, *_dice(drawn, classes), gain]


def verdicts(models: list[Figures]) -> str:
    """Say for each method at which ratios it beats random pruning, and at which it does not."""
    lines = []
    for model in models:
        compared = [row for row in model["rows"] if row["reached"] and row["random"]]
        if not compared:
            continue
        won = [f"{row['ratio']:g}" for row in compared if row["random"]["beaten"]]
        lost = [f"{row['ratio']:g}" for row in compared if not row["random"]["beaten"]]
        said = [f"beats random pruning at {_listed(won)}"] if won else []
        said += [f"does not beat random pruning at {_listed(lost)}"] if lost else []
        lines.append(f"* `{model['model']}` {' and '.join(said)}.")
    if not lines:
        return ""
    return (
        "Does the rule know anything? Mean Dice of both, scan by scan, two-sided Wilcoxon "
        "signed-rank test at 0.05, not corrected for the number of comparisons:\n\n"
        + "\n".join(lines)
    )


def control_table(models: list[Figures]) -> str:
    """Return a table of the controls that have no setting, in place of each sparsifier."""
    classes = _classes(models)
    head = ["model", "sparsifier", "tokens kept / pruned / exited", "blocks run", "GMACs", *classes]
    lines = [line(head), rule(head)]
    for model in models:
        if METHODS[model["method"]].is_control:
            named = {"its own": model["rows"][0]}
        else:
            named = model["controls"]
        for name, row in named.items():
            cells = [f"`{model['model']}`", name, *_counts(row), *_dice(row, classes)]
            lines.append(line(cells))
    return "\n".join(lines)


def _dense_twin(models: list[Figures]) -> str:
    for model in models:
        if model["method"] == "dense":
            dice = model["rows"][0]["dice"]
            return (
                "The dense twin here: "
                + ", ".join(
                    f"{dice[name]['mean']:.3f} ± {dice[name]['sd']:.3f} ({name})"
                    for name in _classes(models)
                )
                + "."
            )
    return ""


def _classes(models: list[Figures]) -> list[str]:
    return [name for name in models[0]["rows"][0]["dice"] if name != "mean"]


def _counts(row: Figures) -> list[str]:
    gmacs = row["gmacs"]
    return [
        token_counts(row["tokens"]),
        f"{100 * row['block_share']:.0f} %",
        f"{gmacs['run']:.2f} of {gmacs['dense']:.2f}",
    ]


def _dice(row: Figures, classes: list[str]) -> list[str]:
    return [f"{row['dice'][name]['mean']:.3f} ± {row['dice'][name]['sd']:.3f}" for name in classes]


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def main(
    results: Annotated[Path, typer.Argument(help="JSON of evaluate_scans.")],
    out: Annotated[Path, typer.Option(help="Page to write.")],
) -> None:
    """Write the figures of a task as a page."""
    out.write_text(write_page(json.loads(results.read_text())))


if __name__ == "__main__":
    typer.run(main)
