"""A training recipe as plain data, read from a TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_sparseseg.network.config import NetworkConfig
from napari_sparseseg.training.losses import LossWeights
from napari_sparseseg.training.synthesis import SynthesisConfig


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
    """

    rate: float = 8e-4
    warmup: int = 200
    steps: int = 10_000
    decay: int = 2_000
    weight_decay: float = 0.05
    average: float = 0.998


@dataclass(frozen=True)
class Recipe:
    """Everything that fixes a training run.

    Attributes
    ----------
    name : str
        Name of the model.
    network : NetworkConfig
        Architecture.
    data : SynthesisConfig
        The generator.
    validation : tuple of str
        Substrings of file names kept for validation.
    keep_ratios : tuple of float
        Drawn per step; the first and the last, dense and smallest, twice as often.
    batch : int
        Windows per step.
    start : str
        Name of the run whose checkpoint this one starts from, "" to start from scratch.
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
    network: NetworkConfig
    data: SynthesisConfig = field(default_factory=SynthesisConfig)
    validation: tuple[str, ...] = ()
    keep_ratios: tuple[float, ...] = (1.0,)
    batch: int = 1
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
    TypeError
        If the file names a field that does not exist.
    """
    data = _read_with_base(path)
    data["network"] = NetworkConfig.from_dict(data["network"])
    synthesis = data.get("data", {})
    if "window" in synthesis:
        synthesis["window"] = tuple(synthesis["window"])
    data["data"] = SynthesisConfig(**synthesis)
    data["optimiser"] = OptimiserConfig(**data.get("optimiser", {}))
    data["loss"] = LossWeights(**data.get("loss", {}))
    for key in ("validation", "keep_ratios"):
        data[key] = tuple(data.get(key, ()))
    return Recipe(**data)


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
