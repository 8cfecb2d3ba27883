"""The arithmetic of the benchmark of the window; the window itself is not opened here."""

from __future__ import annotations

import pytest

from benchmarks.viewer import ALONE, beyond, figures, points


def test_points_are_places_of_the_slider_around_its_middle() -> None:
    # nine places, 10.0 to 14.0: the middle one is 12.0
    assert points(10.0, 0.5, 9, 4) == [11.0, 11.5, 12.0, 12.5, 13.0]
    assert len(points(-150.0, 0.75, 400, 60)) == 61
    assert points(0.0, 1.0, 5, 4) == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_figures_are_milliseconds() -> None:
    # 0 to 100 ms: 95 of 100 intervals lie below the 95th percentile
    seconds = [n / 1000 for n in range(101)]

    assert figures(seconds[::-1]) == {"median_ms": 50.0, "p95_ms": 95.0, "steps": 101}


def test_rows_stand_beside_the_scan_alone() -> None:
    rows = {ALONE: figures([0.010, 0.012, 0.030]), "kept": figures([0.020, 0.015, 0.018])}

    assert beyond(rows) == pytest.approx({ALONE: 0.0, "kept": 6.0})
