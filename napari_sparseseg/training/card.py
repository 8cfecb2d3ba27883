"""Model cards from evaluation figures: ``python -m napari_sparseseg.training.card``."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from napari_sparseseg.report import NOTICE
from napari_sparseseg.training.recipe import Recipe, load_recipe
from napari_sparseseg.weights import ModelInfo, find_model

_ABOUT = {
    "stp": (
        "Soft top-k token pruning with multi-layer token assembly (STP + MTA; Zhou et al., "
        "IPMI 2023, arXiv 2303.06522) in a small UNETR with 8x8x8 patches. One checkpoint "
        "serves every keep ratio: the ratio was drawn anew at each training step. Unlike the "
        "published decoder, whose image branch serves every patch and lets the network ignore "
        "its tokens, a token pruned at the first stage gets no image detail here."
    ),
    "dense": (
        "The dense twin of `brain-mr-stp`: the same network and start with nothing pruned. It "
        "is the reference for what pruning costs. The steps below tell how much training each "
        "had; `brain-mr-stp` at keep ratio 1 in its own card is a second reference, with the "
        "same weights."
    ),
}
_DATA = """\
Twenty whole-head label maps at 1 mm (SynthSeg; Billot et al., Medical Image Analysis 2023;
Apache-2.0), {held} of them held out for validation. No real scan was used for training:
every training image is synthesised from a label map (random affine and elastic deformation, a
Gaussian intensity for each tissue, bias field, blur or thick slices, noise; 70 % without the
skull), after SynthSeg. **Contrasts seen:** T1-like only (white matter brighter than grey matter,
grey matter brighter than fluid, with jitter).
"""
_LIMITS = """\
* Other contrasts (T2, FLAIR, proton density), contrast agents, tumours, lesions, surgery, and
  infants were not trained on. White-matter lesions count as white matter.
* Left and right are not told apart.
* **CSF** is all fluid around the brain, as in the training maps. FreeSurfer's label 24, against
  which `brain-t1` is measured, is a far smaller region, so this Dice is near zero by definition
  and pulls the mean over 17 structures down; the mean over the other 16 stands beside it.
* The labels of `brain-t1` were made by FreeSurfer, not by hand: the figures state agreement.
* The network works at {spacing:g} mm; finer detail is interpolated.
"""


def write_card(info: ModelInfo, chain: list[Recipe], figures: dict[str, Any], runs: Path) -> str:
    """Return the text of a model card.

    Parameters
    ----------
    info : ModelInfo
        The registered model.
    chain : list of Recipe
        The runs that it was trained in, the last one its own.
    figures : dict
        Its entry in the evaluation JSON.
    runs : Path
        Folder with the training logs, ``<run>.csv``.
    """
    recipe = chain[-1]
    parts = [
        f"# {info.name}",
        f"**{info.title}.** {_ABOUT[info.method]}",
        f"{NOTICE} {info.modality}. Licence of the weights: {info.license}.",
        f"`{info.path.name}`, {info.path.stat().st_size / 1e6:.1f} MB, sha256 `{info.sha256}`",
        "## Training data",
        _DATA.format(held=len(recipe.validation)),
        "## Recipe",
        _recipe_lines(chain, runs),
        "## Figures",
        _explain(figures),
        _ratio_table(figures["arms"]),
        "### Structure by structure",
        _structure_table(figures["arms"]),
        "## Limits",
        _LIMITS.format(spacing=info.spacing),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _recipe_lines(chain: list[Recipe], runs: Path) -> str:
    lines = []
    for run in chain:
        steps, seconds = _length(runs / f"{run.name}.csv")
        ratios = ", ".join(f"{ratio:g}" for ratio in run.keep_ratios)
        lines.append(
            f"* `{run.name}`: {steps} steps of one window, {seconds / 60:.0f} minutes on a "
            f"busy machine, keep ratio {ratios}"
        )
    recipe = chain[-1]
    config, decoder = recipe.network, recipe.network.decoder
    lines.append(
        f"* Encoder {config.depth} blocks of {config.dim}, stages after blocks "
        f"{', '.join(map(str, config.stages))}; window {'x'.join(map(str, config.window))} at "
        f"{recipe.data.spacing:g} mm; decoder {decoder.feature_size} features, finest "
        f"convolutions at stride {decoder.finest}"
    )
    lines.append(
        "* Dice + cross-entropy on soft labels, cross-entropy of the class mix of every "
        "completed token, and a listwise loss that ranks the scores by each token's share of "
        "the error (our option beside the published recipe; the straight-through gradient of "
        "soft top-k is on as published)"
    )
    lines.append(
        "* AdamW, bf16, two CPU cores; the exact settings are in "
        "`napari_sparseseg/training/recipes/`, the logs in `benchmarks/results/training/`"
    )
    return "\n".join(lines)


def _length(log: Path) -> tuple[int, float]:
    """Return the steps of a run and its seconds; the clock restarts with each resumption."""
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    clock = np.array([float(row["seconds"]) for row in rows])
    pauses = clock[:-1][np.diff(clock) < 0]
    return int(rows[-1]["step"]), float(clock[-1] + pauses.sum())


def _explain(figures: dict[str, Any]) -> str:
    validation = figures["validation"]
    return (
        f"Dice by MONAI. `brain-t1`: a real T1 scan that was never trained on; "
        "intermediate checkpoints were looked at on it, choices were made on the validation "
        "scans. "
        f"Validation: {validation['scans']} synthetic scans of {len(validation['files'])} "
        f"held-out heads, standard deviation over scans. Tokens and GMACs of `brain-t1`, counted "
        f"from what ran. Random pruning drops as many tokens; mean over its seeds. Inference in "
        f"{figures['precision']} on a CPU. Written by `make evaluate`."
    )


def _ratio_table(arms: list[dict[str, Any]]) -> str:
    lines = [
        "| keep ratio | sparsifier | tokens kept / pruned / air | GMACs | brain-t1, 17 | "
        "brain-t1, 16 without CSF | validation, 17 |",
        "|---|---|---|---|---|---|---|",
    ]
    for (ratio, method), group in _grouped(arms).items():
        tokens, gmacs = group[0]["tokens"], group[0]["gmacs"]
        real = np.mean([a["brain-t1"]["mean"] for a in group])
        without = np.mean([_without_csf(a["brain-t1"]) for a in group])
        held = np.mean([a["validation"]["mean"] for a in group])
        spread = np.mean([a["validation"]["sd_over_scans"] for a in group])
        lines.append(
            f"| {ratio:g} | {method} | {tokens['kept']} / {tokens['pruned']} / {tokens['air']} | "
            f"{gmacs['run']:.1f} of {gmacs['dense']:.1f} | {real:.3f} | {without:.3f} | "
            f"{held:.3f} ± {spread:.3f} |"
        )
    return "\n".join(lines)


def _structure_table(arms: list[dict[str, Any]]) -> str:
    groups = _grouped(arms)
    shown = [key for key in groups if key[0] in (1.0, 0.5, 0.1)]
    columns = [
        (f"{test} {method} {ratio:g}", test, (ratio, method))
        for test in ("brain-t1", "validation")
        for ratio, method in shown
    ]
    lines = [
        "| structure | " + " | ".join(title for title, _, _ in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name in arms[0]["brain-t1"]["structures"]:
        cells = [
            f"{np.mean([a[test]['structures'][name] for a in groups[key]]):.3f}"
            for _, test, key in columns
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _grouped(arms: list[dict[str, Any]]) -> dict[tuple[float, str], list[dict[str, Any]]]:
    groups: dict[tuple[float, str], list[dict[str, Any]]] = {}
    for arm in arms:
        groups.setdefault((arm["keep_ratio"], arm["sparsifier"]), []).append(arm)
    return groups


def _without_csf(summary: dict[str, Any]) -> float:
    return float(np.mean([v for k, v in summary["structures"].items() if k != "CSF"]))


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
    figures = {m["model"]: m for m in json.loads(results.read_text())["models"]}
    for path in recipes:
        chain = _chain(path)
        info = find_model(chain[-1].name)
        text = write_card(info, chain, figures[info.name], logs)
        (info.path.parent / info.card).write_text(text)


if __name__ == "__main__":
    typer.run(main)
