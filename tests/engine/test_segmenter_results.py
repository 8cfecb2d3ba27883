"""The engine on scans of all kinds: where labels lie, what is counted, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from checks import assert_same_trace, assert_sentence

from napari_sparseseg.errors import InputError
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.session import Session
from napari_sparseseg.tokens import TokenGrid
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import ModelInfo

MakeScan = Callable[..., Volume]

# Sizes and places


@pytest.mark.parametrize(
    ("shape", "windows"),
    [((20, 12, 9), 1), ((30, 28, 1), 1), ((1, 30, 28), 1), ((32, 32, 32), 1), ((50, 30, 20), 2)],
)
def test_volumes_of_any_size_are_segmented_on_their_own_grid(
    segmenter: Segmenter, make_scan: MakeScan, shape: tuple[int, int, int], windows: int
) -> None:
    affine = np.array([[0, 0, 1, 5.0], [-1, 0, 0, 7], [0, 1, 0, -9], [0, 0, 0, 1]])
    scan = make_scan(shape, affine)
    with segmenter.open(scan) as session:
        assert len(session.places) == windows
        result = session.run(0.5)

    assert result.labels.shape == shape
    assert result.labels.data.dtype == np.uint8
    np.testing.assert_array_equal(result.labels.affine, affine)
    assert (result.labels.data > 0).mean() > 0.05
    assert_covers(result.trace.grid, result.labels)


def assert_covers(grid: TokenGrid, volume: Volume) -> None:
    """Expect every corner of the volume inside the token grid, and no more tokens than needed."""
    to_token = np.linalg.inv(grid.affine) @ volume.affine
    ends = [(-0.5, n - 0.5) for n in volume.shape]
    corners = np.array([to_token @ [*corner, 1] for corner in product(*ends)])[:, :3]
    before = corners.min(axis=0) + 0.5
    after = grid.shape - corners.max(axis=0) - 0.5
    for spare in (before, after):
        assert (spare > -1e-6).all() and (spare < 1 - 1e-6).all()


def stored_as(volume: Volume, order: tuple[int, ...], backwards: tuple[int, ...]) -> Volume:
    """Store the same voxels at the same places in another order of the axes and directions."""
    affine = np.eye(4)
    affine[:3] = volume.affine[:3][:, [*order, 3]]
    data = volume.data.transpose(order)
    for axis in backwards:
        affine[:3, 3] += (data.shape[axis] - 1) * affine[:3, axis]
        affine[:3, axis] *= -1
    return replace(volume, data=np.flip(data, backwards), affine=affine)


def as_stored_first(
    data: np.ndarray, order: tuple[int, ...], backwards: tuple[int, ...]
) -> np.ndarray:
    return np.flip(data, backwards).transpose(np.argsort(order))


ORIENTATIONS = [
    (order, tuple(axis for axis in range(3) if flips[axis]))
    for order in permutations(range(3))
    for flips in product((False, True), repeat=3)
]


def test_a_scan_stored_in_48_ways_gives_the_same_labels(segmenter: Segmenter, make_scan) -> None:
    """Exactly the same: at the model's own spacing resampling moves voxels and rounds nothing."""
    scan = make_scan((30, 26, 21), margin=1)
    expected = segmenter.segment(scan, 0.3)
    seen = set()

    for order, backwards in ORIENTATIONS:
        stored = stored_as(scan, order, backwards)
        seen.add(stored.orientation)
        result = segmenter.segment(stored, 0.3)
        labels = as_stored_first(result.labels.data, order, backwards)
        np.testing.assert_array_equal(labels, expected.labels.data, stored.orientation)
        assert_same_trace(result.trace, expected.trace)
        np.testing.assert_allclose(result.trace.grid.affine, expected.trace.grid.affine)

    assert len(seen) == 48


@pytest.mark.parametrize(
    ("order", "backwards"), [((2, 0, 1), (1,)), ((1, 0, 2), (0, 2)), ((0, 1, 2), (0, 1, 2))]
)
def test_an_oblique_anisotropic_scan_gives_the_same_labels_in_another_order(
    segmenter: Segmenter, make_scan: MakeScan, order: tuple[int, ...], backwards: tuple[int, ...]
) -> None:
    """Nearly the same: sums of a resampling run in another order, which can turn a tie."""
    turn = np.array([[0.96, -0.28, 0, 11], [0.28, 0.96, 0, -8], [0, 0, 1, 3], [0, 0, 0, 1]])
    scan = make_scan((40, 31, 11), turn @ np.diag([0.7, 0.9, 2.5, 1.0]), margin=1)
    result = segmenter.segment(stored_as(scan, order, backwards), 0.3)

    labels = as_stored_first(result.labels.data, order, backwards)
    assert (labels == segmenter.segment(scan, 0.3).labels.data).mean() > 0.999


def test_tokens_lie_where_the_tissue_is(segmenter: Segmenter) -> None:
    """A bright box, 27 to 43 mm right, 9 to 17 mm anterior, 0 to 16 mm superior of the corner.

    It takes as few patches as it can, so their centres are 4 mm and 12 mm into the box.
    """
    data = np.zeros((48, 40, 32), dtype=np.float32)
    data[27:43, 9:17, 0:16] = 100 + np.arange(16)
    ras = Volume(data, np.array([[1, 0, 0, -100], [0, 1, 0, 50], [0, 0, 1, 7.0], [0, 0, 0, 1]]))
    trace = segmenter.segment(stored_as(ras, (2, 0, 1), (0, 2)), 0.5).trace

    centres = np.argwhere(~trace.air) @ trace.grid.affine[:3, :3].T + trace.grid.affine[:3, 3]
    from_corner = centres - [-100.5, 49.5, 6.5]
    expected = {(x, 13.0, z) for x in (31.0, 39.0) for z in (4.0, 12.0)}
    assert {tuple(centre) for centre in from_corner.round(6).tolist()} == expected


def test_air_is_background(session: Session) -> None:
    result = session.run(0.5)
    voxels = np.argwhere(np.ones(result.labels.shape, dtype=bool))
    to_token = np.linalg.inv(result.trace.grid.affine) @ result.labels.affine
    token = np.rint(voxels @ to_token[:3, :3].T + to_token[:3, 3]).astype(int)
    in_air = result.trace.air[tuple(token.T)].reshape(result.labels.shape)

    assert in_air.any() and not in_air.all()
    assert not result.labels.data[in_air].any()


# The report


def test_the_report_has_the_agreed_keys(session: Session) -> None:
    report = session.run(0.3).report

    facts = "notice model method weights_sha256 sparsifier setting device precision versions"
    figures = "volume tokens gmacs seconds peak_memory_mb memory classes"
    repetition = "format seed means overlap part notes computer weights_registered"
    assert report.keys() == {*facts.split(), *figures.split(), *repetition.split()}
    assert report["volume"].keys() == {"shape", "spacing", "orientation"}
    assert report["tokens"].keys() == {
        "total",
        "air",
        "kept",
        "pruned",
        "exited",
        "reactivated",
    }
    assert report["gmacs"].keys() == {"run", "dense", "encoder", "encoder_dense"}
    parts = {"preprocess", "first_stage", "sparse_network", "restore"}
    assert report["seconds"].keys() == {"total", *parts}


def test_the_figures_of_the_report_add_up(segmenter: Segmenter, make_scan: MakeScan) -> None:
    scan = make_scan((20, 18, 12), np.diag([1.5, 1.0, 2.0, 1.0]), margin=1)
    result = segmenter.segment(scan, 0.3)
    report, tokens = result.report, result.report["tokens"]

    assert tokens["kept"] + tokens["pruned"] + tokens["exited"] + tokens["air"] == tokens["total"]
    assert tokens["total"] == result.trace.grid.size
    assert tokens["kept"] == (result.trace.depth == 4).sum() > 0
    assert tokens["pruned"] > 0
    voxels = {name: facts["voxels"] for name, facts in report["classes"].items()}
    assert list(voxels) == ["shell", "core", "spot", "rest"]
    assert list(voxels.values()) == np.bincount(result.labels.data.ravel())[1:].tolist()
    for facts in report["classes"].values():
        assert facts["millilitres"] == pytest.approx(facts["voxels"] * 3.0 / 1000, abs=5e-4)
    seconds = report["seconds"]
    parts = sum(value for name, value in seconds.items() if name != "total")
    assert seconds["total"] == pytest.approx(parts, abs=1e-3)
    assert report["peak_memory_mb"] > 1


def test_the_compute_grows_with_the_ratio(session: Session) -> None:
    """At ratio 1 all that is left above the dense twin is what the scores cost."""
    few, some, full = (session.run(ratio).report["gmacs"] for ratio in (0.05, 0.5, 1.0))

    assert few["run"] < some["run"] < full["run"]
    assert few["run"] < few["dense"] == some["dense"] == full["dense"]
    assert few["encoder"] < few["encoder_dense"] < few["dense"]
    assert full["dense"] <= full["run"] < 1.02 * full["dense"]


def test_only_the_first_run_pays_for_the_preparation(
    segmenter: Segmenter, make_scan: MakeScan
) -> None:
    with segmenter.open(make_scan((20, 20, 20))) as session:
        first, second = session.run(0.3).report["seconds"], session.run(0.3).report["seconds"]

    assert first["preprocess"] > 0 < first["first_stage"]
    assert second["preprocess"] == second["first_stage"] == 0
    assert second["sparse_network"] > 0


def test_bfloat16_gives_nearly_the_same_tokens(
    session: Session, tiny_models: dict[str, ModelInfo]
) -> None:
    coarse = Segmenter(tiny_models["tiny-stp"], device="cpu", precision="bfloat16")
    result, expected = coarse.segment(session.volume, 0.5), session.run(0.5)

    assert result.report["precision"] == coarse.precision == "bfloat16"
    np.testing.assert_array_equal(result.trace.air, expected.trace.air)
    np.testing.assert_allclose(result.trace.importance[0], expected.trace.importance[0], atol=0.01)


# Bad input


@pytest.mark.parametrize("ratio", [0.0, -0.3, 1.01, float("nan"), float("inf")])
def test_a_keep_ratio_out_of_range_is_refused(session: Session, ratio: float) -> None:
    for use in (session.run, session.preview):
        with pytest.raises(InputError, match="keep ratio") as caught:
            use(ratio)
        assert_sentence(caught.value)


def one_voxel() -> np.ndarray:
    data = np.zeros((24, 24, 24), dtype=np.float32)
    data[12, 12, 12] = 100
    return data


@pytest.mark.parametrize(
    ("data", "spacing", "match"),
    [
        (np.ones((24, 24)), 1.0, "2 dimensions"),
        (np.ones((24, 24, 24, 3)), 1.0, "4 dimensions"),
        (np.ones((24, 0, 24)), 1.0, "empty"),
        (np.full((24, 24, 24), 7.0), 1.0, "same value"),
        (np.full((24, 24, 24), np.nan), 1.0, "no finite value"),
        (np.arange(64.0).reshape(4, 4, 4), 0.0, "spacing"),
        (np.arange(64.0).reshape(4, 4, 4), 500.0, "spacing"),
        (one_voxel(), 1.0, "no tissue"),
    ],
)
def test_a_scan_that_cannot_be_segmented_is_refused_in_one_sentence(
    segmenter: Segmenter, data: np.ndarray, spacing: float, match: str
) -> None:
    with pytest.raises(InputError, match=match) as caught:
        segmenter.open(Volume(data, np.diag([spacing] * 3 + [1.0])))
    assert_sentence(caught.value)
