"""A training recipe as plain data, read from a TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_sparseseg.network.config import NetworkConfig
from napari_sparseseg.training.losses import LossWeights
from napari_sparseseg.training.scans import ScanConfig
from napari_sparseseg.training.synthesis import SynthesisConfig
from napari_sparseseg.training.tasks import TASKS, Task

DATA = {"heads": SynthesisConfig, "scans": ScanConfig}
"""Kinds of data: scans synthesised from label maps of heads, and real scans."""


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW with warm-up, a constant rate, and a cosine to zero over the last steps.

    Attributes
    ----------
    rate : float
        Learning rate of the constant part.
    warmup, steps, decay : int
        Steps of the warm-up, in total, and of the cosine at the end.
    weight_decay : float
        On matrices only, as in the STP recipe.
    average : float
        Decay of the exponential average of the weights, which is what gets exported.
    sparsifier : float
        Factor on the rate of the sparsifier's own weights, which begin at random where the rest
        begins trained; DToP publishes 10.
    """

    rate: float = 8e-4
    warmup: int = 200
    steps: int = 10_000
    decay: int = 2_000
    weight_decay: float = 0.05
    average: float = 0.998
    sparsifier: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """Everything that fixes a training run.

    Attributes
    ----------
    name : str
        Name of the model.
    task : Task
        What it segments.
    variant : str
        What the title says of the model instead of its method's name; "" for the name.
    network : NetworkConfig
        Architecture.
    data : SynthesisConfig or ScanConfig
        Where samples come from.
    settings : tuple of float
        Settings of the sparsifier, drawn per step; the first and the last, dense and sparsest,
        twice as often.
    default : float
        Setting that users start with.
    batch : int
        Windows per step.
    air_share : float
        Share of the steps in which air enters the encoder and is decoded too, so that the
        network can be run as a dense one that knows no air.
    start : str
        Name of the run, or else of the registered model, whose averaged weights this run
        starts from; "" to start from scratch.
    copy_groups : bool
        Whether the completion of every group of pruned tokens starts as a copy of the kept
        ones': right after a start that pruned nothing.
    seed : int
        Seed of all draws.
    optimiser : OptimiserConfig
        Optimiser and schedule.
    loss : LossWeights
        Terms of the loss.
    """

    name: str
    task: Task
    network: NetworkConfig
    data: SynthesisConfig | ScanConfig
    variant: str = ""
    settings: tuple[float, ...] = (1.0,)
    default: float = 1.0
    batch: int = 1
    air_share: float = 0.0
    start: str = ""
    copy_groups: bool = False
    seed: int = 0
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    loss: LossWeights = field(default_factory=LossWeights)


def load_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Parameters
    ----------
    path : Path
        TOML file with the fields of :class:`Recipe`; tables for its parts. ``base`` names a
        recipe beside it whose fields hold where this one says nothing.

    Raises
    ------
    TypeError, KeyError
        If the file names a field, a task or a kind of data that does not exist.
    """
    data = _read_with_base(path)
    data["network"] = NetworkConfig.from_dict(data["network"])
    values = {k: _frozen(v) for k, v in data["data"].items()}
    kind = str(values.pop("kind"))
    data["data"] = DATA[kind](**values)
    data["task"] = TASKS[data["task"]]
    data["optimiser"] = OptimiserConfig(**data.get("optimiser", {}))
    data["loss"] = LossWeights(**data.get("loss", {}))
    data["settings"] = tuple(data.get("settings", (1.0,)))
    return Recipe(**data)


def _frozen(value: Any) -> Any:
    """Turn lists, also those in lists, into tuples."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _read_with_base(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        own: dict[str, Any] = tomllib.load(file)
    if "base" not in own:
        return own
    return _merged(_read_with_base(path.parent / own.pop("base")), own)


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    both = dict(base)
    for key, value in own.items():
        inner = isinstance(value, dict) and isinstance(base.get(key), dict)
        both[key] = _merged(base[key], value) if inner else value
    return both
