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
    """Two tokens lose 5 of 8 core voxels to a shell of 21, one loses 2 of the shell; 6 is unsure.

    Of the three in token 0, at (0, 0, 0), (0, 0, 1) and (1, 0, 0), the first is nearest to their
    mean.
    """
    result, dense = by_hand()
    core, grown, shell, unsure = safety_notes(result, dense)

    assert (core.token, core.tokens) == (0, (0, 1))
    assert (core.structure, core.fate) == ("core", "pruned at stage 1")
    assert core.place == (0.0, 0.0, 0.0)
    assert core.confidence == pytest.approx(0.8)
    assert (core.voxels, core.millilitres, core.share) == (5, 0.005, 5 / 8)
    assert core.text == (
        "Core: 5 voxels (0.005 ml) differ from the dense twin in 2 tokens, the worst pruned at "
        "stage 1; 62 % of the structure changes; confidence 0.80."
    )

    assert (grown.tokens, grown.structure, grown.voxels) == ((0, 1), "shell", 5)
    assert grown.share == pytest.approx(5 / 21)

    assert (shell.token, shell.structure, shell.voxels) == (4, "shell", 2)
    assert shell.share == pytest.approx(2 / 21)
    assert shell.place == (9.0, 0.0, 0.0)

    assert (unsure.tokens, unsure.voxels, unsure.share) == ((6,), 0, 0.0)
    assert unsure.fate == "pruned at stage 2"
    assert unsure.place == pytest.approx((12.5, 0.5, 0.5))
    assert unsure.text == "Shell: confidence 0.20 in a token pruned at stage 2."


def test_each_structure_counts_its_own_voxels() -> None:
    """One token: 2 voxels of a core of 4 become spot, 1 of a shell of 2 becomes background."""
    trace = trace_of(["early", "kept"])
    dense = scan_of(trace).astype(np.uint8)
    dense[0, :, :] = 2
    dense[1, 0, :] = 1
    sparse = dense.copy()
    sparse[0, 0, :] = 3
    sparse[1, 0, 0] = 0
    notes = safety_notes(answer(sparse, trace), answer(dense, trace))

    found = {note.structure: (note.voxels, note.share) for note in notes}
    assert found == {"core": (2, 2 / 4), "shell": (1, 1 / 2), "spot": (2, 1.0)}


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


def one_voxel_tokens(dense: np.ndarray) -> tuple[Segmentation, Segmentation]:
    """A result without any structure in tokens of one voxel, all of which left at stage 1."""
    grid = TokenGrid.over(dense.shape, np.eye(4), 1)
    left = np.ones(grid.shape, dtype=np.uint8)
    trace = TokenTrace(
        grid, "stp", (1,), left == 0, np.zeros((1, *grid.shape), np.float32), left,
        np.stack([left > 0, left == 0]),
    )  # fmt: skip
    return answer(0 * dense, trace), answer(dense, trace)


def test_tokens_around_the_worst_are_one_place_if_of_one_structure() -> None:
    """3 x 3 x 3 tokens of one voxel: two shells at corners of one, a spot between, a core."""
    dense = np.zeros((3, 3, 3), dtype=np.uint8)
    dense[1, 1, 1] = dense[0, 0, 0] = dense[2, 0, 2] = 1
    dense[0, 1, 0] = 3
    dense[0, 0, 2] = 2  # touches the shell, is another structure
    result, twin = one_voxel_tokens(dense)
    sure = np.full((3, 3, 3), 0.9, np.float32)
    sure[1, 1, 1] = 0.1  # with as many voxels as the others the least sure is the worst
    result = replace(result, recorded=replace(result.trace, confidence=sure))

    assert {note.tokens for note in safety_notes(result, twin)} == {(0, 13, 20), (3,), (2,)}


def test_a_place_is_no_larger_than_a_token_and_its_neighbours() -> None:
    """A shell in all of 7 tokens in a row, the fourth the least sure: 3 in the middle, 2 and 2."""
    result, twin = one_voxel_tokens(np.ones((7, 1, 1), dtype=np.uint8))
    sure = np.array([0.9, 0.8, 0.7, 0.1, 0.7, 0.8, 0.9], np.float32).reshape(7, 1, 1)
    result = replace(result, recorded=replace(result.trace, confidence=sure))

    notes = safety_notes(result, twin)
    assert [note.tokens for note in notes] == [(2, 3, 4), (0, 1), (5, 6)]
    assert [note.token for note in notes] == [3, 1, 5]
    assert [note.share for note in notes] == [3 / 7, 2 / 7, 2 / 7]


@settings(max_examples=50, deadline=None)
@given(
    fates=st.lists(st.sampled_from(sorted(RAN)), min_size=1, max_size=8), seed=st.integers(0, 999)
)
def test_each_change_of_a_structure_is_in_one_note_and_nothing_else_is(
    fates: list[str], seed: int
) -> None:
    """Counted by hand, for each structure and token that was left out."""
    trace = trace_of(fates)
    rng = np.random.default_rng(seed)
    sparse, dense = rng.choice(4, (2, *scan_of(trace).shape), p=(0.9, 0.05, 0.03, 0.02))
    notes = safety_notes(
        answer(sparse.astype(np.uint8), trace), answer(dense.astype(np.uint8), trace)
    )

    expected = {}
    for number, name in enumerate(CLASSES[1:], start=1):
        changes = ((sparse == number) != (dense == number)).reshape(len(fates), -1).sum(axis=1)
        for token, fate in enumerate(fates):
            if fate not in ("air", "kept") and changes[token]:
                expected[name, token] = int(changes[token])
    found = [(note.structure, token) for note in notes for token in note.tokens]
    assert sorted(found) == sorted(expected)
    for note in notes:
        assert note.voxels == sum(expected[note.structure, token] for token in note.tokens)
        assert max(abs(token - note.token) for token in note.tokens) <= 1
        assert 0 < note.share <= 1
        place = tuple(np.rint(note.place).astype(int).tolist())
        assert index_of(trace).token_at(place) == note.token
        number = CLASSES.index(note.structure)
        assert (sparse[place] == number) != (dense[place] == number)
    assert [note.share for note in notes] == sorted((n.share for n in notes), reverse=True)


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
