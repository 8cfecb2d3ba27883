"""Safety notes: worked examples, and what no note may name."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sparseseg.analysis.notes import LOW_CONFIDENCE, SafetyNote, safety_notes
from napari_sparseseg.errors import InputError
from napari_sparseseg.session import Segmentation
from napari_sparseseg.tokens import TokenGrid, TokenTrace
from napari_sparseseg.volume import Volume
from tests.analysis.rows import RAN, index_of, scan_of, trace_of

CLASSES = ("background", "shell", "core", "spot")
COLORS = ("#000000", "#cd6d4f", "#1fa35c", "#66b2ff")


def answer(labels: np.ndarray, trace: TokenTrace | None) -> Segmentation:
    """Give the answer of a run over a scan of 1 mm voxels."""
    return Segmentation(Volume(labels, np.eye(4), "scan"), CLASSES, COLORS, {}, trace)


def sure_of(trace: TokenTrace, *confidence: float) -> TokenTrace:
    values = np.array(confidence, dtype=np.float32).reshape(trace.grid.shape)
    return replace(trace, confidence=values)


def by_hand() -> tuple[Segmentation, Segmentation]:
    """Seven tokens of 2 x 2 x 2 voxels in a row, which differ in all but the last.

    The dense twin has a core of 8 voxels, 3 in token 0 and 2 in token 1, which the result takes
    for shell, and 3 in token 2, which is kept and takes them for shell too. Of the shell of 20
    voxels elsewhere, the result lacks 2 in token 4. Token 3 is air.
    """
    trace = trace_of(["early", "late", "kept", "air", "early", "early", "late"])
    dense = scan_of(trace).astype(np.uint8)
    dense[0, 0, :] = dense[1, 0, 0] = dense[2, 0, :] = 2
    dense[4, :, 0] = dense[5, 0, 0] = 2
    dense[6, 0, 0] = 1  # in air
    dense[8:13] = 1
    sparse = dense.copy()
    sparse[dense == 2] = 1
    sparse[6, 0, 0] = 0
    sparse[9, 0, :] = 0
    sure = sure_of(trace, 0.9, 0.8, 0.1, np.nan, 0.7, 0.95, 0.2)
    return answer(sparse, sure), answer(dense, sure)


def test_by_hand() -> None:
    """Two tokens lose 5 of 8 core voxels, one loses 2 of 21 shell voxels; token 6 is unsure.

    Of the three in token 0, at (0, 0, 0), (0, 0, 1) and (1, 0, 0), the first is nearest to their
    mean.
    """
    result, dense = by_hand()
    core, shell, unsure = safety_notes(result, dense)

    assert (core.token, core.tokens) == (0, (0, 1))
    assert (core.structure, core.fate) == ("core", "pruned at stage 1")
    assert core.place == (0.0, 0.0, 0.0)
    assert core.confidence == pytest.approx(0.8)
    assert (core.voxels, core.millilitres, core.share) == (5, 0.005, 5 / 8)
    assert core.text == (
        "Core: 5 voxels (0.005 ml) differ from the dense twin in 2 tokens, the worst pruned at "
        "stage 1; 62 % of the structure changes; confidence 0.80."
    )

    assert (shell.token, shell.structure, shell.voxels) == (4, "shell", 2)
    assert shell.share == pytest.approx(2 / 21)
    assert shell.place == (9.0, 0.0, 0.0)

    assert (unsure.tokens, unsure.voxels, unsure.share) == ((6,), 0, 0.0)
    assert unsure.fate == "pruned at stage 2"
    assert unsure.place == pytest.approx((12.5, 0.5, 0.5))
    assert unsure.text == "Shell: confidence 0.20 in a token pruned at stage 2."


def test_without_the_dense_twin_confidence_alone_counts_the_least_first() -> None:
    result, _ = by_hand()
    trace = sure_of(result.trace, 0.59, 0.6, 0.1, np.nan, 0.3, 0.95, 0.5)
    notes = safety_notes(replace(result, recorded=trace))

    assert [note.tokens for note in notes] == [(4,), (6,), (0,)]
    assert LOW_CONFIDENCE == 0.6  # a token at it is not below it
    assert [note.tokens for note in safety_notes(replace(result, recorded=trace), low=0.4)] == [
        (4,)
    ]


def test_the_same_twice_is_nothing_to_note() -> None:
    result, _ = by_hand()

    assert safety_notes(result, result, low=0) == ()


def test_a_structure_only_in_the_result_counts_by_its_own_volume() -> None:
    trace = trace_of(["early", "kept"])
    labels = scan_of(trace).astype(np.uint8)
    labels[1:3, 0, 0] = 3
    (note,) = safety_notes(answer(labels, trace), answer(np.zeros_like(labels), trace))

    assert (note.structure, note.voxels, note.share) == ("spot", 1, 0.5)
    assert "1 voxel (0.001 ml) differs from" in note.text


def test_more_added_than_there_was_is_all_of_it() -> None:
    trace = trace_of(["early", "kept"])
    dense = scan_of(trace).astype(np.uint8)
    dense[3, 1, 1] = 3
    sparse = dense.copy()
    sparse[0] = 3

    (note,) = safety_notes(answer(sparse, trace), answer(dense, trace))
    assert (note.voxels, note.share) == (4, 1.0)


def test_tokens_that_touch_at_a_corner_are_one_place_if_of_one_structure() -> None:
    """3 x 3 x 3 tokens of one voxel: two shells at a corner, a spot between, a shell apart."""
    grid = TokenGrid.over((3, 3, 3), np.eye(4), 1)
    left = np.ones(grid.shape, dtype=np.uint8)
    trace = TokenTrace(
        grid, "stp", (1,), left == 0, np.zeros((1, 3, 3, 3), np.float32), left,
        np.stack([left > 0, left == 0]),
    )  # fmt: skip
    dense = np.zeros(grid.shape, dtype=np.uint8)
    dense[0, 0, 0] = dense[1, 1, 1] = dense[2, 0, 2] = 1
    dense[0, 1, 0] = 3
    dense[0, 0, 2] = 2  # touches the shell, is another structure
    places = {n.tokens for n in safety_notes(answer(0 * dense, trace), answer(dense, trace))}

    assert places == {(0, 13, 20), (3,), (2,)}
    dense[1, 1, 1] = 0
    places = {n.tokens for n in safety_notes(answer(0 * dense, trace), answer(dense, trace))}
    assert places == {(0,), (20,), (3,), (2,)}


@settings(max_examples=50, deadline=None)
@given(
    fates=st.lists(st.sampled_from(sorted(RAN)), min_size=1, max_size=8), seed=st.integers(0, 999)
)
def test_every_left_out_token_that_differs_is_in_one_note_and_no_other_token(
    fates: list[str], seed: int
) -> None:
    trace = trace_of(fates)
    rng = np.random.default_rng(seed)
    sparse, dense = rng.choice(4, (2, *scan_of(trace).shape), p=(0.9, 0.05, 0.03, 0.02))
    notes = safety_notes(
        answer(sparse.astype(np.uint8), trace), answer(dense.astype(np.uint8), trace)
    )

    differs = (sparse != dense).reshape(len(fates), -1).sum(axis=1)
    expected = [n for n, fate in enumerate(fates) if fate not in ("air", "kept") and differs[n]]
    assert sorted(token for note in notes for token in note.tokens) == expected
    assert sum(note.voxels for note in notes) == differs[expected].sum()
    assert [note.share for note in notes] == sorted((n.share for n in notes), reverse=True)
    for note in notes:
        assert note.token in note.tokens
        assert 0 < note.share <= 1
        place = tuple(np.rint(note.place).astype(int).tolist())
        assert index_of(trace).token_at(place) == note.token
        assert sparse[place] != dense[place]


def test_a_run_without_a_trace_and_a_twin_of_another_scan_are_refused() -> None:
    result, dense = by_hand()
    other = replace(dense, labels=Volume(dense.labels.data[1:], np.eye(4), "other"))

    with pytest.raises(InputError, match="without a trace"):
        safety_notes(replace(result, recorded=None), dense)
    with pytest.raises(InputError, match="another grid"):
        safety_notes(result, other)


def test_a_note_can_be_written_as_json_whatever_is_unknown() -> None:
    note = SafetyNote(3, (3, 4), (1.234, -5.0, 0.0), "core", "skipped at times", float("nan"),
                      1200, 12.3456, 0.001)  # fmt: skip
    facts = json.loads(json.dumps(note.to_dict(), allow_nan=False))

    assert facts["confidence"] is None
    assert (facts["tokens"], facts["place"]) == ([3, 4], [1.23, -5.0, 0.0])
    assert "1,200 voxels (12 ml) differ" in facts["text"]
    assert "less than 1 % of the structure changes" in facts["text"]
