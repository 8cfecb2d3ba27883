"""The picture of a sweep: Dice, seconds and operations over the setting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_sparseseg.methods import METHODS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from napari_sparseseg.analysis.sweep import Sweep, SweepPoint

OWN = "own"
"""gid of the lines of the model's own rule, whose markers can be picked."""

RANDOM = "random"
"""gid of the lines of the random control."""

_PICK_RADIUS = 6  # points
_LEAST_DICE_SPAN = 0.01  # smaller differences shall look small
_HEADROOM = 1.1
_SMALL, _TINY = 8, 7  # points


@dataclass(frozen=True)
class _Palette:
    """Colours of a picture; those of the lines are Okabe and Ito's."""

    ground: str
    ink: str
    grid: str
    own: str
    random: str
    proposed: str


_LIGHT = _Palette("#ffffff", "#222222", "#dddddd", "#0072B2", "#D55E00", "#009E73")
_DARK = _Palette("#262930", "#f0f1f2", "#4a4e57", "#56B4E9", "#E69F00", "#1fc79b")


def draw_sweep(
    figure: Figure,
    sweep: Sweep,
    *,
    dark: bool = False,
    chosen: float | None = None,
    proposed: float | None = None,
) -> list[Axes]:
    """Draw three panels side by side: Dice, seconds and GMACs over the setting.

    Parameters
    ----------
    figure : Figure
        Cleared first.
    sweep : Sweep
        What to draw. Dice is the mean over the structures, to the reference if there is one.
    dark : bool
        Draw for a dark window.
    chosen : float, optional
        Setting to mark with a line.
    proposed : float, optional
        Setting to mark with a ring.

    Returns
    -------
    list of Axes
        The panels. The line of the own rule has the gid `OWN` and markers that can be picked;
        its points run from the largest setting to the smallest. That of the random control,
        dashed, has the gid `RANDOM`; it is in the first panel alone, for it runs as many tokens,
        and its seconds are no fair measure (see :class:`Sweep`).
    """
    palette = _DARK if dark else _LIGHT
    figure.clear()
    figure.set_layout_engine("constrained", w_pad=0.06)
    figure.set_facecolor(palette.ground)
    panels: tuple[tuple[str, Callable[[SweepPoint], float | None], bool], ...] = (
        (f"Dice to {'reference' if sweep.has_reference else 'dense'}", sweep.quality, True),
        ("Time of a run (s)", lambda point: point.seconds, False),
        ("Compute (GMACs)", lambda point: point.gmacs, False),
    )
    axes = [figure.add_subplot(1, len(panels), place + 1) for place in range(len(panels))]
    for panel, (title, value, with_random) in zip(axes, panels, strict=True):
        _prepare(panel, title, sweep.control, palette)
        if with_random and sweep.random:
            _plot(panel, sweep.random, value, RANDOM, palette)
        _plot(panel, sweep.points, value, OWN, palette)
        _mark(panel, sweep, value, chosen, proposed, palette)
    _widen(axes[0])
    for panel in axes[1:]:
        panel.set_ylim(0, panel.dataLim.y1 * _HEADROOM)
    _explain(figure, axes[0], sweep, chosen, proposed, palette)
    return axes


def _prepare(axes: Axes, title: str, control: str, palette: _Palette) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_facecolor(palette.ground)
    axes.set_title(title, fontsize=_SMALL, color=palette.ink, loc="left")
    axes.set_xlabel(control, fontsize=_SMALL, color=palette.ink)
    axes.tick_params(labelsize=_TINY, colors=palette.ink, length=2)
    axes.grid(color=palette.grid, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(palette.ink)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _plot(
    axes: Axes,
    points: Sequence[SweepPoint],
    value: Callable[[SweepPoint], float | None],
    gid: str,
    palette: _Palette,
) -> None:
    """Draw one line; a point without a value leaves a gap."""
    ordered = sorted(points, key=lambda point: -point.setting)
    values = [float("nan") if (v := value(point)) is None else v for point in ordered]
    own = gid == OWN
    (line,) = axes.plot(
        [point.setting for point in ordered],
        values,
        "o-" if own else "s--",
        color=palette.own if own else palette.random,
        linewidth=1.6 if own else 1.2,
        markersize=4.5 if own else 3,
        gid=gid,
    )
    if own:
        line.set_picker(True)
        line.set_pickradius(_PICK_RADIUS)


def _mark(
    axes: Axes,
    sweep: Sweep,
    value: Callable[[SweepPoint], float | None],
    chosen: float | None,
    proposed: float | None,
    palette: _Palette,
) -> None:
    if chosen is not None:
        axes.axvline(chosen, color=palette.ink, linewidth=1, linestyle=":", gid="chosen")
    for point in sweep.points:
        if point.setting == proposed and (height := value(point)) is not None:
            axes.plot(
                [point.setting], [height], "o", markersize=10, markerfacecolor="none",
                markeredgecolor=palette.proposed, markeredgewidth=1.6, gid="proposed",
            )  # fmt: skip


def _widen(axes: Axes) -> None:
    """Keep a Dice that hardly changes from filling the panel."""
    low, high = axes.get_ylim()
    if high - low < _LEAST_DICE_SPAN:
        middle = (low + high) / 2
        axes.set_ylim(middle - _LEAST_DICE_SPAN / 2, middle + _LEAST_DICE_SPAN / 2)


def _explain(
    figure: Figure,
    axes: Axes,
    sweep: Sweep,
    chosen: float | None,
    proposed: float | None,
    palette: _Palette,
) -> None:
    """Put the legend above the panels."""
    titles = {
        OWN: METHODS[sweep.method].title,
        RANDOM: "random control",
        "proposed": f"proposed: {proposed:g}" if proposed is not None else "",
        "chosen": f"chosen: {chosen:g}" if chosen is not None else "",
    }
    lines = {str(line.get_gid()): line for line in axes.get_lines()}
    shown = [gid for gid in titles if gid in lines]
    figure.legend(
        [lines[gid] for gid in shown],
        [titles[gid] for gid in shown],
        loc="outside upper left",
        ncols=len(shown),
        frameon=False,
        fontsize=_SMALL,
        labelcolor=palette.ink,
        handlelength=2,
        columnspacing=1.2,
    )
