"""The training loop: resumable at any step, logged to a CSV, on one process or several."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from napari_sparseseg.errors import InputError
from napari_sparseseg.training import losses
from napari_sparseseg.training.checkpoint import CHECKPOINT
from napari_sparseseg.training.distributed import ALONE, Group
from napari_sparseseg.training.log import open_log, write_row
from napari_sparseseg.training.run import Run, learning_rate
from napari_sparseseg.training.source import Sample, Source

TERMS = ("dice", "cross_entropy", "drawn", "token", "score", "method")
"""Terms of the loss: names in the log, and of their weights in the recipe."""
LOG_COLUMNS = ("step", "seconds", "rate", "setting", "loss", *TERMS)


def draw_setting(settings: tuple[float, ...], rng: np.random.Generator) -> float:
    """Draw a setting; the first and last are drawn twice as often as the others."""
    return float(rng.choice([*settings, settings[0], settings[-1]]))


def train(
    run: Run,
    source: Source,
    folder: Path,
    *,
    save_every: int,
    minutes: float,
    group: Group = ALONE,
) -> None:
    """Train until the recipe's steps are done or the minutes are over.

    Every step seeds its own draws, so a run that was interrupted ends with the same weights as
    one that was not. With several processes, each draws the windows of the recipe's batch.

    Parameters
    ----------
    run : Run
        The state; changed in place.
    source : Source
        Draws samples.
    folder : Path
        Gets ``checkpoint.safetensors`` and ``log.csv``.
    save_every : int
        Steps between checkpoints.
    minutes : float
        Time after which the run is saved and left.
    group : Group
        The processes that train it; the first writes the files.

    Raises
    ------
    InputError
        If the processes begin at different steps.
    """
    _start_together(run, group)
    log = folder / "log.csv"
    if group.leads:
        folder.mkdir(parents=True, exist_ok=True)
        open_log(log, LOG_COLUMNS, run.step)
    start = time.monotonic()
    run.learner.train()
    while run.step < run.recipe.optimiser.steps:
        setting, samples = _draw(run, source, group)
        values = step(run, samples, setting, group)
        seconds = time.monotonic() - start
        if run.step % 10 == 0 and group.leads:
            rate = learning_rate(run.recipe.optimiser, run.step)
            terms = [f"{values[name]:.4f}" for name in ("loss", *TERMS)]
            write_row(log, [run.step, round(seconds, 1), f"{rate:.2e}", setting, *terms])
        over = bool(group.largest(seconds > 60 * minutes))  # all stop at the same step
        if group.leads and (run.step % save_every == 0 or over):
            run.save(folder / CHECKPOINT)
        if over:
            return
    if group.leads:
        run.save(folder / CHECKPOINT)


def _start_together(run: Run, group: Group) -> None:
    """Check that the processes stand at one step, and give all of them the first one's weights."""
    if group.largest(run.step) != -group.largest(-run.step):
        raise InputError(
            "The processes found different checkpoints; give --out on a disk that all machines "
            "share."
        )
    group.follow_first(run.shared_state())


def _draw(run: Run, source: Source, group: Group) -> tuple[float, list[Sample]]:
    """Draw the setting and the samples of the next step, and seed what the network draws.

    The samples are this process's own; the setting and the first seed, which decides whether air
    takes part, are common, so that no process waits for one that has more tokens to run.
    """
    common, own = (
        [int(seed) for seed in np.random.SeedSequence(words).generate_state(3)]
        for words in ([run.recipe.seed, run.step, 0], [run.recipe.seed, run.step, group.rank])
    )
    torch.manual_seed(common[0])
    source.seed(own[1])
    setting = draw_setting(run.recipe.settings, np.random.default_rng(common[2]))
    return setting, [source.draw() for _ in range(run.recipe.batch)]


def step(run: Run, samples: list[Sample], setting: float, group: Group = ALONE) -> dict[str, float]:
    """Do one optimiser step; return the terms of the loss, means over the processes.

    Parameters
    ----------
    run : Run
        Changed in place.
    samples : list of Sample
        The batch of this process.
    setting : float
        Setting of the sparsifier in this step.
    group : Group
        The processes that do the step together.
    """
    rate = learning_rate(run.recipe.optimiser, run.step)
    for weights in run.optimiser.param_groups:
        weights["lr"] = rate * weights["factor"]
    terms = compute_losses(run, samples, setting, group)
    total = torch.stack([getattr(run.recipe.loss, name) * terms[name] for name in TERMS]).sum()
    run.optimiser.zero_grad()
    total.backward()
    group.average_gradients(run.learner.parameters())
    group.average(run.statistics())
    torch.nn.utils.clip_grad_norm_(run.learner.parameters(), 1.0)
    run.optimiser.step()
    run.average.update_parameters(run.learner)
    run.step += 1
    values = torch.stack([total, *(terms[name] for name in TERMS)]).detach()
    group.average([values])
    return dict(zip(("loss", *TERMS), values.tolist(), strict=True))


def compute_losses(
    run: Run, samples: list[Sample], setting: float, group: Group = ALONE
) -> dict[str, Tensor]:
    """Run the network on a batch and compute every term of this process's loss."""
    network, config, parts = run.learner.network, run.recipe.network, run.recipe.loss
    windows = torch.cat([s.image for s in samples])
    device = windows.device.type
    air = network.find_air(windows)
    if float(torch.rand(())) < run.recipe.air_share:
        air = torch.zeros_like(air)
    group.part_noise()
    with torch.autocast(device, dtype=torch.bfloat16, enabled=reduced_precision(device)):
        output = network.finish(network.prepare(windows, air), setting)
        layout = output.encoded.layout
        predicted = run.learner.token_head(output.completed[layout.rows])
    subvoxels = torch.stack([s.subvoxels for s in samples])
    target = losses.soft_labels(
        losses.to_patches(subvoxels, layout.cells, config.patch), config.classes
    )
    frequency = target.mean(dim=(1, 2))
    group.average([frequency])  # every process counts alike, as it does for the gradients
    losses.update_balance(run.balance, frequency, parts.balance)
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
