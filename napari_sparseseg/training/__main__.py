"""``python -m napari_sparseseg.training RECIPE --data DIR --out DIR``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from napari_sparseseg.training.anatomy import load_anatomy
from napari_sparseseg.training.curve import draw_curve
from napari_sparseseg.training.loop import Run, train
from napari_sparseseg.training.recipe import load_recipe
from napari_sparseseg.training.synthesis import Synthesiser


def main(
    recipe: Annotated[Path, typer.Argument(help="Training recipe (TOML).")],
    data: Annotated[Path, typer.Option(help="Folder with the label maps.")],
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
    files = [f for f in sorted(data.glob("*.nii.gz")) if not _held_out(f, plan.validation)]
    start = out.parent / plan.start / "checkpoint.pt" if plan.start else None
    run = Run.create(plan, device, start)
    if (out / "checkpoint.pt").exists():
        run.resume(out / "checkpoint.pt")
    source = Synthesiser(load_anatomy(files), plan.data, plan.seed + run.step, device)
    train(run, source, out, save_every=save_every, minutes=minutes)
    draw_curve(out / "log.csv", out / "curve.png")


def _held_out(file: Path, names: tuple[str, ...]) -> bool:
    return any(name in file.name for name in names)


if __name__ == "__main__":
    typer.run(main)
