"""Every part of a task's JSON: what measures it, and how an answer joins what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.quality.arms import Calibrated, Contender, contenders, settings_for_ratios
from benchmarks.quality.cases import CaseSet
from benchmarks.quality.outcome import Json, mean_dice, row_of
from benchmarks.quality.recommend import recommend
from benchmarks.quality.times import time_model
from napari_sparseseg.errors import ModelError
from napari_sparseseg.methods import METHODS
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.weights import ModelInfo, find_model, weights_checksum

_SHIPPED = ("dense", "stp", "dtop", "svit", "apformer")


@dataclass(frozen=True, eq=False)
class Bench:
    """What every part is given.

    Attributes
    ----------
    task : str
        Name of the task.
    models : sequence of ModelInfo
        The models to measure.
    sets : mapping of str to CaseSet
        "test" and "validation".
    data : Path
        Folder of all data sets.
    runs : Path or None
        Folder of the training runs.
    missing : bool
        Whether what the JSON holds already is left as it is.
    found : dict
        The JSON so far.
    """

    task: str
    models: Sequence[ModelInfo]
    sets: Mapping[str, CaseSet]
    data: Path
    runs: Path | None = None
    missing: bool = False
    found: Json = field(default_factory=dict)

    def lacking(self, part: str) -> list[ModelInfo]:
        """Return the models that a part has still to measure."""
        present = self.found.get(part, {}) if self.missing else {}
        return [info for info in self.models if info.name not in present or self._outdated(info)]

    def _outdated(self, info: ModelInfo) -> bool:
        """Whether the JSON holds figures of other weights of a model."""
        before = self.found.get("models", {}).get(info.name)
        return before is not None and before["weights_sha256"] != weights_checksum(info.path)


Part = Callable[[Bench], Iterator[Any]]
"""Measures a part and gives what is new in it, bit by bit; each bit is written at once."""


def models_of(task: str, names: Sequence[str] | None = None) -> list[ModelInfo]:
    """Return the models of a task, one for each method; those that are not there are named.

    Parameters
    ----------
    task : str
        Name of the task.
    names : sequence of str, optional
        Names of registered models, or paths of weights files, in place of the default ones.
    """
    found = []
    for name in names or [f"{task}-{method}" for method in _SHIPPED]:
        try:
            found.append(find_model(name))
        except ModelError as error:
            print(f"skipped: {error}", flush=True)
    return found


def measure_models(bench: Bench) -> Iterator[dict[str, Json]]:
    """Run every model with its own rule and with the controls."""
    for info in bench.lacking("models"):
        yield {info.name: measure_model(info, bench.sets)}


def measure_model(info: ModelInfo, sets: Mapping[str, CaseSet]) -> Json:
    """Run a model on both sets at every ratio, and the controls on the test set.

    Parameters
    ----------
    info : ModelInfo
        The model.
    sets : mapping of str to CaseSet
        "test" and "validation".
    """
    control = METHODS[info.method].control
    settings = settings_for_ratios(info, sets["validation"])
    arms: list[Json] = []
    for contender in contenders(info):
        segmenter = contender.open(info)
        own = contender.sparsifier == info.method
        for name in ("test", "validation") if own else ("test",):
            arms += _arms(contender, segmenter, settings, name, sets[name])
    return {
        "title": info.title,
        "method": info.method,
        "setting": control.name if control else None,
        "default": info.default_setting if control else 1.0,
        "weights_sha256": weights_checksum(info.path),
        "precision": segmenter.precision,
        "parameters": sum(p.numel() for p in segmenter.network.parameters()),
        "file_mb": round(info.path.stat().st_size / 1e6, 1),
        "arms": arms,
    }


def _arms(
    contender: Contender,
    segmenter: Segmenter,
    settings: Mapping[float, Calibrated],
    where: str,
    cases: CaseSet,
) -> Iterator[Json]:
    """Run a contender on a set, with one session for each scan."""
    info, own = segmenter.info, contender.sparsifier == segmenter.info.method
    wanted = [(r, settings[r or 1.0]) for r in contender.ratios(info)]
    runs = {ratio: found.setting for ratio, found in wanted if found.reached}
    rows: dict[float | None, list[Json]] = {ratio: [] for ratio in runs}
    for case in cases:
        with segmenter.open(case.volume) as session:
            for ratio, setting in runs.items():
                rows[ratio].append(row_of(case, session.run(setting)))
    for ratio, found in wanted:
        if not (found.reached or own):
            continue
        yield {
            "set": where,
            "sparsifier": contender.sparsifier,
            "seed": contender.seed,
            "ratio": ratio,
            "setting": found.setting if segmenter.control else None,
            "reached": found.reached,
            "share": None if ratio is None else round(found.share, 4),
            "rows": rows.get(ratio, []),
        }
        if found.reached:
            print(
                f"{info.name:24} {where:10} {contender.sparsifier:9} {found.setting:<8.6g} "
                f"Dice {mean_dice(rows[ratio]):.4f}",
                flush=True,
            )


def measure_times(bench: Bench) -> Iterator[dict[str, list[Json]]]:
    """Time every model with a setting beside its dense twin."""
    twins = [info for info in bench.models if info.method == "dense"]
    twins = twins or models_of(bench.task, [f"{bench.task}-dense"])
    measured = bench.found.get("models", {})
    for info in bench.lacking("times"):
        if not METHODS[info.method].control:
            continue
        if not twins or info.name not in measured:
            print(f"skipped: {info.name} has no dense twin or no part 'models' yet", flush=True)
            continue
        yield {info.name: time_model(info, twins[0], measured[info.name]["arms"], bench.sets)}


def measure_chosen(bench: Bench) -> Iterator[dict[str, Json]]:
    """Recommend a setting for every measured model that has one."""
    yield recommend(bench.found)


def measure_defaults(bench: Bench) -> Iterator[dict[str, list[Json]]]:
    """Run every model at its recommended setting, where no ratio has led there already."""
    for info in bench.models:
        chosen = bench.found.get("chosen", {}).get(info.name)
        arms = bench.found.get("models", {}).get(info.name, {"arms": []})["arms"]
        tried = [arm["setting"] for arm in arms if arm["sparsifier"] == info.method and arm["rows"]]
        if chosen is None or chosen["setting"] in tried:
            yield {info.name: []}
        else:
            yield {info.name: [*_arms_at(info, chosen["setting"], bench.sets)]}


def _arms_at(info: ModelInfo, setting: float, sets: Mapping[str, CaseSet]) -> Iterator[Json]:
    segmenter = Segmenter(info)
    for name in ("test", "validation"):
        rows = [row_of(case, segmenter.segment(case.volume, setting)) for case in sets[name]]
        yield {"set": name, "setting": setting, "rows": rows}


def by_model(module: str) -> Part:
    """Return the part that a module measures for the models of a task."""

    def part(bench: Bench) -> Iterator[Any]:
        measure = import_module(f"benchmarks.quality.{module}").measure
        yield measure(bench.task, bench.models, bench.data, bench.sets)

    return part


def by_task(module: str) -> Part:
    """Return the part that a module measures from the data and the training runs."""

    def part(bench: Bench) -> Iterator[Any]:
        measure = import_module(f"benchmarks.quality.{module}").measure
        yield measure(bench.task, bench.data, bench.runs)

    return part


PARTS: dict[str, Part] = {
    "models": measure_models,
    "times": measure_times,
    "robustness": by_model("robustness"),
    "tissue": by_model("tissue"),
    "calibration": by_model("calibration"),
    "exits": by_model("exits"),
    "chosen": measure_chosen,
    "defaults": measure_defaults,
    "baselines": by_task("baselines"),
    "budget": by_task("budget"),
}
"""Everything that can be measured, by its key in the JSON, in the order of measuring."""


def joined(old: Any, new: Any, names: Sequence[str]) -> Any:
    """Put what is new in a part in the place of what it held of the same models.

    Parameters
    ----------
    old : dict, list or None
        By name, or rows that name their "model"; None if there is nothing yet.
    new : dict or list
        The same.
    names : sequence of str
        Models whose rows are replaced.
    """
    if isinstance(new, dict):
        return {**(old or {}), **new}
    return [*(row for row in old or [] if row["model"] not in names), *new]
