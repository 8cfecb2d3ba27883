"""The raw rows of a task as arms and models, from which every figure is taken."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.quality.stats import (
    LEAST_PAIRS,
    Paired,
    Quartiles,
    over_seeds,
    paired,
    time_ratio,
)
from napari_sparseseg.methods import METHODS
from napari_sparseseg.training.tasks import TASKS, Task

Json = dict[str, Any]
Row = Json
"""One scan of one arm."""
Kind = Literal["dice", "hd95"]

AS_GOOD = 0.005
"""Mean Dice that may be lost for an answer to count as good as another: 0.5 points."""

_ORDER = ("headneck-ct", "brain-mr", "hippocampus-mr")


def case_means(rows: Iterable[Row], kind: Kind = "dice") -> dict[str, float]:
    """Return the mean over the classes of each scan that has any.

    Parameters
    ----------
    rows : iterable of dict
        Rows with lists of "dice" and "hd95" (mm), null where there is no value.
    kind : {"dice", "hd95"}
        Which of them.
    """
    found = {row["case"]: [v for v in row[kind] if v is not None] for row in rows}
    return {case: float(np.mean(values)) for case, values in found.items() if values}


def class_values(rows: Iterable[Row], index: int, kind: Kind = "dice") -> dict[str, float]:
    """Return the value of one foreground class for each scan that has it."""
    return {row["case"]: row[kind][index] for row in rows if row[kind][index] is not None}


def lacking(rows: Iterable[Row]) -> int:
    """Count the scans whose prediction lacks a class that the truth holds."""
    return sum(
        any(d is not None and h is None for d, h in zip(row["dice"], row["hd95"], strict=True))
        for row in rows
    )


@dataclass(frozen=True)
class Arm:
    """One sparsifier at one ratio on one set, all its seeds.

    Attributes
    ----------
    sparsifier : str
        The model's own, or a control.
    ratio, setting : float or None
        Wanted share of tokens, and the setting that gives it.
    share : float or None
        Share that the setting gave on the validation set.
    reached : bool
        Whether a threshold gives this ratio.
    runs : tuple of tuple of dict
        Rows of each seed.
    """

    sparsifier: str
    ratio: float | None
    setting: float | None
    share: float | None
    reached: bool
    runs: tuple[tuple[Row, ...], ...]

    @property
    def rows(self) -> list[Row]:
        """The rows of all seeds."""
        return [row for run in self.runs for row in run]

    @property
    def measured(self) -> bool:
        """Whether there are any rows."""
        return bool(self.rows)

    def by_case(self, kind: Kind = "dice") -> dict[str, float]:
        """Return the mean over classes of each scan, mean over seeds."""
        return over_seeds([case_means(run, kind) for run in self.runs])

    def of_class(self, index: int, kind: Kind = "dice") -> dict[str, float]:
        """Return the value of one foreground class of each scan, mean over seeds."""
        return over_seeds([class_values(run, index, kind) for run in self.runs])

    def mean_dice(self) -> float:
        """Return the mean over scans of mean Dice; NaN without rows."""
        values = list(self.by_case().values())
        return float(np.mean(values)) if values else float("nan")

    def mean(self, *keys: str) -> float | None:
        """Return the mean over all rows of what lies under these keys, None if one lacks it."""
        values = []
        for row in self.rows:
            value: Any = row
            for key in keys:
                value = value.get(key) if isinstance(value, dict) else None
            if value is None:
                return None
            values.append(float(value))
        return float(np.mean(values)) if values else None


@dataclass(frozen=True)
class Model:
    """A measured model.

    Attributes
    ----------
    name : str
        Its name.
    data : dict
        Its part of the JSON.
    """

    name: str
    data: Json

    @property
    def method(self) -> str:
        """Sparsifier that it was trained with."""
        return str(self.data["method"])

    @property
    def label(self) -> str:
        """Its name without the task, for narrow columns."""
        return self.name.split("-", 2)[-1]

    @property
    def sparse(self) -> bool:
        """Whether it has a rule of its own that leaves tokens out."""
        return METHODS[self.method].control is not None

    def arms(self, where: str, sparsifier: str) -> list[Arm]:
        """Return the arms of one sparsifier on one set, densest first."""
        groups: dict[float | None, list[Json]] = {}
        for arm in self.data["arms"]:
            if arm["set"] == where and arm["sparsifier"] == sparsifier:
                groups.setdefault(arm["ratio"], []).append(arm)
        arms = [
            Arm(
                sparsifier,
                ratio,
                group[0]["setting"],
                group[0].get("share"),
                group[0].get("reached", True),
                tuple(tuple(arm["rows"]) for arm in group if arm["rows"]),
            )
            for ratio, group in groups.items()
        ]
        return sorted(arms, key=lambda arm: -(1.0 if arm.ratio is None else arm.ratio))

    def own(self, where: str) -> list[Arm]:
        """Return the arms of its own sparsifier."""
        return self.arms(where, self.method)

    def arm(self, where: str, sparsifier: str, ratio: float | None = None) -> Arm | None:
        """Return the arm at a ratio if it has rows."""
        for arm in self.arms(where, sparsifier):
            if arm.ratio == ratio and arm.measured:
                return arm
        return None

    def full(self, where: str) -> Arm | None:
        """Return its own arm with nothing pruned, or its only one."""
        arms = [arm for arm in self.own(where) if arm.measured and arm.ratio in (1.0, None)]
        return arms[0] if arms else None


class Figures:
    """What was measured of a task.

    Parameters
    ----------
    data : dict
        The JSON of the task.
    """

    def __init__(self, data: Json) -> None:
        self.data = data
        self.task: Task = TASKS[data["task"]]
        self.structures: list[str] = list(data["classes"][1:])
        self.models = [Model(name, model) for name, model in data.get("models", {}).items()]

    @cached_property
    def twin(self) -> Model | None:
        """The dense twin."""
        return next((model for model in self.models if model.method == "dense"), None)

    @property
    def sparse(self) -> list[Model]:
        """The models with a rule of their own."""
        return [model for model in self.models if model.sparse]

    @property
    def places(self) -> list[str]:
        """The sets to report: the test, and the validation where the test is too few scans."""
        if not self.too_few("test"):
            return ["test"]
        return [where for where in ("test", "validation") if where in self.data["sets"]]

    def too_few(self, where: str) -> bool:
        """Whether a set has too few scans for a paired test."""
        return len(self.data["sets"].get(where, {}).get("cases", [])) < LEAST_PAIRS

    def title(self, where: str) -> str:
        """Return a set in words: "35 test patients"."""
        return str(self.data["sets"].get(where, {}).get("title", where))

    def part(self, name: str) -> Any:
        """Return a part of the JSON, empty if it was not measured."""
        return self.data.get(name) or {}

    def against_twin(self, arm: Arm, where: str) -> Paired | None:
        """Compare mean Dice with the dense twin's, scan by scan."""
        dense = self.twin and self.twin.full(where)
        return paired(arm.by_case(), dense.by_case()) if dense else None

    def over_random(self, model: Model, arm: Arm, where: str) -> Paired | None:
        """Compare mean Dice with random pruning of as many tokens, scan by scan."""
        drawn = model.arm(where, "random", arm.ratio)
        return paired(arm.by_case(), drawn.by_case()) if drawn else None

    def saved(self, arm: Arm, where: str) -> float | None:
        """Return the share of the dense twin's encoder operations that an arm did not run."""
        dense = self.twin and self.twin.full(where)
        ran, twin = arm.mean("gmacs", "encoder"), dense and dense.mean("gmacs", "encoder")
        return None if ran is None or not twin else 1 - ran / twin

    def times(self, model: Model, ratio: float | None) -> list[Json]:
        """Return the timed rounds of a model at a ratio."""
        return [row for row in self.part("times").get(model.name, []) if row["ratio"] == ratio]

    def time_ratio(self, model: Model, ratio: float | None) -> Quartiles | None:
        """Return how many times longer the dense twin took than a model at a ratio."""
        rows = self.times(model, ratio)
        return time_ratio([r["seconds"] for r in rows], [r["dense_seconds"] for r in rows])

    def shown(self, model: Model, where: str) -> Arm | None:
        """Return a model's own arm at, or nearest to, its recommended setting, else its default.

        A threshold is recommended from a list of its own and then measured as it is; where that
        has not been done, the nearest of those that give a ratio stands for it.
        """
        wanted = self.part("chosen").get(model.name, {}).get("setting", model.data["default"])
        arms = [arm for arm in model.own(where) if arm.measured and arm.setting is not None]
        if not model.sparse or not arms:
            return model.full(where)
        arms += self._at_default(model, where)
        return min(arms, key=lambda arm: abs((arm.setting or 0.0) - wanted))

    def _at_default(self, model: Model, where: str) -> list[Arm]:
        return [
            Arm(model.method, None, found["setting"], None, True, (tuple(found["rows"]),))
            for found in self.part("defaults").get(model.name, [])
            if found["set"] == where
        ]


def read_results(results: Path) -> list[Figures]:
    """Read the figures of every task that was measured, in the order of the page.

    Parameters
    ----------
    results : Path
        Folder with ``<task>.json``.
    """
    names = [*_ORDER, *(name for name in TASKS if name not in _ORDER)]
    paths = [results / f"{name}.json" for name in names]
    return [Figures(json.loads(path.read_text())) for path in paths if path.exists()]
