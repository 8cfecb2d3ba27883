"""Errors by what became of their tokens: a worked example, and sums that hold for any map."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sparseseg.analysis.attribution import (
    Attribution,
    Share,
    StructureTokens,
    attribute,
    structure_tokens,
)
from tests.analysis.rows import RAN, index_of, scan_of, trace_of


def test_by_hand() -> None:
    """Four tokens of 8 voxels: air, two pruned at stage 1 and 2, one kept.

    Of six errors 1 is in air, 3 in the first pruned token and 2 in the kept one; the dense twin
    makes all of those in the kept one and one of the three.
    """
    trace = trace_of(["air", "early", "late", "kept"])
    errors, dense = scan_of(trace), scan_of(trace)
    errors[0, 0, 0] = True
    errors[2, 0, :] = errors[3, 1, 0] = True
    errors[6, :, 1] = True
    dense[6, :, 1] = dense[3, 1, 0] = dense[5, 0, 0] = True

    found = attribute(trace, index_of(trace), errors, dense)

    assert found.shares == (
        Share("air", 1, 8, 1, 1),
        Share("pruned at stage 1", 1, 8, 3, 2),
        Share("pruned at stage 2", 1, 8, 0, 0),
        Share("kept", 1, 8, 2, 0),
    )
    early = found.shares[1]
    assert (found.volume_share(early), found.error_share(early)) == (0.25, 0.5)
    assert found.rate(early) == 3 / 8
    assert found.verdict == (
        "Tokens that did not run every block hold 67 % of the volume outside air and 60 % of the "
        "errors in it: errors are as frequent there as elsewhere. The dense twin makes 50 % of "
        "all errors too: leaving tokens out caused some of them (3 new ones, 2 of these in "
        "tokens that did not run every block)."
    )


def test_without_the_dense_twin_nothing_is_called_new() -> None:
    trace = trace_of(["early", "kept"])
    errors = scan_of(trace)
    errors[0] = True

    found = attribute(trace, index_of(trace), errors)
    assert [share.new_errors for share in found.shares] == [None, None]
    assert found.verdict.endswith(
        "50 % of the volume outside air and 100 % of the errors in it: errors gather there."
    )


def test_the_words_are_those_of_the_method() -> None:
    trace = trace_of(["some", "kept"], method="svit")

    shares = attribute(trace, index_of(trace), scan_of(trace)).shares
    assert [share.fate for share in shares] == ["kept", "skipped at times"]


def test_verdicts_that_need_no_figures() -> None:
    pruned, dense = trace_of(["early", "kept"]), trace_of(["kept", "air"])
    none, one = scan_of(pruned), scan_of(pruned)
    one[3, 0, 0] = True

    assert attribute(pruned, index_of(pruned), none).verdict == "No voxel differs."
    assert attribute(dense, index_of(dense), one).verdict == (
        "Every token with tissue ran all blocks, and 1 voxel differs."
    )


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (0, "The dense twin makes all errors too: leaving tokens out caused none."),
        (2, "80 % of all errors too: leaving tokens out caused few of them (2 new ones, 2 of"),
        (9, "10 % of all errors too: leaving tokens out caused most of them (9 new ones, 9 of"),
    ],
)
def test_the_verdict_tells_whether_pruning_is_to_blame(new: int, expected: str) -> None:
    shares = (Share("kept", 8, 900, 0, 0), Share("pruned at stage 1", 1, 100, 10, new))

    verdict = Attribution(shares).verdict
    assert "hold 10 % of the volume outside air and 100 % of the errors" in verdict
    assert expected in verdict


def test_errors_that_keep_away_are_told() -> None:
    shares = (Share("kept", 5, 500, 90, None), Share("pruned at stage 1", 5, 500, 10, None))

    assert Attribution(shares).verdict.endswith("10 % of the errors in it: errors are rarer there.")


def test_all_that_differs_from_the_dense_twin_is_put_down_to_pruning_wherever_it_lies() -> None:
    shares = (Share("kept", 5, 500, 90, None), Share("pruned at stage 1", 5, 500, 10, None))

    assert Attribution(shares, from_twin=True).verdict == (
        "Every difference from the dense twin comes from leaving tokens out. Tokens that did not "
        "run every block hold 50 % of the volume outside air and 10 % of the differences in it: "
        "differences are rarer there."
    )


@settings(max_examples=50, deadline=None)
@given(
    fates=st.lists(st.sampled_from(sorted(RAN)), min_size=1, max_size=9),
    patch=st.integers(1, 4),
    seed=st.integers(0, 999),
    density=st.sampled_from((0.0, 0.1, 0.9)),
)
def test_every_voxel_and_error_is_in_one_share(
    fates: list[str], patch: int, seed: int, density: float
) -> None:
    trace = trace_of(fates, patch)
    rng = np.random.default_rng(seed)
    errors, dense = rng.random((2, *scan_of(trace).shape)) < density
    found = attribute(trace, index_of(trace), errors, dense)

    assert sum(share.tokens for share in found.shares) == len(fates)
    assert sum(share.voxels for share in found.shares) == errors.size
    assert sum(share.errors for share in found.shares) == errors.sum()
    assert sum(share.new_errors or 0 for share in found.shares) == (errors & ~dense).sum()
    assert sum(map(found.volume_share, found.shares)) == pytest.approx(1)
    assert sum(map(found.error_share, found.shares)) == pytest.approx(1 if errors.any() else 0)
    figures = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [share["errors"] for share in figures["shares"]] == [s.errors for s in found.shares]


def test_structures_by_hand() -> None:
    """The core lies in the tokens left at stage 1 and 2, the shell in all but the first."""
    trace = trace_of(["kept", "early", "late", "some", "air", "kept"])
    labels = scan_of(trace).astype(np.uint8)
    labels[3:, 0, 0] = 1
    labels[2:5, 1, 1] = 2

    found = structure_tokens(
        trace, index_of(trace), labels, ("background", "shell", "core", "absent")
    )
    assert found == (
        StructureTokens("shell", tokens=5, left=(1, 1), sometimes=1, kept=1, air=1),
        StructureTokens("core", tokens=2, left=(1, 1), sometimes=0, kept=0, air=0),
    )
