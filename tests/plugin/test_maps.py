"""What the maps say, against traces made by hand: values, legends, counts and words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_sparseseg import colors, maps, words
from napari_sparseseg.methods import METHODS
from napari_sparseseg.tokens import TokenGrid, TokenTrace

from .traces import make_trace, muting_trace, skipping_trace

GRID = TokenGrid((5, 4, 3), (8, 8, 8), np.diag([8.0, 8, 8, 1]))
TRACES: list[TokenTrace] = [
    make_trace(GRID, "stp"), make_trace(GRID, "dtop"), skipping_trace(), muting_trace(),
]  # fmt: skip


def counts(entries: list[maps.Entry]) -> dict[str, Any]:
    return {entry.text: entry.count for entry in entries}


@pytest.mark.parametrize(("method", "word"), [("stp", "pruned"), ("dtop", "exited")])
def test_kept_map_tells_where_tokens_left_in_the_words_of_the_method(method: str, word: str):
    trace = make_trace(GRID, method)

    states, entries = maps.kept_map(trace), maps.kept_legend(trace)

    assert counts(entries) == {
        **{f"{word} at stage {s}": (trace.left_stage == s).sum() for s in (1, 2, 3)},
        "kept": trace.kept.sum(),
    }
    assert all((states == entry.value).sum() == entry.count > 0 for entry in entries)
    assert np.array_equal(states == 0, trace.air)


def test_kept_map_of_muted_queries():
    assert counts(maps.kept_legend(muting_trace())) == {"muted at stage 1": 2, "kept": 5}


def test_tokens_that_sat_out_some_blocks_have_not_left():
    trace = skipping_trace()

    legend = counts(maps.kept_legend(trace))

    assert legend["kept"] == 1
    assert legend["skipped at times"] == 9
    assert (maps.kept_map(trace) == 0).sum() == 2


def test_a_stage_that_decides_on_one_block_goes_by_the_block():
    trace = skipping_trace()

    assert words.stage_choices(trace)[0] == "before block 3"
    assert words.stage_choices(make_trace(GRID))[0] == "1, after 2 blocks"
    assert "gate score at block 4" in maps.token_table(trace, maps.scores(trace), 2)


def test_depth_counts_blocks_and_air_is_not_0_blocks():
    trace = skipping_trace()
    nothing_ran = TokenTrace(
        trace.grid, "none", (0,), trace.air, trace.importance[:1],
        (~trace.air).astype(np.uint8), np.zeros_like(trace.ran),
    )  # fmt: skip

    assert counts(maps.depth_legend(trace)) == {"4 of 6 blocks": 9, "6 of 6 blocks": 1}
    assert counts(maps.depth_legend(nothing_ran)) == {"0 of 6 blocks": 10}
    assert np.array_equal(maps.depth_map(nothing_ran) == maps.AIR, trace.air)


def test_reactivations_are_counted():
    trace = skipping_trace()

    values = maps.reactivation_map(trace)

    assert counts(maps.reactivation_legend(trace)) == {"never": 5, "once": 3, "twice": 2}
    assert np.array_equal(values == maps.AIR, trace.air)
    assert [(values == n).sum() for n in (0, 1, 2)] == [5, 3, 2]


def test_scores_are_ranks_only_where_their_size_means_nothing():
    ranked, sized = make_trace(GRID, "stp"), make_trace(GRID, "dtop")

    np.testing.assert_array_equal(maps.scores(ranked), ranked.percentile())
    np.testing.assert_array_equal(maps.scores(sized), sized.importance)


def test_dependencies_are_the_shares_of_heads_that_kept_them():
    trace = muting_trace()

    shares = maps.dependency_map(trace, 4).ravel()

    np.testing.assert_array_equal(shares, [np.nan, 0.5, 0.5, 0, 1, 0, 0, 0])
    assert words.dependency_note(trace, 4) == "Token 5 attended to 3 of 7 tokens."


def test_token_that_attended_to_nothing_is_told_in_words():
    trace = muting_trace()

    assert np.isnan(maps.dependency_map(trace, 1)).all()
    assert words.dependency_note(trace, 1) == (
        "The query of token 2 was pruned: it attended to nothing."
    )
    assert "Token 1 is air" in words.dependency_note(trace, 0)


def test_nearest_token_that_attended_is_chosen():
    trace = muting_trace()
    distance = np.arange(8.0).reshape(trace.grid.shape)

    assert maps.nearest_attending(trace, distance) == 3
    assert maps.nearest_attending(trace, -distance) == 7
    assert maps.nearest_attending(skipping_trace(), np.arange(12.0).reshape(2, 3, 2)) == 2


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace.method)
def test_every_declared_map_can_be_drawn_with_a_colour_for_each_value(trace: TokenTrace):
    for view in trace.views:
        values = maps.values_of(trace, view.kind, 1, 5, maps.scores(trace))
        assert values.shape == trace.grid.shape
        entries = maps.legend_of(trace, view.kind)
        if view.kind in maps.SHADED:
            continue
        shown = {entry.value: entry.count for entry in entries}
        clear = 0 if view.kind == "kept" else maps.AIR
        found, number = np.unique(values[values != clear], return_counts=True)
        assert {v: n for v, n in shown.items() if n} == dict(zip(found, number, strict=True))
        assert len({colors.over_grey(entry.color) for entry in entries}) == len(entries)


def test_every_kind_that_a_method_declares_has_a_map():
    assert {view.kind for method in METHODS.values() for view in method.views} == set(maps.KINDS)


def test_token_is_described_in_the_words_of_its_method():
    def row(trace: TokenTrace, token: int, stage: int = 1) -> dict[str, Any]:
        table = maps.token_table(trace, maps.scores(trace), stage)
        return {name: values[token] for name, values in table.items()}

    exited = make_trace(GRID, "dtop")
    token = int(np.flatnonzero(exited.left_stage == 2)[0])
    confidence = exited.importance[0].flat[token]
    assert words.describe(row(exited, token), "core") == (
        f"Token {token + 1}: exited at stage 2, 4 of 8 blocks\n"
        f"confidence at stage 1: {confidence:.2f}\nStructure: core"
    )
    back = words.describe(row(skipping_trace(), 9), None)
    assert back.startswith("Token 10: skipped at times, 4 of 6 blocks, reactivated twice\n")
    assert "reactivated" not in words.describe(row(skipping_trace(), 2), None)
    assert words.describe(row(skipping_trace(), 0), None) == (
        "Token 1: air, 0 of 6 blocks\nStructure: none"
    )
    assert words.describe(None, "core") == ""


def test_blocks_saved_counts_what_ran():
    trace = make_trace(GRID)
    tokens = np.count_nonzero(~trace.air)

    assert maps.blocks_saved(trace) == pytest.approx(1 - trace.depth.sum() / (8 * tokens))


@pytest.mark.parametrize(
    ("sparsifier", "setting", "expected"),
    [
        ("stp", {"name": "keep ratio", "value": 0.5}, "STP + MTA, keep ratio 0.5"),
        ("random", {"name": "keep ratio", "value": 0.05},
         "STP + MTA, control random, keep ratio 0.05"),
        ("none", None, "STP + MTA, control no encoder"),
    ],
)  # fmt: skip
def test_origin_names_method_control_and_setting(
    sparsifier: str, setting: dict[str, Any] | None, expected: str
):
    report = {"method": "stp", "sparsifier": sparsifier, "setting": setting}

    assert words.origin(report) == expected
