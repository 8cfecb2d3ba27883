"""The pictures of the page: Dice over cost, reliability, and training curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.quality import runs
from benchmarks.quality.figures import Arm, Figures, Model
from benchmarks.quality.tables import others

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = {
    "dense": "#000000",
    "stp": "#0072B2",
    "dtop": "#E69F00",
    "svit": "#009E73",
    "apformer": "#CC79A7",
}  # Okabe and Ito's
_FURTHER = ("#56B4E9", "#7F7F7F", "#8C6D31", "#4B0082", "#A0A000")
_MARKERS = {"dense": "*", "stp": "o", "dtop": "s", "svit": "^", "apformer": "D"}
_FURTHER_MARKERS = ("v", "P", "X", "<", ">")
_BASELINES = (("#D55E00", "p"), ("#8C1D40", "h"), ("#5F5F5F", "H"))
_WINDOW = 9  # log lines of a running mean
_SHOWN = 0.15  # Dice below the best that is drawn
_MARGIN = 0.1  # of the range of times, on both sides
_MUCH = 4

Cost = Callable[[Model, Arm], float | None]


def draw_comparison(figures: Figures, picture: Path) -> bool:
    """Draw mean Dice on the test over encoder GMACs and over time, a line for each method.

    Parameters
    ----------
    figures : Figures
        The task.
    picture : Path
        PNG file to write.

    Returns
    -------
    bool
        Whether there was anything to draw.
    """
    if not any(model.full("test") for model in figures.models):
        return False
    figure, (left, right) = _panels(2, (11, 5.2))

    def seconds(model: Model, arm: Arm) -> float | None:
        if arm.sparsifier != model.method:  # controls were not timed
            return None
        times = [row["seconds"] for row in figures.times(model, arm.ratio)]
        if model is figures.twin:  # timed beside the others, at every ratio
            times = [
                row["dense_seconds"] for rows in figures.part("times").values() for row in rows
            ]
        return float(np.median(times)) if times else None

    timed = bool(figures.part("times"))  # all in one go, or none is comparable
    _draw_baselines(left, right if timed else None, figures)
    _draw_methods(left, figures, lambda model, arm: arm.mean("gmacs", "encoder"))
    _draw_methods(right, figures, seconds)
    left.set(xlabel="encoder GMACs of a scan", ylabel="mean Dice")
    right.set(xlabel="seconds of a scan, median")
    right.tick_params(labelleft=True)
    _focus(left, right)
    _fit_times(right)
    if not timed:
        right.text(0.5, 0.5, "times not measured yet", ha="center", transform=right.transAxes)
    figure.suptitle(f"{figures.task.title}: {figures.title('test')}")
    handles = {
        label: handle
        for axes in (left, right)
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5,
                  frameon=False)  # fmt: skip
    _save(figure, picture)
    return True


def draw_reliability(figures: Figures, picture: Path) -> bool:
    """Draw accuracy over confidence, one line for each model.

    Parameters
    ----------
    figures : Figures
        The task.
    picture : Path
        PNG file to write.
    """
    parts = figures.part("calibration")
    if not parts:
        return False
    figure, (axes,) = _panels(1, (7, 5.6))
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=":", label="perfect")
    styles = _styles(figures.models)
    for model in figures.models:
        bins = [b for b in parts.get(model.name, {}).get("bins", []) if b["voxels"]]
        if bins:
            color, marker = styles[model.name]
            x, y = [b["confidence"] for b in bins], [b["accuracy"] for b in bins]
            axes.plot(x, y, marker=marker, color=color, markersize=5, label=model.label)
    low = min(b["confidence"] for p in parts.values() for b in p["bins"] if b["voxels"])
    axes.set(xlim=(max(0.0, low - 0.05), 1.01), ylim=(0, 1.02))
    axes.set(xlabel="largest class probability of a voxel", ylabel="share that is right")
    axes.set_title(f"{figures.task.title}: validation set")
    axes.legend(frameon=False, loc="upper left")
    _save(figure, picture)
    return True


def draw_training(names: Sequence[str], logs: Path, picture: Path) -> bool:
    """Draw the Dice and cross-entropy terms of the loss over the steps of a chain of runs.

    Parameters
    ----------
    names : sequence of str
        The runs, first to last.
    logs : Path
        Folder with ``<run>.csv``.
    picture : Path
        PNG file to write.
    """
    kept = [name for name in names if runs.read_log(logs / f"{name}.csv")]
    if not kept:
        return False
    figure, panels = _panels(2, (11, 4), False)
    for axes, (name, title) in zip(
        panels, (("dice", "Dice loss"), ("cross_entropy", "cross-entropy")), strict=True
    ):
        before = 0.0
        for index, run in enumerate(kept):
            steps, values = runs.column(logs / f"{run}.csv", name)
            width = min(_WINDOW, values.size)
            mean = np.full(width, 1 / width)
            smooth, middle = (np.convolve(v, mean, mode="valid") for v in (values, steps))
            color = list(_COLORS.values())[1 + index % 4]
            axes.plot(before + steps, values, color="0.88", linewidth=0.7, zorder=1)
            axes.plot(before + middle, smooth, color=color, label=run, zorder=2)
            before += steps[-1]
        axes.set(xlabel="steps since the first run began", ylabel=title, ylim=(0, None))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    _save(figure, picture)
    return True


def _draw_methods(axes: Axes, figures: Figures, cost: Cost) -> None:
    styles = _styles(figures.models)
    for model in figures.models:
        color, marker = styles[model.name]
        own = [arm for arm in model.own("test") if arm.measured]
        line = "-" if model.sparse else ""
        size = 14 if model is figures.twin else 7
        label = "dense twin" if model is figures.twin else model.label
        _draw_line(axes, model, own, cost, color=color, marker=marker, linestyle=line,
                   markersize=size, label=label, zorder=3)  # fmt: skip
        drawn = [arm for arm in model.arms("test", "random") if arm.measured]
        _draw_line(axes, model, drawn, cost, color=color, marker=marker, linestyle="--",
                   markersize=5, markerfacecolor="white", label=f"{model.label}: random",
                   zorder=2)  # fmt: skip


def _draw_line(
    axes: Axes, model: Model, arms: Sequence[Arm], cost: Cost, **style: str | float
) -> None:
    points = [(cost(model, arm), arm.mean_dice()) for arm in arms]
    known = [(x, y) for x, y in points if x is not None]
    if known:
        axes.plot(*zip(*known, strict=True), **style)  # type: ignore[arg-type]


def _draw_baselines(left: Axes, right: Axes | None, figures: Figures) -> None:
    """Mark the networks of others: by time, and by a line where they have no such encoder."""
    for one, (color, marker) in zip(others(figures, "test"), _BASELINES, strict=False):
        dice = float(np.mean(list(one.by_case("dice").values())))
        left.axhline(dice, color=color, linewidth=1.2, linestyle=":", zorder=1, label=one.title)
        seconds = [row["seconds"] for row in one.data["rows"] if row.get("seconds") is not None]
        if right is not None and seconds:
            place = float(np.median(seconds))
            right.plot(place, dice, marker, color=color, markersize=10, label=one.title)


def _focus(left: Axes, right: Axes) -> None:
    """Cut off what is far below the best, and say so: the differences that matter are small."""
    values = _heights(left)
    low = max(values) - _SHOWN
    if min(values) >= low:
        return
    left.set_ylim(low, max(values) + 0.05 * _SHOWN)  # and with it the other one, which shares it
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 2}
    for axes in (left, right):
        below = sum(value < low for value in _heights(axes))
        said = "1 lies" if below == 1 else f"{below} lie"
        if below:
            axes.text(0.02, 0.02, f"{said} lower: see the table", transform=axes.transAxes,
                      bbox=ground, zorder=9)  # fmt: skip


def _heights(axes: Axes) -> list[float]:
    """Return the height of every point; a level line counts as one."""
    lines = [np.asarray(line.get_ydata(), dtype=float) for line in axes.lines]
    return [float(y) for line in lines for y in (line[:1] if np.ptp(line) == 0 else line)]


def _fit_times(axes: Axes) -> None:
    """Fit the axis of times to the points that are not cut off; logarithmic if they differ much."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low = axes.get_ylim()[0]
    points = [
        (float(x), float(y))
        for line in axes.lines
        for x, y in zip(np.asarray(line.get_xdata()), np.asarray(line.get_ydata()), strict=True)
    ]
    times = [x for x, y in points if y >= low]
    if not times:
        return
    if max(times) < _MUCH * min(times):
        margin = _MARGIN * (max(times) - min(times)) or min(times)
        axes.set_xlim(min(times) - margin, max(times) + margin)
        return
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _styles(models: Sequence[Model]) -> dict[str, tuple[str, str]]:
    """Give each model a colour and a marker; a second one of a method gets another."""
    styles: dict[str, tuple[str, str]] = {}
    further = iter(zip(_FURTHER, _FURTHER_MARKERS, strict=True))
    for model in models:
        if model.label in _COLORS:
            styles[model.name] = _COLORS[model.label], _MARKERS[model.label]
        else:
            styles[model.name] = next(further, ("#7F7F7F", "."))
    return styles


def _panels(
    count: int, size: tuple[float, float], shared: bool = True
) -> tuple[Figure, Sequence[Axes]]:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(
        1, count, figsize=size, layout="constrained", squeeze=False, sharey=shared
    )
    for axes in panels[0]:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.93")
        axes.set_axisbelow(True)
    return figure, list(panels[0])


def _save(figure: Figure, picture: Path) -> None:
    import matplotlib.pyplot as plt

    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)
    plt.close(figure)
