"""The picture: time of every arm on every scan, and growth with the tokens that ran."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.arms import ARMS
from benchmarks.markdown import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")  # Okabe and Ito's, one per arm


def draw(result: Result, picture: Path) -> None:
    """Draw both panels.

    Parameters
    ----------
    result : dict
        JSON of a measurement with "wall" and "growth".
    picture : Path
        PNG file to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(
        1, 2, figsize=(13, 5), layout="constrained", width_ratios=(3, 2)
    )
    _draw_arms(left, result["wall"])
    _draw_growth(right, result["growth"])
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def _draw_arms(axes: Axes, wall: Result) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    height = 1 / (len(ARMS) + 1)
    for index, ((arm, title), color) in enumerate(zip(ARMS.items(), _COLORS, strict=True)):
        spreads = [case["arms"][arm]["seconds"] for case in wall.values()]
        medians = [s["median"] for s in spreads]
        reach = [
            [s["median"] - s["min"] for s in spreads],
            [s["max"] - s["median"] for s in spreads],
        ]
        places = np.arange(len(wall)) + index * height
        axes.barh(places, medians, height, xerr=reach, color=color, label=title, ecolor="0.3")
        for place, spread in zip(places, spreads, strict=True):
            label = (
                f"{spread['median']:.2g} s"
                if spread["median"] < 10
                else (f"{spread['median']:.0f} s")
            )
            axes.annotate(
                label, (spread["max"], place), (4, 0), textcoords="offset points", va="center",
                fontsize=9,
            )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.15)
    axes.set_yticks(np.arange(len(wall)) + height * (len(ARMS) - 1) / 2, list(wall))
    axes.invert_yaxis()
    axes.set(title="Whole volume, median and range", xlabel="seconds (logarithmic)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_growth(axes: Axes, growth: Result) -> None:
    tokens = np.array([row["token_blocks"] for row in growth["rows"]])
    ends = np.array([0, tokens.max() * 1.05])
    titles = {"total": ("whole run", "o", _COLORS[1]), "network": ("network", "s", _COLORS[0])}
    for part, (title, marker, color) in titles.items():
        fit = growth["fits"][part]
        seconds = [row["parts"][part] for row in growth["rows"]]
        label = f"{title}, R² = {fit['r2']:.3f}"
        axes.plot(tokens, seconds, marker, color=color, label=label)
        axes.plot(ends, fit["intercept"] + fit["slope"] * ends, color=color, linewidth=1)
    axes.set(title="Growth", xlabel="token-blocks that ran", ylabel="seconds")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
