"""Results as layers: each lies where it belongs, and shows what the trace says. No window."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.layers import Image, Layer
from nibabel.orientations import apply_orientation, inv_ornt_aff, ornt2axcodes

from napari_sparseseg.canonical import ModelSpace
from napari_sparseseg.plugin import maps
from napari_sparseseg.plugin.geometry import (
    Scan,
    TokenPlacement,
    assumed_affine,
    placed,
    transform_of,
)
from napari_sparseseg.plugin.layers import ROLES, ResultLayers, is_result
from napari_sparseseg.plugin.readers import image_layer
from napari_sparseseg.segmenter import Segmentation
from napari_sparseseg.tokens import TokenGrid, TokenTrace
from napari_sparseseg.volume import Volume

CLASSES = ("background", "left", "right")
COLORS = ("#000000", "#ff0000", "#00ff00")
ORIENTATIONS = [
    np.array(list(zip(axes, signs, strict=True)), dtype=float)
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def make_trace(grid: TokenGrid, seed: int = 0) -> TokenTrace:
    """Make a trace in which every kind of token occurs."""
    rng = np.random.default_rng(seed)
    fate = rng.integers(0, 5, grid.shape)  # 0 air, 1 to 3 pruned there, 4 kept
    fate.flat[:5] = range(5)
    importance = rng.normal(size=(3, *grid.shape)).astype(np.float32)
    for stage in range(3):
        importance[stage][(fate == 0) | (fate <= stage)] = np.nan
    return TokenTrace(
        grid=grid,
        stages=(2, 4, 6),
        num_blocks=8,
        air=fate == 0,
        importance=importance,
        pruned_stage=np.where((fate > 0) & (fate < 4), fate, 0).astype(np.uint8),
        depth=(2 * fate).astype(np.uint8),
    )


def make_result(volume: Volume, labels: np.ndarray, seed: int = 0) -> Segmentation:
    space = ModelSpace.of(volume, 2.0)
    trace = make_trace(TokenGrid.over(space.shape, space.affine), seed)
    report = {"keep_ratio": 0.5, "classes": {}}
    return Segmentation(Volume(labels, volume.affine), trace, CLASSES, COLORS, report)


def marked_volume(orientation: np.ndarray, spacing: tuple[float, ...], tilt: float = 0) -> Volume:
    """Make a volume in one of the 48 orientations, with a ramp of voxel values."""
    shape = (37, 30, 23)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-31, 17, 5)
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    affine[:2, :3] = turn @ affine[:2, :3]
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    turned = apply_orientation(data, orientation)
    return Volume(turned, affine @ inv_ornt_aff(orientation, shape), "scan")


def shown(image: Image, volume: Volume, labels: np.ndarray) -> tuple[ViewerModel, ResultLayers]:
    viewer = ViewerModel()
    viewer.add_layer(image)
    layers = ResultLayers(viewer)
    layers.show(image, Scan.of(image), make_result(volume, labels))
    return viewer, layers


def simple() -> tuple[ViewerModel, ResultLayers, Image]:
    volume = marked_volume(ORIENTATIONS[0], (1, 1, 1))
    image = Layer.create(*image_layer(volume, "memory"))
    viewer, layers = shown(image, volume, np.zeros(volume.shape, np.uint8))
    return viewer, layers, image


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=lambda o: "".join(ornt2axcodes(o)))
def test_labels_and_tokens_lie_on_their_voxels_in_all_orientations(orientation: np.ndarray):
    volume = marked_volume(orientation, (1.0, 1.5, 2.5))
    at = (3, 20, 6)
    labels = np.zeros(volume.shape, np.uint8)
    labels[at] = 2
    image = Layer.create(*image_layer(volume, "memory"))

    _, layers = shown(image, volume, labels)

    (found,) = np.argwhere(layers["segmentation"].data == 2)
    assert image.data[tuple(found)] == volume.data[at]
    assert_same_place(layers["segmentation"].data_to_world(found), image.data_to_world(found))
    check_tokens(layers, image)


def check_tokens(layers: ResultLayers, image: Image) -> None:
    """Compare each token's place in napari with that of the point in the image it stands for."""
    trace = layers.result.trace
    to_image = np.linalg.inv(image.metadata["affine"]) @ trace.grid.affine
    ids = layers["tokens"]
    for token in itertools.product(*((0, n // 2, n - 1) for n in trace.grid.shape)):
        label = np.ravel_multi_index(token, trace.grid.shape) + 1
        (found,) = np.argwhere(ids.data == label)
        expected = image.data_to_world((to_image @ [*token, 1])[:3])
        assert_same_place(ids.data_to_world(found), expected)
        for role in (maps.KEPT, maps.DEPTH, maps.IMPORTANCE):
            assert_same_place(layers[role].data_to_world(found), expected)
        assert layers[maps.DEPTH].data[tuple(found)] == trace.depth[token]
        assert_affine_of(layers["tokens"], found, trace.grid.affine @ [*token, 1])


def assert_same_place(one: Any, other: Any) -> None:
    np.testing.assert_allclose(one, other, atol=1e-6)


def assert_affine_of(layer: Layer, index: np.ndarray, point: np.ndarray) -> None:
    np.testing.assert_allclose(layer.metadata["affine"] @ [*index, 1], point, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(
    orientation=st.sampled_from(ORIENTATIONS),
    spacing=st.tuples(*(st.floats(0.4, 4),) * 3),
    tilt=st.floats(-0.6, 0.6),
    scale=st.tuples(*(st.sampled_from([-2.0, 0.5, 1.0]),) * 3),
    turn=st.floats(-60, 60),
)
def test_tokens_follow_whatever_transform_the_image_layer_has(
    orientation: np.ndarray, spacing: tuple, tilt: float, scale: tuple, turn: float
):
    volume = marked_volume(orientation, spacing, tilt)
    affine = np.eye(4)
    affine[:3, 3] = (7, -8, 9)
    image = Image(
        volume.data,
        scale=scale,
        translate=(4, 5, -6),
        rotate=(0, 0, turn),
        affine=affine,
        units=("mm",) * 3,
        axis_labels=("a", "b", "c"),
        metadata={"affine": volume.affine},
    )

    _, layers = shown(image, volume, np.zeros(volume.shape, np.uint8))

    check_tokens(layers, image)
    for role in ROLES:
        assert layers[role].units == image.units
        assert layers[role].axis_labels == image.axis_labels


@settings(max_examples=20, deadline=None)
@given(
    orientation=st.sampled_from(ORIENTATIONS),
    spacing=st.tuples(*(st.floats(0.4, 4),) * 3),
    tilt=st.floats(-0.6, 0.6),
)
def test_placed_volume_shows_axial_slices_with_anterior_up(
    orientation: np.ndarray, spacing: tuple, tilt: float
):
    volume = marked_volume(orientation, spacing, tilt)

    data, transform, affine = placed(volume)

    assert np.shares_memory(data, volume.data)
    directions = affine[:3, :3] / transform["scale"]
    superior, posterior, left = directions[2, 0], -directions[1, 1], -directions[0, 2]
    assert min(superior, posterior, left) > np.cos(0.6) - 1e-6
    assert (np.asarray(transform["scale"]) > 0).all()
    at = (5, 11, 13)
    source = np.rint(np.linalg.inv(volume.affine) @ affine @ [*at, 1])[:3].astype(int)
    assert data[at] == volume.data[tuple(source)]
    middle = (np.array(data.shape) - 1) / 2
    right, anterior, high = (affine @ [*middle, 1])[:3]
    world = np.asarray(transform["translate"]) + np.asarray(transform["scale"]) * middle
    assert_same_place(world, (high, -anterior, -right))


def test_world_is_taken_as_the_patient_where_nothing_is_known():
    image = Image(np.zeros((4, 5, 6)), scale=(0.002, 3000, 4), translate=(1, 2, 3),
                  units=("m", "um", "mm"))  # fmt: skip
    expected = np.diag([2.0, 3.0, 4.0, 1.0])
    expected[:3, 3] = (1000, 0.002, 3)

    np.testing.assert_allclose(assumed_affine(transform_of(image)), expected)


def test_pixels_count_as_millimetres():
    image = Image(np.zeros((4, 5, 6)), scale=(2, 3, 4))

    np.testing.assert_allclose(assumed_affine(transform_of(image)), np.diag([2, 3, 4, 1]))


def test_maps_say_what_the_trace_says():
    _, layers, _ = simple()
    trace = layers.result.trace
    placement = TokenPlacement.of(trace.grid, layers["segmentation"].metadata["affine"])
    kept, depth = layers[maps.KEPT], layers[maps.DEPTH]

    assert np.array_equal(kept.data == 4, placement.arrange(trace.kept))
    assert np.array_equal(kept.data == 0, placement.arrange(trace.air))
    assert np.array_equal(depth.data, placement.arrange(trace.depth))
    importance = layers[maps.IMPORTANCE].data
    assert np.array_equal(np.isfinite(importance), placement.arrange(~trace.air))
    assert np.nanmin(importance) == 0
    assert np.nanmax(importance) == 1
    legend = {entry.text: entry.count for entry in maps.kept_legend(trace)}
    assert legend == {
        "pruned at stage 1": (trace.pruned_stage == 1).sum(),
        "pruned at stage 2": (trace.pruned_stage == 2).sum(),
        "pruned at stage 3": (trace.pruned_stage == 3).sum(),
        "kept": trace.kept.sum(),
    }
    assert [entry.value for entry in maps.depth_legend(trace)] == [2, 4, 6, 8]


def test_legend_colours_are_those_of_the_map():
    _, layers, _ = simple()
    for role, legend in ((maps.KEPT, maps.kept_legend), (maps.DEPTH, maps.depth_legend)):
        entries = legend(layers.result.trace)
        for entry in entries:
            rgba = np.array(list(bytes.fromhex(entry.color[1:]))) / 255
            np.testing.assert_allclose(layers[role].get_color(entry.value), rgba, atol=1 / 255)
        assert len({entry.color for entry in entries}) == len(entries)
        assert layers[role].colormap.color_dict[0][3] == 0


def test_blocks_saved_counts_what_ran():
    trace = simple()[1].result.trace
    tokens = np.count_nonzero(~trace.air)

    assert maps.blocks_saved(trace) == pytest.approx(1 - trace.depth.sum() / (8 * tokens))


def test_segmentation_is_drawn_as_contours_in_the_colours_of_the_classes():
    _, layers, _ = simple()
    labels = layers["segmentation"]

    assert labels.contour > 0
    np.testing.assert_allclose(labels.get_color(1), (1, 0, 0, 1))
    np.testing.assert_allclose(labels.get_color(2), (0, 1, 0, 1))
    assert list(labels.features["structure"]) == list(CLASSES)


def test_second_result_fills_the_same_layers():
    viewer, layers, image = simple()
    before = list(viewer.layers)
    layers["segmentation"].opacity = 0.3
    volume = Scan.of(image).volume()

    layers.show(image, Scan.of(image), make_result(volume, np.ones(volume.shape, np.uint8), seed=7))

    assert list(viewer.layers) == before
    assert layers["segmentation"].data.all()
    assert layers["segmentation"].opacity == 0.3
    check_tokens(layers, image)


def test_result_moves_with_its_image():
    _, layers, image = simple()
    image.translate = np.add(image.translate, (10, 20, 30))
    volume = Scan.of(image).volume()

    layers.show(image, Scan.of(image), make_result(volume, np.ones(volume.shape, np.uint8)))

    check_tokens(layers, image)
    np.testing.assert_allclose(layers["segmentation"].translate, image.translate)


def test_preview_is_taken_back():
    _, layers, _ = simple()
    kept = np.array(layers[maps.KEPT].data)
    trace = layers.result.trace
    preview = np.where(trace.air, 0, 2).astype(np.uint8)

    layers.preview(maps.preview_map(preview, 3))
    assert set(np.unique(layers[maps.KEPT].data)) == {0, 5}
    layers.restore()

    assert np.array_equal(layers[maps.KEPT].data, kept)


def test_results_are_no_scans():
    viewer, layers, image = simple()

    assert not is_result(image)
    assert all(is_result(layers[role]) for role in ROLES)


def test_token_under_a_point_is_described():
    _, layers, image = simple()
    layers.choose(maps.IMPORTANCE, 2)
    trace = layers.result.trace
    token = tuple(np.argwhere(trace.kept)[0])
    at = np.linalg.inv(image.metadata["affine"]) @ trace.grid.affine @ [*token, 1]

    row = layers.token_at(tuple(image.data_to_world(at[:3])))

    assert (row["state"], row["depth"]) == ("kept", "8 of 8 blocks")
    assert row["importance at stage 2"] == pytest.approx(trace.percentile()[1][token])
    assert row["score"] == pytest.approx(trace.importance[1][token])
    assert layers.token_at((1e4, 1e4, 1e4)) is None
