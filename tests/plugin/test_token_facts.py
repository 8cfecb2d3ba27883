"""What the tab "Token" tells of a token, worked by hand. No window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer

from napari_sparseseg.analysis.compare import compare
from napari_sparseseg.analysis.patches import TokenIndex
from napari_sparseseg.canonical import ModelSpace
from napari_sparseseg.plugin.geometry import Scan
from napari_sparseseg.plugin.inspector.attention import AttentionLines, attended
from napari_sparseseg.plugin.inspector.jumps import (
    Round,
    disagreeing,
    least_confident,
    pruned_in_structures,
)
from napari_sparseseg.plugin.inspector.neighbours import OUTSIDE, neighbours
from napari_sparseseg.plugin.inspector.patch import grey_of, middle_slices
from napari_sparseseg.plugin.inspector.token_facts import (
    box_words,
    centre_of,
    decisions,
    place_words,
    token_facts,
)
from napari_sparseseg.plugin.layers import ResultLayers, is_result
from napari_sparseseg.plugin.readers import image_layer
from napari_sparseseg.plugin.token_placement import TokenPlacement
from napari_sparseseg.session import Segmentation
from napari_sparseseg.tokens import TokenGrid, TokenTrace
from napari_sparseseg.volume import Volume

from .results import CLASSES, COLORS, ORIENTATIONS, make_result, marked_volume
from .traces import RAN, muting_trace, skipping_trace

NAN = np.nan


def row_of_tokens(method: str = "stp", **other: np.ndarray) -> TokenTrace:
    """Make five tokens in a row: left at stage 1, kept, left at stage 2, left at stage 1, air."""
    grid = TokenGrid.over((40, 8, 8), np.eye(4))
    ran = np.array([[1, 1, 1, 1, 0], [0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 1, 0, 0, 0]], bool)
    facts = {
        "importance": np.array([[-3, -1, -2, -3, NAN], [NAN, 5, 4, NAN, NAN]], np.float32),
        "confidence": np.array([0.5, 0.2, 0.9, 0.3, NAN], np.float32),
        **other,
    }
    return TokenTrace(
        grid=grid,
        method=method,
        stages=(1, 3),
        air=np.arange(5).reshape(grid.shape) == 4,
        left_stage=np.array([1, 0, 2, 1, 0], np.uint8).reshape(grid.shape),
        ran=ran.reshape(4, *grid.shape),
        importance=facts["importance"].reshape(2, *grid.shape),
        confidence=facts["confidence"].reshape(grid.shape),
    )


def row_of_labels() -> np.ndarray:
    """Fill the patches of that row: of left half tokens 0 and 1 each hold half; 2 all of right."""
    labels = np.zeros((40, 8, 8), np.uint8)
    labels[0:2], labels[8:10] = 1, 1
    labels[16, 0, :6] = 2
    return labels


def row(method: str = "stp", labels: np.ndarray | None = None) -> tuple[Segmentation, TokenIndex]:
    volume = Volume(row_of_labels() if labels is None else labels, np.eye(4))
    result = Segmentation(volume, CLASSES, COLORS, {}, row_of_tokens(method))
    return result, TokenIndex.of(result.trace.grid, volume)


def test_facts_of_tokens_that_left_stayed_or_never_came():
    result, index = row()
    pruned, kept, late, _, air = (token_facts(result, index, token) for token in range(5))

    assert pruned.fate == "pruned at stage 1"
    assert pruned.ran == (True, False, False, False)
    assert pruned.confidence == pytest.approx(0.5)
    assert pruned.point == (3.5, 3.5, 3.5)
    assert box_words(late.box) == "16-23, 0-7, 0-7"
    assert [d.text for d in pruned.decisions] == ["pruned", "had left"]
    assert [d.text for d in kept.decisions] == ["kept", "kept"]
    assert [d.text for d in late.decisions] == ["kept", "pruned"]
    assert late.decisions[1].stage == "2, after 3 blocks"
    assert (air.fate, air.decisions, air.confidence) == ("air", (), None)
    assert air.ran == (False,) * 4


def test_rank_is_the_place_among_the_scored_tokens_and_equals_share_one():
    trace = row_of_tokens()
    first = [decisions(trace, token)[0] for token in range(4)]

    assert [d.rank for d in first] == [3, 1, 2, 3]
    assert [d.scored for d in first] == [4] * 4
    assert [d.score for d in first] == [-3, -1, -2, -3]
    second = [decisions(trace, token)[1] for token in range(4)]
    assert [(d.rank, d.score, d.scored) for d in second] == [
        (None, None, 2), (1, 5, 2), (2, 4, 2), (None, None, 2),
    ]  # fmt: skip


def test_skipped_blocks_and_reactivations_are_told_at_their_gates():
    trace = skipping_trace()
    told = {}
    for name, token in (("never", 2), ("once", 6), ("twice", 9), ("kept", 11)):
        told[name] = [d.text for d in decisions(trace, token)]
        assert RAN[name] == tuple(trace.ran.reshape(6, -1)[:, token])

    assert told == {
        "never": ["kept", "kept", "skipped", "skipped"],
        "once": ["skipped", "reactivated", "kept", "skipped"],
        "twice": ["skipped", "reactivated", "skipped", "reactivated"],
        "kept": ["kept"] * 4,
    }
    assert decisions(trace, 6)[0].stage == "before block 3"


def test_classes_of_a_patch_are_shared_out():
    result, index = row()

    mix = token_facts(result, index, 2).mix

    assert [(part.name, part.color) for part in mix] == [
        ("background", COLORS[0]),
        ("right", COLORS[2]),
    ]
    assert [part.share for part in mix] == pytest.approx([506 / 512, 6 / 512])
    assert [part.share for part in token_facts(result, index, 0).mix] == [0.75, 0.25]


def test_token_beyond_the_scan_has_no_voxels():
    grid = TokenGrid((3, 1, 1), (8, 8, 8), row_of_tokens().grid.affine)
    trace = replace(
        row_of_tokens(), grid=grid, **{
            name: getattr(row_of_tokens(), name)[..., :3, :, :]
            for name in ("air", "importance", "left_stage", "ran", "confidence")
        },
    )  # fmt: skip
    volume = Volume(np.zeros((12, 8, 8), np.uint8), np.eye(4))
    result = Segmentation(volume, CLASSES, COLORS, {}, trace)

    facts = token_facts(result, TokenIndex.of(grid, volume), 2)

    assert (facts.mix, box_words(facts.box)) == ((), "none")


@pytest.mark.parametrize("tilt", [0, 0.3])
@pytest.mark.parametrize("number", range(0, 48, 5))
def test_place_is_the_middle_of_the_voxels_in_the_patient(number: int, tilt: float):
    volume = marked_volume(ORIENTATIONS[number], (2, 2, 2), tilt)
    result = make_result(volume, np.zeros(volume.shape, np.uint8))
    index = TokenIndex.of(result.trace.grid, volume)
    inside = np.ravel_multi_index((1, 1, 1), result.trace.grid.shape)

    facts = token_facts(result, index, int(inside))

    voxels = np.stack([axis.ravel() for axis in np.mgrid[facts.box]])
    assert voxels.shape[1] == 512
    points = volume.affine[:3, :3] @ voxels + volume.affine[:3, 3:]
    np.testing.assert_allclose(facts.point, points.mean(axis=1), atol=1e-9)


def test_place_is_told_by_the_sides_of_the_patient():
    assert place_words((-12.04, 3.5, -40.06)) == "L 12.0, A 3.5, I 40.1 mm"
    assert place_words((12, -3.5, 0)) == "R 12.0, P 3.5, S 0.0 mm"
    assert centre_of(TokenGrid((2, 2, 2), (8, 8, 8), np.diag([-8.0, 8, 8, 1])), 7) == (-8, 8, 8)


def test_neighbours_are_counted_by_their_fate_and_shown_as_on_the_canvas():
    trace = row_of_tokens()
    as_array = TokenPlacement.of(trace.grid, np.eye(4))
    flipped = TokenPlacement.of(trace.grid, np.diag([-1.0, 1, 1, 1]))

    found = neighbours(trace, 3, as_array)
    assert found.counts == {"air": 1, "pruned at stage 2": 1}
    across = neighbours(trace, 3, as_array, (1, 0, 2)).plane  # rows along the row of tokens
    assert across[:, 1].tolist() == [2, 1, 0]
    assert (across[:, [0, 2]] == OUTSIDE).all()
    assert neighbours(trace, 3, flipped, (1, 0, 2)).plane[:, 1].tolist() == [0, 1, 2]
    assert neighbours(trace, 3, as_array, (1, 2, 0)).plane[1].tolist() == [2, 1, 0]
    assert neighbours(trace, 0, as_array).counts == {"kept": 1}


def test_neighbours_in_the_middle_of_a_grid_are_26():
    volume = Volume(np.zeros((40, 40, 40), np.uint8), np.eye(4))
    result = make_result(volume, volume.data)
    trace = replace(
        result.trace, air=np.zeros((3, 3, 3), bool), left_stage=np.ones((3, 3, 3), np.uint8),
        ran=np.zeros((8, 3, 3, 3), bool),
    )  # fmt: skip
    assert trace.grid.shape == (3, 3, 3)

    assert neighbours(trace, 13, TokenPlacement.of(trace.grid, np.eye(4))).counts == {
        "pruned at stage 1": 26
    }


def test_slices_of_a_patch_lie_as_on_the_canvas():
    volume = marked_volume(ORIENTATIONS[11], (1, 2, 3))
    image = Layer.create(*image_layer(volume, "memory"))
    scan = Scan.of(image)
    grid = TokenGrid.over(ModelSpace.of(volume, 4.0).shape, ModelSpace.of(volume, 4.0).affine, 4)
    box = TokenIndex.of(grid, Volume(image.data, scan.affine)).box(grid.size // 2)
    limits = (float(volume.data.min()), float(volume.data.max()))

    slices = middle_slices(scan, box, limits)

    assert [cut.plane for cut in slices] == ["axial", "coronal", "sagittal"]  # S, P, L
    patch = np.asarray(image.data)[box]
    i, j, k = (n // 2 for n in patch.shape)
    for cut, values in zip(slices, (patch[i], patch[:, j], patch[:, :, k]), strict=True):
        np.testing.assert_array_equal(cut.grey, np.round(255 * values / limits[1]))
    steps = image.scale
    assert [cut.pixel for cut in slices] == [
        pytest.approx(pair) for pair in ((steps[1], steps[2]), (steps[0], steps[2]), steps[:2])
    ]
    assert middle_slices(scan, (slice(0, 0), *box[1:]), limits) == ()


def test_greys_are_clipped_and_what_is_no_number_is_black():
    assert grey_of(np.array([-5, 0, 5, 10, 20, NAN]), (0, 10)).tolist() == [0, 0, 128, 255, 255, 0]


def test_tokens_that_hold_most_of_a_structure_come_first():
    result, index = row()
    assert pruned_in_structures(result, index) == (2, 0)  # all of right, half of left


def test_least_confident_exits_come_first_and_for_other_methods_only_those_of_structures():
    assert least_confident(*row("dtop")) == (3, 0, 2)
    assert least_confident(*row("stp")) == (0, 2)
    unknown = row_of_tokens(confidence=np.full(5, NAN, np.float32))
    result, index = row()
    assert least_confident(replace(result, recorded=unknown), index) == ()


def test_tokens_with_most_voxels_that_disagree_come_first():
    result, index = row()
    other = row_of_labels()
    other[16, 0, :6] = 0
    other[24:26, 1, 1] = 1
    other[0, 0, :2] = 2
    other[32, 0, :7] = 1

    found = disagreeing(compare(result.labels, Volume(other, np.eye(4)), CLASSES), index)

    assert found == (4, 2, 0, 3)


def test_round_comes_back_to_its_first_token():
    tour = Round((7, 3, 5))

    assert tour.number == 0
    assert [tour.next() for _ in range(5)] == [7, 3, 5, 7, 3]
    assert tour.number == 2


def test_attended_tokens_are_the_strongest_then_the_nearest_without_itself():
    trace = muting_trace()

    assert attended(trace, 5).tokens.tolist() == [1, 2]  # (1, 0, 1): token 1 is beside it
    assert attended(trace, 6).tokens.tolist() == [2, 1]
    assert attended(trace, 6).shares.tolist() == [0.5, 0.5]
    assert attended(trace, 6, most=1).tokens.tolist() == [2]
    assert not len(attended(trace, 1).tokens)  # its query was pruned
    assert not len(attended(trace, 0).tokens)  # air
    (window,) = trace.dependencies
    kept = window.kept.copy()
    kept[4, 1] = 2  # token 5 on token 2, now with both heads
    stronger = replace(trace, dependencies=(replace(window, kept=kept),))
    assert attended(stronger, 5).tokens.tolist() == [2, 1]


def test_what_a_token_attended_to_is_told_where_the_method_has_it():
    trace = muting_trace()
    volume = Volume(np.zeros((16, 16, 16), np.uint8), np.eye(4))
    result = Segmentation(volume, CLASSES, COLORS, {}, trace)
    index = TokenIndex.of(TokenGrid.over((16, 16, 16), np.eye(4)), volume)

    told = [token_facts(result, index, token).attended for token in (0, 1, 5)]

    assert told == ["none: air", "none: its query was pruned", "3 of 7 tokens"]
    assert token_facts(*row(), 0).attended == ""


@pytest.mark.parametrize("number", [0, 13, 29, 46])
def test_lines_run_between_the_places_of_the_tokens(number: int):
    volume = marked_volume(ORIENTATIONS[number], (2, 2, 2), 0.2)
    viewer = ViewerModel()
    image = viewer.add_layer(Layer.create(*image_layer(volume, "memory")))
    result = make_result(volume, np.zeros(volume.shape, np.uint8))
    trace = replace(muting_trace(), grid=replace(result.trace.grid, shape=(2, 2, 2)))
    layers = ResultLayers(viewer)
    layers.show(image, Scan.of(image), replace(result, recorded=trace))
    before, selected = list(viewer.layers), set(viewer.layers.selection)
    lines = AttentionLines(viewer)

    def world(token: int) -> np.ndarray:
        index = np.linalg.inv(image.metadata["affine"]) @ [*centre_of(trace.grid, token), 1]
        return np.asarray(image.data_to_world(index[:3]))

    for token, expected in ((5, [1, 2]), (6, [2, 1])):
        lines.show(layers["tokens"], attended(trace, token), token)
        (layer,) = set(viewer.layers) - set(before)
        for (start, way), other in zip(layer.data, expected, strict=True):
            np.testing.assert_allclose(layer.data_to_world(start), world(other), atol=1e-6)
            np.testing.assert_allclose(layer.data_to_world(start + way), world(token), atol=1e-6)
    assert layer.name == "scan attention"
    assert is_result(layer)
    assert set(viewer.layers.selection) == selected
    np.testing.assert_allclose(layer.edge_color[:, 3], 0.25 + 0.75 * 0.5)

    lines.show(layers["tokens"], attended(trace, 1), 1)
    assert list(viewer.layers) == before
