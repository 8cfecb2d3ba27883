"""``python -m napari_sparseseg.training RECIPE --data DIR --out DIR``.

On several processes: ``torchrun --nproc-per-node N -m napari_sparseseg.training ...``. What a user
can put right ends in one line on the standard error and exit code 2.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import torch
import typer

from napari_sparseseg.errors import SparseSegError
from napari_sparseseg.training.checkpoint import CHECKPOINT
from napari_sparseseg.training.curve import draw_curve
from napari_sparseseg.training.distributed import joined
from napari_sparseseg.training.loop import train
from napari_sparseseg.training.recipe import load_recipe
from napari_sparseseg.training.run import Run, find_start


def main(
    recipe: Annotated[Path, typer.Argument(help="Training recipe (TOML).")],
    data: Annotated[Path, typer.Option(help="Folder of the data set.")],
    out: Annotated[
        Path,
        typer.Option(help="Folder for checkpoint, log and curve; other runs lie beside it."),
    ],
    device: Annotated[
        str, typer.Option(help="auto, cpu or cuda; with several processes a GPU for each.")
    ] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads of a process; 0 = all.")] = 0,
    minutes: Annotated[float, typer.Option(help="Stop and save after this time.")] = 1e9,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 250,
) -> None:
    """Train a model; run the same command again to go on from its checkpoint."""
    if threads:
        torch.set_num_threads(threads)
    with joined(device) as (group, place):
        plan = load_recipe(recipe)
        resumed = (out / CHECKPOINT).exists()
        start = find_start(plan.start, out.parent) if plan.start and not resumed else None
        run = Run.create(plan, place, start)
        if resumed:
            run.resume(out / CHECKPOINT)
        source = plan.data.open(data, place)
        train(run, source, out, save_every=save_every, minutes=minutes, group=group)
        if group.leads:
            draw_curve(out / "log.csv", out / "curve.png")


if __name__ == "__main__":
    try:
        typer.run(main)
    except SparseSegError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
