"""Model files from training checkpoints: ``python -m napari_sparseseg.training.export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from napari_sparseseg.training.anatomy import STRUCTURES
from napari_sparseseg.training.recipe import Recipe, load_recipe
from napari_sparseseg.weights import ModelInfo, register_model, save_model

COLORS = (
    "#000000", "#f2f2f2", "#cd6d4f", "#7a3fd1", "#e8d9a0", "#e0954a", "#1fa35c",
    "#66b2ff", "#ff5fa2", "#2c6bd6", "#d23be0", "#9c5cff", "#a8a8a8", "#ffd92e",
    "#37d0d0", "#ff9d00", "#8f7a45", "#4653c4",
)  # fmt: skip
"""One colour a class, background first; neighbours in the brain differ in hue."""

TITLES = {
    "brain-mr-stp": "Whole brain MR, soft top-k pruning (STP + MTA)",
    "brain-mr-dense": "Whole brain MR, dense twin",
}


def averaged_weights(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """Return the averaged network weights of a checkpoint."""
    prefix = "module.network."
    return {
        key.removeprefix(prefix): value
        for key, value in checkpoint["average"].items()
        if key.startswith(prefix)
    }


def export(recipe: Recipe, checkpoint: Path, folder: Path, default_keep_ratio: float) -> ModelInfo:
    """Write the model file of a checkpoint and enter it into the index.

    Parameters
    ----------
    recipe : Recipe
        What was trained.
    checkpoint : Path
        ``checkpoint.pt`` of the run.
    folder : Path
        The registry.
    default_keep_ratio : float
        Keep ratio that users start with.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    info = ModelInfo(
        name=recipe.name,
        title=TITLES.get(recipe.name, recipe.name),
        method=recipe.network.sparsifier,
        modality="T1-weighted MR of the head, with or without the skull",
        spacing=recipe.data.spacing,
        classes=tuple(STRUCTURES),
        colors=COLORS,
        default_keep_ratio=default_keep_ratio,
        network=recipe.network.to_dict(),
        license="Apache-2.0",
        path=folder / f"{recipe.name}.safetensors",
        card=f"{recipe.name}.md",
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_model(averaged_weights(state), info)
    register_model(info)
    return info


def main(
    recipes: Annotated[list[Path], typer.Argument(help="Recipes of finished runs.")],
    runs: Annotated[Path, typer.Option(help="Folder with a folder for each run.")],
    weights: Annotated[Path, typer.Option(help="The registry.")],
    keep_ratio: Annotated[float, typer.Option(help="Keep ratio that users start with.")] = 0.5,
) -> None:
    """Export the averaged weights of runs and enter them into the index."""
    for path in recipes:
        recipe = load_recipe(path)
        start = 1.0 if recipe.network.sparsifier == "dense" else keep_ratio
        export(recipe, runs / recipe.name / "checkpoint.pt", weights, start)


if __name__ == "__main__":
    typer.run(main)
