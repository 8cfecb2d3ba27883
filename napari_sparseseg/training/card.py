"""Model cards from evaluation figures: ``python -m napari_sparseseg.training.card``."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from napari_sparseseg.methods import METHODS
from napari_sparseseg.report import NOTICE
from napari_sparseseg.training import heads_page, scans_page
from napari_sparseseg.training.losses import LossWeights
from napari_sparseseg.training.recipe import Recipe, load_recipe
from napari_sparseseg.training.synthesis import SynthesisConfig
from napari_sparseseg.weights import ModelInfo, find_model

_COMPLETIONS = {
    "assembly": "Multi-layer token assembly (MTA) rebuilds the full token map for the decoder.",
    "mask": "A learned mask token stands for every pruned token; the completion fills them in.",
    "preserve": "Tokens that do not go on keep the features that they have; the decoder's skips "
    "are the token maps of the stages.",
}
_LOSSES = {
    "dice": "Dice",
    "cross_entropy": "cross-entropy on soft labels",
    "drawn": "both of these for the patch-wise head alone, on every patch",
    "token": "cross-entropy of the class mix of every completed token",
    "score": "a listwise loss that ranks the scores by each token's share of the error (our option "
    "beside the published recipe; the straight-through gradient of soft top-k is on as published)",
    "method": "the method's own published loss",
}


def write_card(info: ModelInfo, chain: list[Recipe], results: dict[str, Any], logs: Path) -> str:
    """Return the text of a model card.

    Parameters
    ----------
    info : ModelInfo
        The registered model.
    chain : list of Recipe
        The runs that it was trained in, the last one its own.
    results : dict
        The evaluation JSON that holds its figures.
    logs : Path
        Folder with the training logs, ``<run>.csv``.
    """
    recipe = chain[-1]
    if isinstance(recipe.data, SynthesisConfig):
        cases = {"val": len(recipe.data.validation)}
        figures = heads_page.figures(info.name, results)
    else:
        cases = results["cases"]
        figures = scans_page.figures(info.name, results)
    limits = f"{recipe.task.limits}* The network works at {info.spacing:g} mm; finer detail is "
    parts = [
        f"# {info.name}",
        f"**{info.title}.** {_about(chain)}",
        f"{NOTICE} {info.modality}. Licence of the weights: {info.license}.",
        f"`{info.path.name}`, {info.path.stat().st_size / 1e6:.1f} MB, sha256 `{info.sha256}`",
        "## Training data",
        recipe.task.data.format(**cases),
        "## Recipe",
        _recipe_lines(chain, logs),
        "## Figures",
        figures,
        "## Limits",
        limits + "interpolated.",
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _about(chain: list[Recipe]) -> str:
    """Say what the model does, from its method and its architecture."""
    recipe = chain[-1]
    network, method = recipe.network, METHODS[recipe.network.sparsifier]
    said = [method.about]
    if method.source:
        said.append(f"After {method.source}, in a small UNETR with patches of 8x8x8 voxels.")
    if method.control:
        said.append(_COMPLETIONS[network.completion.kind])
        said.append(
            f"One checkpoint serves every {method.control.name}: it was drawn anew at each "
            "training step."
        )
    if network.decoder.detail == "open":
        said.append(
            "Unlike the published decoder, whose image branch serves every patch and lets the "
            "network ignore its tokens, a token pruned at the first stage gets no image detail "
            "here."
        )
    return " ".join(said)


def _recipe_lines(chain: list[Recipe], logs: Path) -> str:
    lines = []
    for run in chain:
        steps, seconds = _length(logs / f"{run.name}.csv")
        control = METHODS[run.network.sparsifier].control
        drawn = ", ".join(f"{setting:g}" for setting in run.settings)
        windows = "one window" if run.batch == 1 else f"{run.batch} windows"
        lines.append(
            f"* `{run.name}`: {steps} steps of {windows}, {seconds / 60:.0f} minutes on a busy "
            f"machine, {f'{control.name} {drawn}' if control else 'nothing pruned'}"
        )
    recipe = chain[-1]
    config, decoder = recipe.network, recipe.network.decoder
    lines.append(
        f"* Encoder {config.depth} blocks of {config.dim}, stages after blocks "
        f"{', '.join(map(str, config.stages))}; window {'x'.join(map(str, config.window))} at "
        f"{recipe.data.spacing:g} mm; decoder {decoder.feature_size} features, finest "
        f"convolutions at stride {decoder.finest}"
    )
    if config.options:
        options = ", ".join(f"`{name} = {value}`" for name, value in config.options.items())
        lines.append(f"* Beyond the paper, an option of the sparsifier: {options}")
    lines.append(f"* {_losses(recipe.loss, logs / f'{recipe.name}.csv')}")
    lines.append(
        "* AdamW, bf16, CPU; the exact settings are in "
        "`napari_sparseseg/training/recipes/`, the logs in `benchmarks/results/training/`"
    )
    return "\n".join(lines)


def _losses(weights: LossWeights, log: Path) -> str:
    """Name the terms of the loss that counted."""
    rows = _read_log(log)
    counted = [
        words
        for term, words in _LOSSES.items()
        if getattr(weights, term) and any(float(row.get(term, 0)) for row in rows)
    ]
    return " + ".join(counted)


def _length(log: Path) -> tuple[int, float]:
    """Return the steps of a run and its seconds; the clock restarts with each resumption."""
    rows = _read_log(log)
    clock = np.array([float(row["seconds"]) for row in rows])
    pauses = clock[:-1][np.diff(clock) < 0]
    return int(rows[-1]["step"]), float(clock[-1] + pauses.sum())


def _read_log(log: Path) -> list[dict[str, str]]:
    with log.open(newline="") as file:
        return list(csv.DictReader(file))


def _chain(path: Path) -> list[Recipe]:
    """Return the recipes of a model's runs, first to last; they lie side by side."""
    recipe = load_recipe(path)
    earlier = _chain(path.parent / f"{recipe.start}.toml") if recipe.start else []
    return [*earlier, recipe]


def main(
    recipes: Annotated[list[Path], typer.Argument(help="Recipes of the registered models.")],
    results: Annotated[Path, typer.Option(help="JSON of the evaluation.")],
    logs: Annotated[Path, typer.Option(help="Folder with the training logs.")],
) -> None:
    """Write the card of each model beside its weights."""
    measured = json.loads(results.read_text())
    for path in recipes:
        chain = _chain(path)
        info = find_model(chain[-1].name)
        (info.path.parent / info.card).write_text(write_card(info, chain, measured, logs))


if __name__ == "__main__":
    typer.run(main)
