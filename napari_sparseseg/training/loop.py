"""The training loop: resumable at any step, logged to a CSV."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from napari_sparseseg.training import losses
from napari_sparseseg.training.run import CHECKPOINT, Run, learning_rate
from napari_sparseseg.training.source import Sample, Source

TERMS = ("dice", "cross_entropy", "drawn", "token", "score", "method")
"""Terms of the loss: names in the log, and of their weights in the recipe."""
LOG_COLUMNS = ("step", "seconds", "rate", "setting", "loss", *TERMS)


def draw_setting(settings: tuple[float, ...], rng: np.random.Generator) -> float:
    """Draw a setting; the first and last are drawn twice as often as the others."""
    return float(rng.choice([*settings, settings[0], settings[-1]]))


def train(run: Run, source: Source, folder: Path, *, save_every: int, minutes: float) -> None:
    """Train until the recipe's steps are done or the minutes are over.

    Every step seeds its own draws, so a run that was interrupted ends with the same weights as
    one that was not.

    Parameters
    ----------
    run : Run
        The state; changed in place.
    source : Source
        Draws samples.
    folder : Path
        Gets ``checkpoint.pt`` and ``log.csv``.
    save_every : int
        Steps between checkpoints.
    minutes : float
        Time after which the run is saved and left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.csv"
    _open_log(log, run.step)
    start = time.monotonic()
    run.learner.train()
    while run.step < run.recipe.optimiser.steps:
        setting, samples = _draw(run, source)
        values = step(run, samples, setting)
        seconds = time.monotonic() - start
        if run.step % 10 == 0:
            rate = learning_rate(run.recipe.optimiser, run.step)
            terms = [f"{values[name]:.4f}" for name in ("loss", *TERMS)]
            _write_row(log, [run.step, round(seconds, 1), f"{rate:.2e}", setting, *terms])
        over = seconds > 60 * minutes
        if run.step % save_every == 0 or over:
            run.save(folder / CHECKPOINT)
        if over:
            return
    run.save(folder / CHECKPOINT)


def _draw(run: Run, source: Source) -> tuple[float, list[Sample]]:
    """Draw the setting and the samples of the next step, and seed what the network draws."""
    series = np.random.SeedSequence([run.recipe.seed, run.step]).generate_state(3)
    seeds = [int(seed) for seed in series]
    torch.manual_seed(seeds[0])
    source.seed(seeds[1])
    setting = draw_setting(run.recipe.settings, np.random.default_rng(seeds[2]))
    return setting, [source.draw() for _ in range(run.recipe.batch)]


def step(run: Run, samples: list[Sample], setting: float) -> dict[str, float]:
    """Do one optimiser step; return the terms of the loss.

    Parameters
    ----------
    run : Run
        Changed in place.
    samples : list of Sample
        The batch.
    setting : float
        Setting of the sparsifier in this step.
    """
    rate = learning_rate(run.recipe.optimiser, run.step)
    for group in run.optimiser.param_groups:
        group["lr"] = rate * group["factor"]
    terms = compute_losses(run, samples, setting)
    total = torch.stack([getattr(run.recipe.loss, name) * terms[name] for name in TERMS]).sum()
    run.optimiser.zero_grad()
    total.backward()
    torch.nn.utils.clip_grad_norm_(run.learner.parameters(), 1.0)
    run.optimiser.step()
    run.average.update_parameters(run.learner)
    run.step += 1
    return {"loss": float(total.detach())} | {k: float(v.detach()) for k, v in terms.items()}


def compute_losses(run: Run, samples: list[Sample], setting: float) -> dict[str, Tensor]:
    """Run the network on a batch and compute every term of the loss."""
    network, config, parts = run.learner.network, run.recipe.network, run.recipe.loss
    windows = torch.cat([s.image for s in samples])
    device = windows.device.type
    air = network.find_air(windows)
    if float(torch.rand(())) < run.recipe.air_share:
        air = torch.zeros_like(air)
    with torch.autocast(device, dtype=torch.bfloat16, enabled=reduced_precision(device)):
        output = network.finish(network.prepare(windows, air), setting)
        layout = output.encoded.layout
        predicted = run.learner.token_head(output.completed[layout.rows])
    subvoxels = torch.stack([s.subvoxels for s in samples])
    target = losses.soft_labels(
        losses.to_patches(subvoxels, layout.cells, config.patch), config.classes
    )
    _update_balance(run.balance, target, parts.balance)
    dice, entropy, p = losses.voxel_losses(_classes_first(output.scores), target, run.balance)
    drawn = score = torch.zeros((), device=windows.device)
    if parts.drawn and output.drawn is not None:
        drawn = torch.stack(
            losses.voxel_losses(_classes_first(output.drawn), target, run.balance)[:2]
        ).sum()
    if parts.score:
        score = losses.score_loss(output.encoded, losses.expected_error_share(p, target))
    return {
        "dice": dice,
        "cross_entropy": entropy,
        "drawn": drawn,
        "token": losses.token_loss(predicted.float(), target, run.balance),
        "score": score,
        "method": network.sparsifier.loss(output.encoded, target.mean(dim=2).T),
    }


def _classes_first(scores: Tensor) -> Tensor:
    """Turn ``(tokens, voxels, classes)`` scores into float32 ``(classes, tokens, voxels)``."""
    return scores.permute(2, 0, 1).float().contiguous()


def reduced_precision(device: str) -> bool:
    """Whether this device gains from bfloat16: CUDA, or a CPU with bf16 matrix units."""
    return device == "cuda" or torch.backends.mkldnn.is_available()


def _update_balance(balance: Tensor, target: Tensor, power: float) -> None:
    """Follow the class frequencies of the samples, to the power of minus ``power``."""
    fresh = target.mean(dim=(1, 2)).clamp_min(1e-4) ** -power
    balance.lerp_(fresh / fresh.mean(), 0.02)


def _open_log(path: Path, step: int) -> None:
    """Begin a log, or cut off what an interrupted run wrote behind its last checkpoint."""
    rows = [list(LOG_COLUMNS)]
    if path.exists():
        with path.open(newline="") as file:
            rows += [row for row in list(csv.reader(file))[1:] if int(row[0]) <= step]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def _write_row(path: Path, cells: list[object]) -> None:
    with path.open("a", newline="") as file:
        csv.writer(file).writerow(cells)
