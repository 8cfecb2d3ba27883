"""The picture of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backend_bases import MouseEvent, PickEvent
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from napari_sparseseg.analysis.curve import draw_sweep
from tests.analysis.sweeps import point, swept

OWN = [
    point(1.0, [1.0, 1.0]),
    point(0.3, [0.9, 0.8]),
    point(0.7, [0.99, 0.95]),
    point(0.1, [None, None]),
]
RANDOM = [point(p.setting, [0.5, 0.7], sparsifier="random") for p in OWN]
SIZES = [(900, 260), (500, 220)]


def make_figure(width: int = 900, height: int = 260) -> Figure:
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    FigureCanvasAgg(figure)
    return figure


def line(axes: Axes, gid: str) -> Line2D:
    (found,) = (one for one in axes.get_lines() if one.get_gid() == gid)
    return found


def gids(axes: Axes) -> list[object]:
    return [one.get_gid() for one in axes.get_lines()]


def values(axes: Axes, gid: str) -> np.ndarray:
    return np.asarray(line(axes, gid).get_ydata(), dtype=float)


def test_three_panels_show_dice_seconds_and_operations_with_units() -> None:
    axes = draw_sweep(make_figure(), swept(OWN, RANDOM))

    titles = [panel.get_title(loc="left") for panel in axes]
    assert titles == ["Dice to dense", "Time of a run (s)", "Compute (GMACs)"]
    assert [panel.get_xlabel() for panel in axes] == ["keep ratio"] * 3
    for panel in axes:
        assert list(line(panel, "own").get_xdata()) == [1.0, 0.7, 0.3, 0.1]
    np.testing.assert_allclose(values(axes[0], "own"), [1.0, 0.97, 0.85, np.nan])
    np.testing.assert_allclose(values(axes[1], "own"), [2.0, 1.7, 1.3, 1.1])
    np.testing.assert_allclose(values(axes[2], "own"), [10, 7, 3, 1])


def test_a_reference_takes_the_place_of_the_dense_twin() -> None:
    points = [point(1.0, [1.0, 1.0], [0.8, None]), point(0.5, [0.9, 0.9], [0.7, None])]
    axes = draw_sweep(make_figure(), swept(points))

    assert axes[0].get_title(loc="left") == "Dice to reference"
    np.testing.assert_allclose(values(axes[0], "own"), [0.8, 0.7])


def test_the_random_control_is_dashed_and_beside_dice_alone() -> None:
    axes = draw_sweep(make_figure(), swept(OWN, RANDOM))

    random = line(axes[0], "random")
    assert random.get_linestyle() == "--"
    assert line(axes[0], "own").get_linestyle() == "-"
    np.testing.assert_allclose(values(axes[0], "random"), [0.6] * 4)
    assert ["random" in gids(panel) for panel in axes] == [True, False, False]
    assert "random" not in gids(draw_sweep(make_figure(), swept(OWN))[0])


@pytest.mark.parametrize("panel", [0, 1, 2])
def test_a_click_on_a_marker_tells_its_setting(panel: int) -> None:
    figure = make_figure()
    axes = draw_sweep(figure, swept(OWN, RANDOM))
    figure.canvas.draw()
    picked: list[tuple[object, float]] = []

    def on_pick(event: PickEvent) -> None:
        (index,) = event.ind
        picked.append((event.artist.get_gid(), float(event.artist.get_xdata()[index])))

    figure.canvas.mpl_connect("pick_event", on_pick)
    x, y = axes[panel].transData.transform((0.3, values(axes[panel], "own")[2]))
    for far in (4, 40):  # pixels; six points are 8.3
        figure.pick(MouseEvent("button_press_event", figure.canvas, x, y - far, button=1))

    assert picked == [("own", 0.3)]


def test_marks_lie_at_the_chosen_and_the_proposed_setting() -> None:
    axes = draw_sweep(make_figure(), swept(OWN, RANDOM), chosen=0.45, proposed=0.3)

    for panel in axes:
        assert list(line(panel, "chosen").get_xdata()) == [0.45, 0.45]
        (ring,) = line(panel, "proposed").get_xydata()
        assert tuple(ring) == (0.3, values(panel, "own")[2])
    bare = draw_sweep(make_figure(), swept(OWN))
    assert all(gids(panel) == ["own"] for panel in bare)


def test_a_figure_is_drawn_anew() -> None:
    figure = make_figure()
    draw_sweep(figure, swept(OWN, RANDOM), chosen=0.5)
    axes = draw_sweep(figure, swept(OWN))

    assert figure.axes == axes and len(figure.legends) == 1


def test_a_tiny_difference_of_dice_looks_tiny_and_bars_start_at_nothing() -> None:
    axes = draw_sweep(make_figure(), swept([point(1.0, [1.0]), point(0.5, [0.9999])]))

    low, high = axes[0].get_ylim()
    assert high - low >= 0.01
    assert [panel.get_ylim()[0] for panel in axes[1:]] == [0, 0]


@pytest.mark.parametrize("size", SIZES)
def test_everything_fits_and_no_text_covers_another(size: tuple[int, int]) -> None:
    figure = make_figure(*size)
    axes = draw_sweep(figure, swept(OWN, RANDOM), chosen=0.35, proposed=0.3)
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]

    boxes = [figure.legends[0].get_window_extent(renderer)]
    for panel in axes:
        boxes.append(panel._left_title.get_window_extent(renderer))
        boxes.append(panel.xaxis.label.get_window_extent(renderer))
        boxes.append(panel.get_window_extent(renderer))
        boxes += ticks(panel, renderer)
    for box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= size[0] and box.y1 <= size[1]
    assert [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])] == []


def ticks(panel: Axes, renderer: object) -> list[object]:
    shown = []
    for axis in (panel.xaxis, panel.yaxis):
        low, high = sorted(axis.get_view_interval())
        for label, place in zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=True):
            if low <= place <= high:
                shown.append(label.get_window_extent(renderer))  # type: ignore[arg-type]
    return shown


def luminance(color: object) -> float:
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in to_rgb(color)  # type: ignore[arg-type]
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: object, other: object) -> float:
    """Ratio after WCAG 2: 4.5 for text, 3 for lines."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_lines_stand_out_from_the_ground(dark: bool) -> None:
    figure = make_figure()
    axes = draw_sweep(figure, swept(OWN, RANDOM), dark=dark, chosen=0.4, proposed=0.3)
    ground = figure.get_facecolor()

    assert (luminance(ground) < 0.1) == dark
    texts: Sequence[object] = [
        *(text.get_color() for text in figure.legends[0].get_texts()),
        *(panel.xaxis.label.get_color() for panel in axes),
        *(label.get_color() for panel in axes for label in panel.get_yticklabels()),
    ]
    assert min(contrast(color, ground) for color in texts) >= 4.5
    ring = line(axes[0], "proposed").get_markeredgecolor()
    lines = [line(axes[0], gid).get_color() for gid in ("own", "random", "chosen")]
    assert min(contrast(color, ground) for color in (*lines, ring)) >= 3
