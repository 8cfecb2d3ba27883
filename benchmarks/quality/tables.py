"""The tables of methods: what ran, how good it is, and what controls and other networks reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.markdown import table
from benchmarks.quality import words
from benchmarks.quality.figures import (
    Arm,
    Figures,
    Json,
    Kind,
    Model,
    case_means,
    class_values,
    lacking,
)
from benchmarks.quality.stats import ByCase, Paired, holm, paired, spread
from napari_sparseseg.methods import METHODS

Models = Sequence[Model]


def cost_table(figures: Figures, models: Models, where: str) -> str:
    """Return what each model ran at each ratio, and how long it took."""
    head = ["model", "ratio", "setting", "tokens kept / pruned / exited", "blocks run",
            "encoder GMACs", "saved", "GMACs in all", "dense twin's time / its own"]  # fmt: skip
    rows = []
    for model in models:
        for arm in model.own(where):
            start = [f"`{model.label}`", words.number(arm.ratio, "g")]
            if not arm.measured:
                rows.append([*start, _unreached(model, arm), *[""] * (len(head) - 3)])
                continue
            rows.append(
                [
                    *start,
                    words.setting(model, arm),
                    words.tokens(arm),
                    words.percent(arm.mean("block_share")),
                    words.number(arm.mean("gmacs", "encoder")),
                    words.percent(figures.saved(arm, where)),
                    words.number(arm.mean("gmacs", "run")),
                    words.quartiles(figures.time_ratio(model, arm.ratio)),
                ]
            )
    return table(head, rows)


def _unreached(model: Model, arm: Arm) -> str:
    if arm.reached:
        return "not measured"
    return (
        f"not reached: the nearest share is {words.number(arm.share)}, at "
        f"{words.setting(model, arm)}"
    )


def quality_table(figures: Figures, models: Models, where: str) -> str:
    """Return how good each model is at each ratio, beside its dense twin and random pruning."""
    head = ["model", "ratio", "Dice", "median", "HD95, mm (scans lacking a class)",
            "over dense twin, points", "random: Dice", "over random, points"]  # fmt: skip
    arms = [(model, arm) for model in models for arm in model.own(where) if arm.measured]
    twin = [None if m is figures.twin else figures.against_twin(a, where) for m, a in arms]
    drawn = [figures.over_random(model, arm, where) for model, arm in arms]
    said = _verdicts([*twin, *drawn])
    columns = zip(arms, said[: len(arms)], said[len(arms) :], strict=True)
    rows = []
    for (model, arm), over_twin, over_random in columns:
        random = model.arm(where, "random", arm.ratio)
        dice = spread(arm.by_case().values())
        rows.append(
            [
                f"`{model.label}`",
                words.number(arm.ratio, "g"),
                words.dice(list(arm.by_case().values())),
                words.number(dice.median if dice else None, ".3f"),
                _distance(arm),
                over_twin,
                words.dice(list(random.by_case().values())) if random else words.MISSING,
                over_random,
            ]
        )
    return table(head, rows)


def _distance(arm: Arm) -> str:
    count = lacking(arm.rows) / max(1, len(arm.runs))
    return f"{words.millimetres(list(arm.by_case('hd95').values()))} ({count:g})"


def _verdicts(tests: Sequence[Paired | None]) -> list[str]:
    """Put the tests of a table into words, corrected for their number."""
    ps = [test.p for test in tests if test and test.p is not None]
    survivors = iter(holm(ps))
    return [
        words.verdict(test, next(survivors) if test and test.p is not None else False)
        for test in tests
    ]


def control_table(models: Models, where: str) -> str:
    """Return what is left of each model when the encoder is cut short or left out."""
    head = ["model", "in place of its rule", "encoder GMACs", "Dice",
            "over its full encoder, points"]  # fmt: skip
    rows, tests = [], []
    for model in models:
        full = model.full(where)
        for name in ("truncated", "none"):
            arm = model.arm(where, name)
            if arm and not METHODS[model.method].is_control:
                tests.append(paired(arm.by_case(), full.by_case()) if full else None)
                encoder = words.number(arm.mean("gmacs", "encoder"))
                dice = words.dice(list(arm.by_case().values()))
                rows.append([f"`{model.label}`", name, encoder, dice])
    said = _verdicts(tests)
    return table(head, ([*row, verdict] for row, verdict in zip(rows, said, strict=True)))


@dataclass(frozen=True)
class Contestant:
    """A network at one setting, in a table beside others.

    Attributes
    ----------
    title : str
        For people.
    by_case : callable
        Mean over classes of each scan, by kind.
    of_class : callable
        Value of one foreground class of each scan, by its index and kind.
    data : dict
        What is known of it beside its rows.
    arm : Arm or None
        Its arm, if it is ours.
    """

    title: str
    by_case: Callable[[Kind], ByCase]
    of_class: Callable[[int, Kind], ByCase]
    data: Json
    arm: Arm | None = None


def ours(figures: Figures, where: str, models: Models) -> list[Contestant]:
    """Return the dense twin and each model at the setting that it is shown at."""
    found = []
    for model in models:
        arm = figures.shown(model, where)
        if arm:
            at = f" {arm.setting:.3g}" if model.sparse and arm.setting is not None else ""
            facts = {**model.data, **figures.part("budget").get(model.name, {})}
            found.append(Contestant(f"`{model.label}`{at}", arm.by_case, arm.of_class, facts, arm))
    return found


def others(figures: Figures, where: str) -> list[Contestant]:
    """Return the networks of others that were trained on the same scans."""
    return [
        Contestant(
            data["title"],
            lambda kind, rows=data["rows"]: case_means(rows, kind),  # type: ignore[misc]
            lambda index, kind, rows=data["rows"]: class_values(rows, index, kind),  # type: ignore[misc]
            data,
        )
        for data in figures.part("baselines").values()
        if data["set"] == where
    ]


def baseline_table(figures: Figures, where: str) -> str:
    """Return other networks beside the dense twin and the sparse models."""
    head = ["network", "parameters, M", "GMACs of a scan", "training steps", "training minutes",
            "Dice", "HD95, mm", "over dense twin, points"]  # fmt: skip
    models = ([figures.twin] if figures.twin else []) + figures.sparse
    contestants = [*others(figures, where), *ours(figures, where, models)]
    dense = figures.twin and figures.twin.full(where)
    tests = [
        paired(one.by_case("dice"), dense.by_case())
        if dense and not (one.arm and one.arm.sparsifier == "dense")
        else None
        for one in contestants
    ]
    rows = []
    for one, said in zip(contestants, _verdicts(tests), strict=True):
        million = one.data["parameters"] / 1e6 if one.data.get("parameters") else None
        rows.append(
            [
                one.title,
                words.number(million, ".1f"),
                words.number(_gmacs(one), ".3g"),
                words.number(one.data.get("steps"), ".0f"),
                words.number(one.data.get("minutes"), ".0f"),
                words.dice(list(one.by_case("dice").values())),
                words.millimetres(list(one.by_case("hd95").values())),
                said,
            ]
        )
    return table(head, rows)


def _gmacs(one: Contestant) -> float | None:
    if one.arm:
        return one.arm.mean("gmacs", "run")
    rows = tuple(one.data["rows"])
    return Arm("", None, None, None, True, (rows,)).mean("gmacs", "run")


def class_table(figures: Figures, contestants: Sequence[Contestant], kind: Kind) -> str:
    """Return Dice or HD95 of each structure, with its spread over patients."""
    write = words.dice if kind == "dice" else words.millimetres
    rows = [
        [name, *(write(list(one.of_class(index, kind).values())) for one in contestants)]
        for index, name in enumerate(figures.structures)
    ]
    return table(["structure", *(one.title for one in contestants)], rows)
