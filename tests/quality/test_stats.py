"""Statistics over patients, each worked by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.quality.figures import Arm, Figures, case_means, lacking
from benchmarks.quality.stats import holm, over_seeds, paired, spread, time_ratio
from tests.quality.made_up import arm, measured, model, row


def by_case(*values: float) -> dict[str, float]:
    return {f"case_{n}": value for n, value in enumerate(values)}


def test_spread() -> None:
    found = spread([0.8, 0.6, 0.1])
    assert found is not None
    assert (found.mean, found.median, found.count) == (pytest.approx(0.5), 0.6, 3)
    assert found.sd == pytest.approx(math.sqrt((0.09 + 0.01 + 0.16) / 2))


def test_spread_of_one_patient_and_of_none() -> None:
    one = spread([0.8])
    assert one is not None
    assert one.sd is None
    assert spread([]) is None


def test_signed_ranks_by_hand() -> None:
    """Negative ranks sum to 4: 7 of the 64 sign patterns are as low, on either side."""
    test = paired(by_case(0.51, 0.52, 0.53, 0.46, 0.55, 0.56), by_case(*[0.5] * 6))
    assert test is not None
    assert test.p == pytest.approx(2 * 7 / 64)
    assert test.gain == pytest.approx(0.025)
    assert test.mean_gain == pytest.approx(0.13 / 6)
    assert not test.differs


def test_all_of_one_sign() -> None:
    first = by_case(*[0.8 + 0.001 * n for n in range(8)])
    test, back = paired(first, by_case(*[0.7] * 8)), paired(by_case(*[0.7] * 8), first)
    assert test is not None
    assert back is not None
    assert test.p == back.p == pytest.approx(2 / 2**8)
    assert test.differs
    assert back.gain == -test.gain < 0


def test_only_patients_of_both_count() -> None:
    test = paired({"a": 0.5, "b": 0.7}, {"b": 0.6, "c": 0.1})
    assert test is not None
    assert (test.count, test.gain, test.p) == (1, pytest.approx(0.1), None)
    assert paired({"a": 0.5}, {"b": 0.5}) is None


def test_five_pairs_cannot_be_tested() -> None:
    five, six = (paired(by_case(*[0.8] * n), by_case(*[0.7] * n)) for n in (5, 6))
    assert five is not None
    assert six is not None
    assert five.p is None
    assert not five.differs
    assert six.p is not None


def test_equal_arms_do_not_differ_by_the_last_digits_of_a_mean() -> None:
    value = 0.1 + 0.2
    drawn = over_seeds([by_case(*[value] * 8)] * 3)
    test = paired(drawn, by_case(*[0.3] * 8))
    assert test is not None
    assert (test.gain, test.p) == (0.0, 1.0)


def test_seeds_are_averaged_patient_by_patient() -> None:
    assert over_seeds([{"a": 0.2, "b": 0.4}, {"a": 0.4}]) == {"a": pytest.approx(0.3)}
    assert over_seeds([]) == {}


def test_holm_by_hand() -> None:
    """0.005 <= 0.05 / 4, 0.01 <= 0.05 / 3, but 0.03 > 0.05 / 2, where 0.02 passes."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]
    assert holm([0.02, 0.01, 0.04, 0.005]) == [True] * 4
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_keeps_the_smallest(ps: list[float]) -> None:
    """Between Bonferroni and no correction, and never a larger p without a smaller one."""
    kept = holm(ps)
    for p, keeps in zip(ps, kept, strict=True):
        assert not keeps or p <= 0.05
        assert keeps or p > 0.05 / len(ps)
        assert not keeps or all(k for q, k in zip(ps, kept, strict=True) if q < p)


def test_time_ratio_is_taken_pair_by_pair() -> None:
    """Ratios 1 to 5; the median times alone would give 8 / 2."""
    found = time_ratio([8, 4, 2, 2, 1], [8, 8, 6, 8, 5])
    assert found is not None
    assert (found.low, found.median, found.high) == (2, 3, 4)
    assert time_ratio([], []) is None


def test_a_class_that_the_truth_lacks_counts_for_nothing() -> None:
    rows = [row("a", [0.8, None]), row("b", [0.6, 0.2]), row("c", [None, None])]
    assert case_means(rows) == {"a": 0.8, "b": pytest.approx(0.4)}


def test_a_class_that_only_the_prediction_lacks_is_counted() -> None:
    rows = [row("a", [0.8, 0.0], hd95=[1.0, None]), row("b", [0.8, None], hd95=[1.0, None])]
    assert lacking(rows) == 1


def test_an_arm_joins_its_seeds() -> None:
    runs = ((row("a", [0.2]), row("b", [0.4])), (row("a", [0.4]), row("b", [0.8])))
    drawn = Arm("random", 0.5, 0.5, 0.5, True, runs)
    assert drawn.by_case() == {"a": pytest.approx(0.3), "b": pytest.approx(0.6)}
    assert drawn.mean_dice() == pytest.approx(0.45)
    assert drawn.by_case("hd95") == {"a": pytest.approx(7), "b": pytest.approx(4)}
    assert drawn.mean("gmacs", "encoder") == 6
    assert drawn.mean("gmacs", "unknown") is None


def test_saved_is_against_what_the_dense_twin_ran() -> None:
    data = measured("hippocampus-mr")
    data["models"] = {
        "hippocampus-mr-dense": model("dense", [arm("dense", 1.0, [row("a", [0.8, 0.8], 8.0)])]),
        "hippocampus-mr-stp": model("stp", [arm("stp", 0.5, [row("a", [0.7, 0.8], 2.0)])]),
    }
    figures = Figures(data)
    half = figures.sparse[0].own("test")[0]
    assert figures.saved(half, "test") == pytest.approx(0.75)
    test = figures.against_twin(half, "test")
    assert test is not None
    assert test.gain == pytest.approx(-0.05)
    assert figures.saved(half, "validation") is None


def test_the_shown_arm_is_the_recommended_one_else_the_default() -> None:
    figures = Figures(measured("hippocampus-mr"))
    figures.data["chosen"]["hippocampus-mr-stp"]["setting"] = 0.3
    shown = {m.method: figures.shown(m, "test") for m in figures.models}
    assert {name: found and found.ratio for name, found in shown.items()} == {
        "dense": 1.0, "stp": 0.3, "dtop": 0.5, "svit": 0.5, "apformer": 0.5
    }  # fmt: skip
    del figures.data["chosen"]
    stp = figures.shown(figures.sparse[0], "test")
    assert stp is not None
    assert stp.ratio == 0.5


def test_a_recommended_threshold_is_shown_as_it_was_measured() -> None:
    """Not at the ratio whose threshold lies nearest: that one may lose what this one does not."""
    figures = Figures(measured("hippocampus-mr"))
    name = "hippocampus-mr-dtop"
    figures.data["chosen"][name]["setting"] = 0.62
    rows = [row("a", [0.9, 0.9])]
    figures.data["defaults"] = {name: [{"set": "test", "setting": 0.62, "rows": rows}]}
    dtop = next(m for m in figures.models if m.method == "dtop")

    shown = figures.shown(dtop, "test")

    assert shown is not None
    assert (shown.setting, shown.mean_dice()) == (0.62, pytest.approx(0.9))
    elsewhere = figures.shown(dtop, "validation")
    assert elsewhere is not None
    assert elsewhere.setting != 0.62
