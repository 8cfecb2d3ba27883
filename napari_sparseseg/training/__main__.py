"""``python -m napari_sparseseg.training RECIPE --data DIR --out DIR``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from napari_sparseseg.training.curve import draw_curve
from napari_sparseseg.training.loop import train
from napari_sparseseg.training.recipe import load_recipe
from napari_sparseseg.training.run import CHECKPOINT, Run, find_start


def main(
    recipe: Annotated[Path, typer.Argument(help="Training recipe (TOML).")],
    data: Annotated[Path, typer.Option(help="Folder of the data set.")],
    out: Annotated[
        Path,
        typer.Option(help="Folder for checkpoint, log and curve; other runs lie beside it."),
    ],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 = all.")] = 0,
    minutes: Annotated[float, typer.Option(help="Stop and save after this time.")] = 1e9,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 250,
) -> None:
    """Train a model; run the same command again to go on from its checkpoint."""
    if threads:
        torch.set_num_threads(threads)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    plan = load_recipe(recipe)
    resumed = (out / CHECKPOINT).exists()
    start = find_start(plan.start, out.parent) if plan.start and not resumed else None
    run = Run.create(plan, device, start)
    if resumed:
        run.resume(out / CHECKPOINT)
    train(run, plan.data.open(data, device), out, save_every=save_every, minutes=minutes)
    draw_curve(out / "log.csv", out / "curve.png")


if __name__ == "__main__":
    typer.run(main)
