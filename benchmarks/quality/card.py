"""Model cards: facts from recipes and training logs, figures from the measurements."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.quality import parts, tables, words
from benchmarks.quality.figures import Figures, Model
from benchmarks.quality.findings import recommended
from benchmarks.quality.runs import RECIPES, chain, length, read_log
from benchmarks.quality.sections import PAGE, data_text, measured_text
from napari_sparseseg.methods import METHODS
from napari_sparseseg.report import NOTICE
from napari_sparseseg.training.losses import LossWeights
from napari_sparseseg.training.recipe import Recipe
from napari_sparseseg.weights import ModelInfo, models, weights_checksum

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
_EXPLAINED = (
    "Mean over structures, then mean ± standard deviation over scans; median differences in points "
    "with p of the two-sided Wilcoxon signed-rank test, not corrected; a star: survives Holm's "
    f"correction. More on each figure, and every method side by side: docs/{PAGE}."
)


def write_cards(every: Sequence[Figures], logs: Path) -> list[str]:
    """Write the card of each measured model beside its weights.

    A card states the figures of the very weights that it lies beside: where others are registered
    now, or none, nothing is written.

    Parameters
    ----------
    every : sequence of Figures
        The tasks that were measured.
    logs : Path
        Folder with the training logs, ``<run>.csv``.

    Returns
    -------
    list of str
        Names of the models.
    """
    registered = {info.name: info for info in models()}
    written = []
    for figures in every:
        for model in figures.models:
            info = registered.get(model.name)
            if info and weights_checksum(info.path) == model.data["weights_sha256"]:
                recipes = chain(RECIPES / f"{model.name}.toml")
                text = make_card(info, model, recipes, figures, logs)
                (info.path.parent / info.card).write_text(text)
                written.append(model.name)
    return written


def make_card(
    info: ModelInfo, model: Model, recipes: list[Recipe], figures: Figures, logs: Path
) -> str:
    """Return the text of a model card.

    Parameters
    ----------
    info : ModelInfo
        The registered model.
    model : Model
        What was measured of it.
    recipes : list of Recipe
        The runs that it was trained in, the last one its own.
    figures : Figures
        What was measured of its task.
    logs : Path
        Folder with the training logs, ``<run>.csv``.
    """
    limits = (
        f"{recipes[-1].task.limits}* The network works at {info.spacing:g} mm; finer detail is "
    )
    text = [
        f"# {info.name}",
        f"**{info.title}.** {_about(recipes)}",
        f"{NOTICE} {info.modality}. Licence of the weights: {info.license}.",
        f"`{info.path.name}`, {info.path.stat().st_size / 1e6:.1f} MB, sha256 `{info.sha256}`",
        "## Training data",
        data_text(figures),
        "## Recipe",
        _recipe_lines(recipes, logs),
        "## Figures",
        _figures(model, figures),
        "## Limits",
        limits + "interpolated.",
    ]
    return "\n\n".join(part.strip() for part in text) + "\n"


def _figures(model: Model, figures: Figures) -> str:
    text = [measured_text(figures), _EXPLAINED]
    for where in figures.places:
        text += [
            f"### By ratio: {figures.title(where)}",
            tables.cost_table(figures, [model], where),
            tables.quality_table(figures, [model], where),
        ]
    if model.arms("test", "truncated") or model.arms("test", "none"):
        text += [
            "### With the encoder cut short or left out",
            tables.control_table([model], "test"),
        ]
    where = figures.places[0]
    every = tables.ours(figures, where, [model])
    if every:
        text += ["### Structure by structure: Dice", tables.class_table(figures, every, "dice")]
        text += ["HD95, mm:", tables.class_table(figures, every, "hd95")]
    return "\n\n".join([*text, *_trust(figures, model)])


def _trust(figures: Figures, model: Model) -> list[str]:
    """Return calibration, exits and the recommended default, each if it was measured."""
    text = []
    found = figures.part("calibration").get(model.name)
    if found:
        share = words.percent(found["errors"]["wrong_among_least_confident_10_percent"])
        text.append(
            "**Calibration** on the validation set: expected calibration error "
            f"{found['ece']:.3f}; {share} of the errors lie among the least confident 10 % of the "
            "voxels."
        )
    exits = figures.part("exits").get(model.name)
    if exits:
        chosen = figures.part("chosen").get(model.name, {}).get("setting")
        text += ["### Exits on the validation set", parts.exit_table(exits, chosen)]
    advice = recommended(figures, model) if model.sparse else ""
    return [*text, f"**Recommended.** {advice}"] if advice else text


def _about(recipes: list[Recipe]) -> str:
    """Say what the model does, from its method and its architecture."""
    recipe = recipes[-1]
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


def _recipe_lines(recipes: list[Recipe], logs: Path) -> str:
    lines = []
    for run in recipes:
        found = length(logs / f"{run.name}.csv")
        control = METHODS[run.network.sparsifier].control
        drawn = ", ".join(f"{setting:g}" for setting in run.settings)
        windows = "one window" if run.batch == 1 else f"{run.batch} windows"
        took = (
            f"{found[0]} steps of {windows}, {found[1] / 60:.0f} minutes on a busy machine"
            if found
            else f"steps of {windows}, length not recorded"
        )
        pruned = f"{control.name} {drawn}" if control else "nothing pruned"
        lines.append(f"* `{run.name}`: {took}, {pruned}")
    recipe = recipes[-1]
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
    lines.append(f"* Loss: {_losses(recipe.loss, logs / f'{recipe.name}.csv')}")
    lines.append(
        "* AdamW, bf16, CPU; the exact settings are in "
        "`napari_sparseseg/training/recipes/`, the logs in `benchmarks/results/training/`"
    )
    return "\n".join(lines)


def _losses(weights: LossWeights, log: Path) -> str:
    """Name the terms of the loss that counted."""
    rows = read_log(log)
    counted = [
        title
        for term, title in _LOSSES.items()
        if getattr(weights, term) and any(float(row.get(term, 0)) for row in rows)
    ]
    return " + ".join(counted) or "not recorded"
