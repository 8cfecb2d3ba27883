"""The pictures: drawn where there is something to draw, with every method in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

from matplotlib.figure import Figure

from benchmarks.quality import plots
from benchmarks.quality.figures import Figures
from tests.quality.made_up import measured

Drawn = list[Figure]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Every figure that gets saved."""
    kept: Drawn = []
    save = Figure.savefig

    def keep(self: Figure, *args: Any, **options: Any) -> None:
        kept.append(self)
        save(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return kept


def lines(figure: Figure, panel: int) -> dict[str, list[tuple[float, float]]]:
    return {
        str(x.get_label()): list(zip(*x.get_data(), strict=True)) for x in figure.axes[panel].lines
    }


def test_dice_over_cost(tmp_path: Path, drawn: Drawn) -> None:
    figures = Figures(measured("headneck-ct"))
    assert plots.draw_comparison(figures, tmp_path / "images" / "a.png")
    assert (tmp_path / "images" / "a.png").stat().st_size > 10_000
    by_cost, by_time = (lines(drawn[0], panel) for panel in (0, 1))
    methods = {"stp", "dtop", "svit", "apformer"}
    assert set(by_cost) == {
        "dense twin", *methods, *(f"{name}: random" for name in methods),
        "MONAI UNETR, patch 16", "MONAI DynUNet",
    }  # fmt: skip
    assert set(by_time) == {"dense twin", *methods, "MONAI UNETR, patch 16", "MONAI DynUNet"}
    assert [x for x, _ in by_cost["stp"]] == [6.0, 4.5, 3.5, 2.5, 1.5]
    assert len(by_cost["dtop"]) == 4  # one ratio is out of reach
    assert len(by_cost["stp: random"]) == 4
    stp = figures.models[1].own("test")[0]
    assert by_cost["stp"][0][1] == pytest.approx(stp.mean_dice())
    assert by_time["dense twin"][0][0] == pytest.approx(0.29)
    assert by_time["MONAI DynUNet"][0][0] == pytest.approx(0.9)


def test_the_colours_of_lines_differ(tmp_path: Path, drawn: Drawn) -> None:
    plots.draw_comparison(Figures(measured("headneck-ct")), tmp_path / "a.png")
    solid = [x for x in drawn[0].axes[0].lines if "random" not in str(x.get_label())]
    assert len({x.get_color() for x in solid}) == len(solid)


def test_without_times_the_panel_says_so(tmp_path: Path, drawn: Drawn) -> None:
    data = measured("headneck-ct")
    del data["times"], data["baselines"]
    assert plots.draw_comparison(Figures(data), tmp_path / "a.png")
    assert [text.get_text() for text in drawn[0].axes[1].texts] == ["times not measured yet"]


def test_reliability(tmp_path: Path, drawn: Drawn) -> None:
    data = measured("headneck-ct")
    data["calibration"]["headneck-ct-stp"]["bins"][0]["voxels"] = 0  # an empty bin has no place
    assert plots.draw_reliability(Figures(data), tmp_path / "a.png")
    curves = lines(drawn[0], 0)
    assert set(curves) == {"perfect", "dense", "stp", "dtop", "svit", "apformer"}
    assert curves["dense"][0] == pytest.approx((0.35, 0.28))
    assert len(curves["stp"]) == len(curves["dense"]) - 1


def test_training_curves_follow_each_other(tmp_path: Path, drawn: Drawn) -> None:
    for run in ("first", "second"):
        rows = ["step,dice,cross_entropy", *(f"{10 * n},{1 / n},{2 / n}" for n in range(1, 21))]
        (tmp_path / f"{run}.csv").write_text("\n".join(rows) + "\n")
    names = ["first", "lost", "second"]
    assert plots.draw_training(names, tmp_path, tmp_path / "a.png")
    curves = lines(drawn[0], 0)
    assert {"first", "second"} < set(curves)
    assert curves["first"][0][0] == 50  # the middle of nine lines
    assert curves["first"][0][1] == pytest.approx(sum(1 / n for n in range(1, 10)) / 9)
    assert curves["second"][0][0] == 200 + 50


@pytest.mark.parametrize(
    "draw",
    [
        lambda figures, path: plots.draw_comparison(figures, path),
        lambda figures, path: plots.draw_reliability(figures, path),
        lambda figures, path: plots.draw_training(["lost"], path.parent, path),
    ],
)
def test_nothing_is_drawn_of_nothing(draw: Callable[[Figures, Path], bool], tmp_path: Path) -> None:
    data = measured("headneck-ct")
    del data["models"], data["calibration"]
    assert not draw(Figures(data), tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_what_lies_far_below_is_cut_off_and_counted(tmp_path: Path, drawn: Drawn) -> None:
    data = measured("headneck-ct")
    (worst,) = [
        arm
        for arm in data["models"]["headneck-ct-stp"]["arms"]
        if (arm["set"], arm["sparsifier"], arm["ratio"]) == ("test", "stp", 0.1)
    ]
    for row in worst["rows"]:
        row["dice"] = [0.1] * len(row["dice"])
    plots.draw_comparison(Figures(data), tmp_path / "a.png")
    left = drawn[0].axes[0]
    values = [y for line in left.lines for y in np.asarray(line.get_ydata(), dtype=float)]
    assert left.get_ylim()[0] == pytest.approx(max(values) - 0.15)
    below = sum(y < max(values) - 0.15 for y in values)
    assert below >= 1
    assert [text.get_text() for text in left.texts] == [f"{below} lie lower: see the table"]


def test_a_rival_far_below_is_counted_once_in_each_panel(tmp_path: Path, drawn: Drawn) -> None:
    data = measured("headneck-ct")
    plots.draw_comparison(Figures(data), tmp_path / "a.png")
    before = [_cut_off(axes) for axes in drawn[0].axes]
    for row in data["baselines"]["monai-unetr"]["rows"]:
        row["dice"] = [0.1] * len(row["dice"])
    plots.draw_comparison(Figures(data), tmp_path / "a.png")
    assert [_cut_off(axes) for axes in drawn[1].axes] == [n + 1 for n in before]


def _cut_off(axes: Any) -> int:
    return sum(int(text.get_text().split()[0]) for text in axes.texts)
