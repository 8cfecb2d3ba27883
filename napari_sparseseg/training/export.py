"""Model files from training checkpoints: ``python -m napari_sparseseg.training.export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_sparseseg.methods import METHODS
from napari_sparseseg.training.checkpoint import CHECKPOINT, load_checkpoint
from napari_sparseseg.training.recipe import Recipe, load_recipe
from napari_sparseseg.training.run import averaged_weights
from napari_sparseseg.weights import ModelInfo, register_model, save_model


def export(recipe: Recipe, checkpoint: Path, folder: Path) -> ModelInfo:
    """Write the model file of a checkpoint and enter it into the index.

    Parameters
    ----------
    recipe : Recipe
        What was trained.
    checkpoint : Path
        ``checkpoint.safetensors`` of the run.
    folder : Path
        The registry.
    """
    task, method = recipe.task, METHODS[recipe.network.sparsifier]
    info = ModelInfo(
        name=recipe.name,
        title=f"{task.title}, {recipe.variant or method.title}",
        method=method.name,
        modality=task.modality,
        spacing=recipe.data.spacing,
        classes=task.classes,
        colors=task.colors,
        default_setting=recipe.default,
        network=recipe.network.to_dict(),
        license=task.license,
        path=folder / f"{recipe.name}.safetensors",
        card=f"{recipe.name}.md",
        intensity=recipe.data.intensity,
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_model(averaged_weights(load_checkpoint(checkpoint), "network"), info)
    register_model(info)
    return info


def main(
    recipes: Annotated[list[Path], typer.Argument(help="Recipes of finished runs.")],
    runs: Annotated[Path, typer.Option(help="Folder with a folder for each run.")],
    weights: Annotated[Path, typer.Option(help="The registry.")],
) -> None:
    """Export the averaged weights of runs and enter them into the index."""
    for path in recipes:
        recipe = load_recipe(path)
        checkpoint = runs / recipe.name / CHECKPOINT
        if checkpoint.exists():
            export(recipe, checkpoint, weights)
        else:  # shipped from an earlier run, or not trained yet
            typer.echo(f"{recipe.name}: there is no such run in {runs}; left as it is")


if __name__ == "__main__":
    typer.run(main)
