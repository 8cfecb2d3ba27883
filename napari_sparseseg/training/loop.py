"""The training loop: resumable at any step, logged to a CSV."""

from __future__ import annotations

import csv
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from napari_sparseseg.network import SparseUNETR
from napari_sparseseg.training import losses
from napari_sparseseg.training.recipe import OptimiserConfig, Recipe
from napari_sparseseg.training.synthesis import Sample, Synthesiser

LOG_COLUMNS = ("step", "seconds", "rate", "loss", "dice", "cross_entropy", "token", "score")


class Learner(nn.Module):
    """A network with the token head that only training needs.

    Parameters
    ----------
    network : SparseUNETR
        The network to train.
    """

    def __init__(self, network: SparseUNETR) -> None:
        super().__init__()
        self.network = network
        self.token_head = nn.Linear(network.config.dim, network.config.classes)


@dataclass
class Run:
    """The state of a training run.

    Attributes
    ----------
    recipe : Recipe
        What is trained.
    learner : Learner
        The weights.
    average : AveragedModel
        Their exponential average.
    optimiser : torch.optim.Optimizer
        AdamW.
    step : int
        Steps done.
    """

    recipe: Recipe
    learner: Learner
    average: AveragedModel
    optimiser: torch.optim.Optimizer
    step: int = 0

    @classmethod
    def create(cls, recipe: Recipe, device: str, start: Path | None = None) -> Run:
        """Build a run at step 0, from scratch or from the checkpoint of another run."""
        torch.manual_seed(recipe.seed)
        learner = Learner(SparseUNETR(recipe.network))
        if start is not None:
            saved = torch.load(start, map_location="cpu", weights_only=True)
            _load_shared(learner, saved["learner"])
        if recipe.copy_groups:
            learner.network.completion.start_from_last_group()
        learner.to(device)
        learner.network.channels_last()
        average = AveragedModel(
            learner, multi_avg_fn=get_ema_multi_avg_fn(recipe.optimiser.average)
        )
        return cls(recipe, learner, average, _optimiser(learner, recipe.optimiser))

    def save(self, path: Path) -> None:
        """Write the whole state; the old file stays until the new one is complete."""
        state = {
            "learner": self.learner.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }
        temporary = path.with_suffix(".partial")
        torch.save(state, temporary)
        os.replace(temporary, path)

    def resume(self, path: Path) -> None:
        """Continue from a state that :meth:`save` wrote."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.learner.load_state_dict(state["learner"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = int(state["step"])


def _load_shared(learner: Learner, weights: dict[str, Tensor]) -> None:
    """Load what both architectures have; only the sparsifier may differ."""
    missing, unexpected = learner.load_state_dict(weights, strict=False)
    foreign = [k for k in (*missing, *unexpected) if not k.startswith("network.sparsifier.")]
    if foreign:
        raise ValueError(f"the starting checkpoint has another architecture: {foreign[0]}")


def _optimiser(learner: Learner, config: OptimiserConfig) -> torch.optim.Optimizer:
    matrices = [p for p in learner.parameters() if p.ndim > 1]
    others = [p for p in learner.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.98))


def learning_rate(config: OptimiserConfig, step: int) -> float:
    """Return the rate of a step: linear warm-up, constant, cosine to zero."""
    left = (config.steps - step) / max(1, config.decay)
    fall = 0.5 * (1 - math.cos(math.pi * min(1.0, max(0.0, left))))
    return config.rate * min(1.0, (step + 1) / max(1, config.warmup)) * fall


def draw_keep_ratio(ratios: tuple[float, ...], rng: np.random.Generator) -> float:
    """Draw a keep ratio; the first and last are drawn twice as often as the others."""
    return float(rng.choice([*ratios, ratios[0], ratios[-1]]))


def train(run: Run, source: Synthesiser, folder: Path, *, save_every: int, minutes: float) -> None:
    """Train until the recipe's steps are done or the minutes are over.

    Parameters
    ----------
    run : Run
        The state; changed in place.
    source : Synthesiser
        Draws samples.
    folder : Path
        Gets ``checkpoint.pt`` and ``log.csv``.
    save_every : int
        Steps between checkpoints.
    minutes : float
        Time after which the run is saved and left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(run.recipe.seed + run.step)
    weight = torch.ones(run.recipe.network.classes, device=source.device)
    start = time.monotonic()
    run.learner.train()
    while run.step < run.recipe.optimiser.steps:
        samples = [source.draw() for _ in range(run.recipe.batch)]
        values = step(run, samples, draw_keep_ratio(run.recipe.keep_ratios, rng), weight)
        seconds = time.monotonic() - start
        if run.step % 10 == 0:
            _log(folder / "log.csv", run, seconds, values)
        over = seconds > 60 * minutes
        if run.step % save_every == 0 or over:
            run.save(folder / "checkpoint.pt")
        if over:
            return
    run.save(folder / "checkpoint.pt")


def step(run: Run, samples: list[Sample], keep_ratio: float, weight: Tensor) -> dict[str, float]:
    """Do one optimiser step; return the terms of the loss.

    Parameters
    ----------
    run : Run
        Changed in place.
    samples : list of Sample
        The batch.
    keep_ratio : float
        Keep ratio of this step.
    weight : Tensor
        ``(classes,)`` running class weights of the cross-entropy; changed in place.
    """
    rate = learning_rate(run.recipe.optimiser, run.step)
    for group in run.optimiser.param_groups:
        group["lr"] = rate
    terms = compute_losses(run, samples, keep_ratio, weight)
    parts = run.recipe.loss
    total = (
        parts.dice * terms["dice"]
        + parts.cross_entropy * terms["cross_entropy"]
        + parts.token * terms["token"]
        + parts.score * terms["score"]
    )
    run.optimiser.zero_grad()
    total.backward()
    torch.nn.utils.clip_grad_norm_(run.learner.parameters(), 1.0)
    run.optimiser.step()
    run.average.update_parameters(run.learner)
    run.step += 1
    return {"loss": float(total.detach())} | {k: float(v.detach()) for k, v in terms.items()}


def compute_losses(
    run: Run, samples: list[Sample], keep_ratio: float, weight: Tensor
) -> dict[str, Tensor]:
    """Run the network on a batch and compute every term of the loss."""
    network, config = run.learner.network, run.recipe.network
    windows = torch.cat([s.image for s in samples])
    device = windows.device.type
    with torch.autocast(device, dtype=torch.bfloat16, enabled=reduced_precision(device)):
        output = network.finish(network.prepare(windows), keep_ratio)
        layout = output.encoded.layout
        mix = run.learner.token_head(output.completed[layout.rows])
    subvoxels = torch.stack([s.subvoxels for s in samples])
    target = losses.soft_labels(
        losses.to_patches(subvoxels, layout.cells, config.patch), config.classes
    )
    logits = losses.to_patches(output.logits, layout.cells, config.patch).float()
    _update_weights(weight, target, run.recipe.loss.balance)
    dice, entropy, p = losses.voxel_losses(logits, target, weight)
    terms = {"dice": dice, "cross_entropy": entropy}
    terms["token"] = losses.token_loss(mix.float(), target, weight)
    terms["score"] = torch.zeros((), device=windows.device)
    if run.recipe.loss.score and config.sparsifier != "dense":
        share = losses.expected_error_share(p, target)
        terms["score"] = losses.score_loss(output.encoded, share)
    return terms


def reduced_precision(device: str) -> bool:
    """Whether this device gains from bfloat16: CUDA, or a CPU with bf16 matrix units."""
    return device == "cuda" or torch.backends.mkldnn.is_available()


def _update_weights(weight: Tensor, target: Tensor, balance: float) -> None:
    """Follow the class frequencies of the samples, to the power of minus ``balance``."""
    fresh = target.mean(dim=(1, 2)).clamp_min(1e-4) ** -balance
    weight.lerp_(fresh / fresh.mean(), 0.02)


def _log(path: Path, run: Run, seconds: float, values: dict[str, float]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(LOG_COLUMNS)
        rate = learning_rate(run.recipe.optimiser, run.step)
        cells = [run.step, round(seconds, 1), f"{rate:.2e}"]
        writer.writerow(cells + [f"{values[k]:.4f}" for k in LOG_COLUMNS[3:]])
