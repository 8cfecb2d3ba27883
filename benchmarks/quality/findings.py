"""What the figures say, in words computed from them; nothing is said of what was not measured."""

from __future__ import annotations

import numpy as np

from benchmarks.quality import words
from benchmarks.quality.figures import AS_GOOD, Arm, Figures, Model
from benchmarks.quality.parts import losses
from benchmarks.quality.stats import Paired, paired, spread
from benchmarks.quality.tables import others

_FEWER = 0.4
_SPARSE = 0.3
_BRAIN_GOAL = 0.85
_BRAIN = "brain-mr"


def findings(figures: Figures) -> list[str]:
    """Return one sentence or more for each question that the figures answer."""
    said = [cheap_and_good(figures, where) for where in figures.places]
    said += [informed(figures, model) for model in figures.sparse]
    said += [against_others(figures), stake(figures), *depth(figures), brain_goal(figures)]
    said += [trust(figures), worst_condition(figures)]
    said += [recommended(figures, model) for model in figures.sparse]
    return [sentence for sentence in said if sentence]


def cheap_and_good(figures: Figures, where: str) -> str:
    """Say which arms save much of the encoder and lose little."""
    found, judged = [], 0
    for model in figures.sparse:
        for arm in model.own(where):
            saved, test = figures.saved(arm, where), figures.against_twin(arm, where)
            if saved is None or test is None:
                continue
            judged += 1
            if round(saved, 4) >= _FEWER and round(test.mean_gain, 6) >= -AS_GOOD:
                found.append(
                    f"`{model.label}` at {arm.ratio:g} ({words.points(test.mean_gain)} points, "
                    f"{words.percent(saved)} fewer)"
                )
    if not judged:
        return ""
    start = (
        f"Within {100 * AS_GOOD:g} points of the dense twin's mean Dice at {words.percent(_FEWER)} "
        f"fewer encoder GMACs or better, on {figures.title(where)}: "
    )
    return start + (words.listed(found) if found else "**none**") + "."


def informed(figures: Figures, model: Model) -> str:
    """Say whether a rule beats random pruning where few tokens are left."""
    parts = []
    for arm in model.own("test"):
        if arm.ratio is None or arm.ratio > _SPARSE:
            continue
        if not arm.reached:
            parts.append(f"at {arm.ratio:g} no threshold gives this ratio")
            continue
        test = figures.over_random(model, arm, "test")
        if test:
            parts.append(f"at {arm.ratio:g} it {_beats(test)}")
    return f"Few tokens left, `{model.label}` against random pruning: {'; '.join(parts)}." * bool(
        parts
    )


def _beats(test: Paired) -> str:
    gain = f"median {words.points(test.gain)} points"
    if test.p is None:
        said = "is ahead" if test.gain > 0 else "is **not ahead**"
        return f"{said} ({gain}; {words.reason_for_no_test(test.count)})"
    evidence = f"({gain}, {words.p_value(test.p)})"
    if not test.differs:
        return f"does **not beat** it {evidence}"
    return f"beats it {evidence}" if test.gain > 0 else f"is **worse** {evidence}"


def against_others(figures: Figures) -> str:
    """Say where the dense twin stands beside the networks of others."""
    said = []
    for where in figures.places:
        dense = figures.twin and figures.twin.full(where)
        for one in others(figures, where):
            test = dense and paired(dense.by_case(), one.by_case("dice"))
            if dense and test:
                said.append(
                    f"{one.title} {np.mean(list(one.by_case('dice').values())):.3f} "
                    f"({one.data['minutes']:.0f} minutes of training; {_stands(test)})"
                )
    if not said:
        return ""
    assert figures.twin
    return (
        "Other networks, trained on the same scans: mean Dice of "
        f"{words.listed(said)}, where the dense twin reaches "
        f"{_mean_dice(figures, figures.twin)}{_trained_for(figures, figures.twin)}."
    )


def _trained_for(figures: Figures, model: Model) -> str:
    """Say how long a model was trained, if that is known: budgets may differ."""
    budget = figures.part("budget").get(model.name)
    return f" after {budget['minutes']:.0f} minutes of training" if budget else ""


def _mean_dice(figures: Figures, model: Model) -> str:
    """Return mean Dice with nothing pruned on every set that is reported."""
    arms = [(model.full(where), where) for where in figures.places]
    said = [f"{arm.mean_dice():.3f} on {figures.title(where)}" for arm, where in arms if arm]
    return words.listed(said) if said else "nothing measured"


def _stands(test: Paired) -> str:
    p = f", {words.p_value(test.p)}" if test.p is not None else ", no test"
    word = "ahead of" if test.gain > 0 else "**behind**"
    if test.p is not None and not test.differs:
        word = "not told apart from"
    return f"the dense twin is {word} it: median {words.points(test.gain)} points{p}"


def stake(figures: Figures) -> str:
    """Say how much of all operations a rule can save in the encoder."""
    dense = figures.twin.full("test") if figures.twin else None
    encoder = dense.mean("gmacs", "encoder") if dense else None
    run = dense.mean("gmacs", "run") if dense else None
    if encoder is None or not run:
        return ""
    return (
        f"What is at stake: the encoder is {words.percent(encoder / run)} of the operations of the "
        "dense twin; a rule that spares no decoding cannot save more."
    )


def depth(figures: Figures) -> list[str]:
    """Say whether the later blocks, or any block, are needed."""
    said = []
    twin = figures.twin and figures.twin.full("test")
    for name, title in (
        ("truncated", "the encoder ended at the first stage"),
        ("none", "no encoder block"),
    ):
        swapped = {
            model.label: _change(arm, full)
            for model in figures.models
            for arm, full in [(model.arm("test", name), model.full("test"))]
            if arm and full and model.method != name
        }
        said.append(_equals(f"With {title}, not trained for it", "the full encoder", swapped))
        trained = {
            model.label: _change(full, twin)
            for model in figures.models
            for full in [model.full("test")]
            if model.method == name and full and twin
        }
        said.append(_equals(f"Trained with {title}", "the dense twin", trained))
    return said


def _change(arm: Arm, full: Arm) -> float:
    test = paired(arm.by_case(), full.by_case())
    return test.mean_gain if test else float("nan")


def _equals(how: str, reference: str, changes: dict[str, float]) -> str:
    """Say who is as good as the reference although it ran less of the encoder."""
    if not changes:
        return ""
    alike = [f"`{name}`" for name, change in changes.items() if _is_close(change)]
    each = [f"`{name}` {words.points(change)}" for name, change in changes.items()]
    start = f"{how}, mean Dice changes by {words.listed(each)} points against {reference}. "
    if not alike:
        return start + f"None equals {reference} within {100 * AS_GOOD:g} points."
    return start + (
        f"**Equal within {100 * AS_GOOD:g} points: {words.listed(alike)}**; there it is no merit "
        "of a rule to lose nothing."
    )


def _is_close(change: float) -> bool:
    return abs(round(change, 6)) <= AS_GOOD


def brain_goal(figures: Figures) -> str:
    """Say where each brain model stands against the goal, with and without CSF."""
    if figures.task.name != _BRAIN:
        return ""
    fluid = figures.structures.index("CSF")
    rest = [n for n in range(len(figures.structures)) if n != fluid]
    said = []
    for model in figures.models:
        arm = model.full("test")
        if arm:
            every = arm.mean_dice()
            without = [v for n in rest for v in arm.of_class(n).values()]
            mean = float(np.mean(without)) if without else float("nan")
            met = "met" if every >= _BRAIN_GOAL else "**missed**"
            said.append(f"`{model.label}` {every:.3f} ({met}; {mean:.3f} without CSF)")
    if not said:
        return ""
    return (
        f"Against the goal of {_BRAIN_GOAL:g} on brain-t1, mean Dice of all 17 structures with "
        f"nothing pruned: {words.listed(said)}. CSF is FreeSurfer's label 24, a tiny region, while "
        "the training maps call all outer fluid CSF: its Dice is near zero by definition."
    )


def trust(figures: Figures) -> str:
    """Say how confidence relates to errors."""
    said = [
        f"`{model.label}` {words.percent(share)}"
        for model in figures.models
        for part in [figures.part("calibration").get(model.name)]
        if part
        for share in [part["errors"]["wrong_among_least_confident_10_percent"]]
    ]
    if not said:
        return ""
    return (
        f"Share of the errors among the least confident 10 % of the voxels: {words.listed(said)}."
    )


def worst_condition(figures: Figures) -> str:
    """Say for each model which condition costs it most."""
    rows = figures.part("robustness")
    said = []
    for name in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == name]
        conditions = dict.fromkeys((row["condition"], str(row["level"])) for row in mine)
        lost = {
            " ".join(key).strip(): float(
                np.mean(losses([r for r in mine if (r["condition"], str(r["level"])) == key]))
            )
            for key in conditions
        }
        worst = min(lost, key=lambda key: lost[key])
        said.append(f"`{name.split('-', 2)[-1]}` {worst} ({words.points(lost[worst])} points)")
    return f"What hurts most: {words.listed(said)}." if said else ""


def recommended(figures: Figures, model: Model) -> str:
    """Say which default is recommended, why, and what it gives on the test."""
    chosen = figures.part("chosen").get(model.name)
    if not chosen:
        return ""
    text = f"Default of `{model.label}`: {model.data['setting']} {chosen['setting']:.3g}, "
    text += str(chosen["why"]).rstrip(".") + "."
    arm = figures.shown(model, "test")
    found = arm and spread(arm.by_case().values())
    if not arm or not found:
        return text
    test, saved = figures.against_twin(arm, "test"), figures.saved(arm, "test")
    near = "it" if arm.setting == chosen["setting"] else f"the nearest measured, {arm.setting:.3g},"
    text += f" On {figures.title('test')} {near} reaches a mean Dice of {found.mean:.3f}"
    if test:
        text += f", {words.points(test.mean_gain)} points beside the dense twin"
    if saved is not None:
        change = "fewer" if saved >= 0 else "more"
        text += f", with {words.percent(abs(saved))} {change} encoder GMACs"
    return text + "."
