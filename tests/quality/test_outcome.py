"""Figures of a run that tables are made from: worked examples."""

from __future__ import annotations

import pytest

from benchmarks.quality.outcome import kept_share, mean_dice


def test_kept_share_leaves_out_air() -> None:
    assert kept_share({"total": 10, "air": 6, "kept": 1, "pruned": 3, "exited": 0}) == 0.25


def test_the_mean_is_taken_over_classes_first() -> None:
    rows = [{"dice": [0.5, 0.7]}, {"dice": [0.9, None]}]

    assert mean_dice(rows) == pytest.approx((0.6 + 0.9) / 2)
