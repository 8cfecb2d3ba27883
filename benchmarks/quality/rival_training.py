"""Training of the networks from outside: ``python -m benchmarks.quality.rival_training``.

A run resumes from its checkpoint; every step seeds its own draws, so that an interrupted run ends
with the weights of one that was not.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks.quality.cases import FOLDERS
from benchmarks.quality.rivals import RIVALS, window_of
from benchmarks.quality.runs import RECIPES
from napari_sparseseg.devices import resolve_device
from napari_sparseseg.training.checkpoint import (
    CHECKPOINT,
    load_checkpoint,
    save_checkpoint,
)
from napari_sparseseg.training.log import open_log, write_row
from napari_sparseseg.training.loop import reduced_precision
from napari_sparseseg.training.losses import (
    LossWeights,
    soft_labels,
    update_balance,
    voxel_losses,
)
from napari_sparseseg.training.recipe import OptimiserConfig, Recipe, load_recipe
from napari_sparseseg.training.run import learning_rate
from napari_sparseseg.training.source import Sample, Source

_COLUMNS = ("step", "seconds", "rate", "loss", "dice", "cross_entropy")


def data_recipe(task: str) -> Recipe:
    """Return the recipe of a task's dense twin, whose data its rivals learn from."""
    return load_recipe(RECIPES / f"{task}-dense.toml")


@dataclass
class RivalRun:
    """The state of a run.

    Attributes
    ----------
    network : nn.Module
        The network.
    average : AveragedModel
        The exponential average of its weights, which is what is measured.
    optimiser : torch.optim.Optimizer
        AdamW.
    config : OptimiserConfig
        Its schedule.
    balance : Tensor
        ``(classes,)`` weight of each class in the cross-entropy; follows the samples.
    step : int
        Steps done.
    """

    network: nn.Module
    average: AveragedModel
    optimiser: torch.optim.Optimizer
    config: OptimiserConfig
    balance: Tensor
    step: int = 0

    @classmethod
    def create(
        cls, network: nn.Module, classes: int, config: OptimiserConfig, device: str
    ) -> RivalRun:
        """Begin a run at step 0."""
        network.to(device)
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.average))
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=config.rate, weight_decay=1e-5, fused=True
        )
        return cls(network, average, optimiser, config, torch.ones(classes, device=device))

    def save(self, path: Path) -> None:
        """Write the whole state."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "balance": self.balance,
            "step": self.step,
        }
        save_checkpoint(state, path)

    def resume(self, path: Path) -> None:
        """Go on from a state that :meth:`save` wrote."""
        state = load_checkpoint(path)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.balance.copy_(state["balance"])
        self.step = int(state["step"])


def step(run: RivalRun, sample: Sample) -> dict[str, float]:
    """Do one optimiser step on one window; return the terms of the loss."""
    rate = learning_rate(run.config, run.step)
    for group in run.optimiser.param_groups:
        group["lr"] = rate
    window = sample.image.contiguous(memory_format=torch.channels_last_3d)
    place = window.device.type
    with torch.autocast(place, dtype=torch.bfloat16, enabled=reduced_precision(place)):
        logits = run.network(window)
    target = soft_labels(sample.subvoxels.flatten(1)[:, None], len(run.balance))
    update_balance(run.balance, target.mean(dim=(1, 2)), LossWeights.balance)
    dice, entropy = window_losses(logits, target, run.balance)
    loss = dice + entropy
    run.optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(run.network.parameters(), 1.0)
    run.optimiser.step()
    run.average.update_parameters(run.network)
    run.step += 1
    return {
        "rate": rate,
        "loss": float(loss.detach()),
        "dice": float(dice.detach()),
        "cross_entropy": float(entropy.detach()),
    }


def window_losses(logits: Tensor, target: Tensor, balance: Tensor) -> tuple[Tensor, Tensor]:
    """Return Dice loss and cross-entropy of a whole window, as our networks get them on tokens.

    Parameters
    ----------
    logits : Tensor
        ``(1, classes, x, y, z)``.
    target : Tensor
        ``(classes, 1, voxels)`` shares.
    balance : Tensor
        ``(classes,)`` weight of each class in the cross-entropy.
    """
    scores = logits[0].flatten(1)[:, None].float()
    dice, entropy, _ = voxel_losses(scores, target, balance)
    return dice, entropy


def train(run: RivalRun, source: Source, folder: Path, *, save_every: int) -> None:
    """Train until the steps are done; write ``checkpoint.safetensors`` and ``log.csv``."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.csv"
    open_log(log, _COLUMNS, run.step)
    start = time.monotonic()
    run.network.train()
    while run.step < run.config.steps:
        seed, own = np.random.SeedSequence([7, run.step]).generate_state(2)
        torch.manual_seed(int(own))
        source.seed(int(seed))
        values = step(run, source.draw())
        if run.step % 10 == 0:
            cells = {"step": run.step, "seconds": time.monotonic() - start, **values}
            write_row(log, [f"{cells[name]:.6g}" for name in _COLUMNS])
        if run.step % save_every == 0:
            run.save(folder / CHECKPOINT)
    run.save(folder / CHECKPOINT)


def main(
    task: Annotated[str, typer.Argument(help=f"One of {', '.join(FOLDERS)}.")],
    name: Annotated[str, typer.Argument(help="monai-unetr or monai-dynunet.")],
    data: Annotated[Path, typer.Option(help="Folder of all data sets.")],
    runs: Annotated[Path, typer.Option(help="Folder for runs; this one is TASK-NAME.")],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 = all.")] = 0,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 100,
) -> None:
    """Train a rival on a task; the same command again goes on from its checkpoint."""
    if threads:
        torch.set_num_threads(threads)
    device = resolve_device(device)
    recipe, rival, folder = data_recipe(task), RIVALS[name], runs / f"{task}-{name}"
    torch.manual_seed(0)
    classes, window = recipe.network.classes, window_of(task)
    run = RivalRun.create(rival.build(classes, window), classes, rival.optimiser(task), device)
    if (folder / CHECKPOINT).exists():
        run.resume(folder / CHECKPOINT)
    source = replace(recipe.data, window=window).open(data / FOLDERS[task], device)
    train(run, source, folder, save_every=save_every)


if __name__ == "__main__":
    typer.run(main)
