"""The state of a training run: weights, optimiser and step, saved and resumed as one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from napari_sparseseg.errors import ModelError
from napari_sparseseg.network import SparseUNETR
from napari_sparseseg.training.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from napari_sparseseg.training.recipe import OptimiserConfig, Recipe
from napari_sparseseg.weights import find_model, load_network


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


@dataclass(frozen=True)
class Start:
    """What a run starts from.

    Attributes
    ----------
    network : dict
        Weights of the network.
    token_head : dict
        Those of the token head; empty if they are not known.
    window : tuple of int
        Window that the network was trained on.
    """

    network: dict[str, Tensor]
    token_head: dict[str, Tensor]
    window: tuple[int, int, int]


def find_start(name: str, runs: Path) -> Start:
    """Return the averaged weights of a run, or those of a registered model.

    Parameters
    ----------
    name : str
        Name of the run and of the model.
    runs : Path
        Folder with a folder for each run.

    Raises
    ------
    ModelError
        If there is neither.
    """
    checkpoint = runs / name / CHECKPOINT
    if checkpoint.exists():
        saved = load_checkpoint(checkpoint)
        network, head = (averaged_weights(saved, part) for part in ("network", "token_head"))
        return Start(network, head, tuple(saved["window"]))
    try:
        twin = load_network(find_model(name))
        return Start(twin.state_dict(), {}, twin.config.window)
    except ModelError as error:
        raise ModelError(
            f"The start '{name}' is neither a run in {runs} nor a usable model ({error}); train it "
            "first."
        ) from error


def averaged_weights(checkpoint: dict[str, Any], part: str) -> dict[str, Tensor]:
    """Return the averaged weights of one part of the learner, "network" or "token_head"."""
    prefix = f"module.{part}."
    return {
        key.removeprefix(prefix): value
        for key, value in checkpoint["average"].items()
        if key.startswith(prefix)
    }


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
    balance : Tensor
        ``(classes,)`` weight of each class in the cross-entropies; follows the samples.
    step : int
        Steps done.
    """

    recipe: Recipe
    learner: Learner
    average: AveragedModel
    optimiser: torch.optim.Optimizer
    balance: Tensor
    step: int = 0

    @classmethod
    def create(cls, recipe: Recipe, device: str, start: Start | None = None) -> Run:
        """Build a run at step 0, from scratch or from the weights of another one.

        Raises
        ------
        ValueError
            If the start is of another architecture.
        """
        torch.manual_seed(recipe.seed)
        learner = Learner(SparseUNETR(recipe.network))
        if start is not None:
            learner.network.start_from(start.network, start.window)
            if start.token_head:
                learner.token_head.load_state_dict(start.token_head)
        if recipe.copy_groups:
            learner.network.completion.start_from_last_group()
        learner.to(device)
        learner.network.channels_last()
        average = AveragedModel(
            learner, multi_avg_fn=get_ema_multi_avg_fn(recipe.optimiser.average)
        )
        balance = torch.ones(recipe.network.classes, device=device)
        return cls(recipe, learner, average, _optimiser(learner, recipe.optimiser), balance)

    def statistics(self) -> list[Tensor]:
        """Return what the network measures while it trains, which no gradient changes."""
        learned = {name for name, _ in self.learner.named_parameters()}
        return [value for name, value in self.learner.state_dict().items() if name not in learned]

    def shared_state(self) -> list[Tensor]:
        """Return the tensors that all processes of a run must hold alike, the optimiser's apart."""
        weights = [*self.learner.parameters(), *self.average.module.parameters()]
        return [*weights, *self.statistics(), self.balance]

    def save(self, path: Path) -> None:
        """Write the whole state, see :func:`save_checkpoint`."""
        state = {
            "learner": self.learner.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "balance": self.balance,
            "step": self.step,
            "window": list(self.recipe.network.window),
        }
        save_checkpoint(state, path)

    def resume(self, path: Path) -> None:
        """Continue from a state that :meth:`save` wrote."""
        state = load_checkpoint(path)
        self.learner.load_state_dict(state["learner"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.balance.copy_(state["balance"])
        self.step = int(state["step"])


def _optimiser(learner: Learner, config: OptimiserConfig) -> torch.optim.Optimizer:
    """Build AdamW: no decay of vectors, and a rate of its own for the sparsifier."""
    groups = []
    for own in (False, True):
        for matrix in (False, True):
            groups.append(
                {
                    "params": [
                        p
                        for name, p in learner.named_parameters()
                        if name.startswith("network.sparsifier.") == own and (p.ndim > 1) == matrix
                    ],
                    "weight_decay": config.weight_decay if matrix else 0.0,
                    "factor": config.sparsifier if own else 1.0,
                }
            )
    return torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.98), fused=True)


def learning_rate(config: OptimiserConfig, step: int) -> float:
    """Return the rate of a step: linear warm-up, constant, cosine to zero."""
    left = (config.steps - step) / max(1, config.decay)
    fall = 0.5 * (1 - math.cos(math.pi * min(1.0, max(0.0, left))))
    return config.rate * min(1.0, (step + 1) / max(1, config.warmup)) * fall
