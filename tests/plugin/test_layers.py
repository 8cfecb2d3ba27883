"""Results as layers: they show what the trace says, and nothing stale is left. No window."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Layer

from napari_sparseseg import maps
from napari_sparseseg.plugin.geometry import Scan
from napari_sparseseg.plugin.layers import ResultLayers, is_result
from napari_sparseseg.plugin.readers import image_layer
from napari_sparseseg.plugin.token_placement import TokenPlacement
from napari_sparseseg.session import Segmentation
from napari_sparseseg.volume import Volume

from .results import CLASSES, COLORS, check_tokens, make_result, simple
from .traces import muting_trace
from .window import STP_LAYERS


def test_maps_say_what_the_trace_says():
    _, layers, _ = simple()
    trace = layers.result.trace
    placement = TokenPlacement.of(trace.grid, layers["segmentation"].metadata["affine"])
    kept, depth = layers["kept"], layers["depth"]

    assert np.array_equal(kept.data == 4, placement.arrange(trace.kept))
    assert np.array_equal(kept.data == 0, placement.arrange(trace.air))
    assert np.array_equal(
        depth.data, placement.arrange(np.where(trace.air, -1, trace.depth.astype(int)))
    )
    importance = layers["importance"].data
    assert np.array_equal(np.isfinite(importance), placement.arrange(~trace.air))
    assert np.nanmin(importance) == 0
    assert np.nanmax(importance) == 1


def test_legend_colours_are_those_of_the_map():
    _, layers, _ = simple()
    for role, legend in (("kept", maps.kept_legend), ("depth", maps.depth_legend)):
        entries = legend(layers.result.trace)
        for entry in entries:
            rgba = np.array(list(bytes.fromhex(entry.color[1:]))) / 255
            np.testing.assert_allclose(layers[role].get_color(entry.value), rgba, atol=1 / 255)
        assert len({entry.color for entry in entries}) == len(entries)
        air = maps.AIR if role == "depth" else 0
        assert dict(layers[role].colormap.color_dict)[air][3] == 0


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
    kept = np.array(layers["kept"].data)
    trace = layers.result.trace
    preview = np.where(trace.air, 0, 2).astype(np.uint8)

    layers.preview(maps.preview_map(preview, 3))
    legend = maps.preview_legend(layers["kept"].data, 3, trace.fate)
    (entry,) = [e for e in legend if e.text == "goes on"]
    assert set(np.unique(layers["kept"].data)) == {0, entry.value}
    assert entry.value not in [e.value for e in maps.kept_legend(trace)]
    assert layers["kept"].get_color(entry.value)[3] > 0
    layers.restore()

    assert np.array_equal(layers["kept"].data, kept)


def test_results_are_no_scans():
    viewer, layers, image = simple()

    assert not is_result(image)
    assert all(is_result(layers[role]) for role in STP_LAYERS)


def test_token_under_a_point_is_described():
    _, layers, image = simple()
    layers.choose("importance", 2)
    trace = layers.result.trace
    token = tuple(np.argwhere(trace.kept)[0])
    at = np.linalg.inv(image.metadata["affine"]) @ trace.grid.affine @ [*token, 1]

    row = layers.token_at(tuple(image.data_to_world(at[:3])))

    assert (row["state"], row["depth"]) == ("kept", "8 of 8 blocks")
    assert row["importance at stage 2"] == pytest.approx(trace.percentile()[1][token])
    assert row["score"] == pytest.approx(trace.importance[1][token])
    assert layers.token_at((1e4, 1e4, 1e4)) is None


def names(viewer: ViewerModel) -> list[str]:
    return [layer.name for layer in viewer.layers]


def result_of(image: Image, method: str, seed: int = 1) -> Segmentation:
    volume = Scan.of(image).volume()
    return make_result(volume, np.ones(volume.shape, np.uint8), seed, method)


def test_another_method_takes_away_the_maps_it_lacks_and_gives_its_own_their_place():
    viewer, layers, image = simple()
    kept = layers["kept"]

    layers.show(image, Scan.of(image), result_of(image, "dense"))
    assert names(viewer) == ["scan", "scan depth", "scan tokens", "scan segmentation"]
    assert kept not in viewer.layers
    assert "kept" not in layers

    layers.show(image, Scan.of(image), result_of(image, "dtop"))
    assert names(viewer) == ["scan", *(f"scan {role}" for role in STP_LAYERS)]
    check_tokens(layers, image)
    assert layers["kept"].visible
    assert viewer.layers.selection.active == layers["tokens"]


def test_scores_that_are_no_ranks_are_shown_as_they_are():
    _, layers, image = simple()
    layers.show(image, Scan.of(image), result_of(image, "dtop"))
    layers.choose("importance", 3)
    trace = layers.result.trace

    shown = layers["importance"].data
    assert np.array_equal(
        np.sort(shown[np.isfinite(shown)]),
        np.sort(trace.importance[2][np.isfinite(trace.importance[2])]),
    )
    token = int(np.flatnonzero(np.isfinite(trace.importance[2]))[0])
    row = layers["tokens"].features.iloc[token]
    assert row["confidence at stage 3"] == pytest.approx(trace.importance[2].flat[token])


def test_kept_result_stays_when_the_next_one_comes():
    viewer, layers, image = simple()
    old = {role: layers[role] for role in ("kept", "depth", "importance", "segmentation")}
    data = {role: np.array(layer.data) for role, layer in old.items()}
    first = layers.result

    layers.keep("STP + MTA, keep ratio 0.5")
    layers.show(image, Scan.of(image), first)
    layers.show(image, Scan.of(image), result_of(image, "dense", seed=3))

    assert names(viewer) == [
        "scan",
        "scan importance (STP + MTA, keep ratio 0.5)",
        "scan kept (STP + MTA, keep ratio 0.5)",
        "scan depth (STP + MTA, keep ratio 0.5)",
        "scan depth",
        "scan tokens",
        "scan segmentation (STP + MTA, keep ratio 0.5)",
        "scan segmentation",
    ]
    assert [x.name for x in viewer.layers if x.visible and x is not image] == [
        "scan tokens", "scan segmentation (STP + MTA, keep ratio 0.5)", "scan segmentation",
    ]  # fmt: skip
    for role, layer in old.items():
        assert np.array_equal(layer.data, data[role], equal_nan=True), role
        assert is_result(layer)
    for layer in old.values():
        viewer.layers.remove(layer)
    layers.show(image, Scan.of(image), result_of(image, "stp", seed=4))
    assert names(viewer) == ["scan", *(f"scan {role}" for role in STP_LAYERS)]


def dependent() -> tuple[ViewerModel, ResultLayers, Image]:
    """Show a 2x2x2 grid of tokens of which the first is air and the next two lost their query."""
    trace = muting_trace()
    data = np.arange(16**3, dtype=np.float32).reshape(16, 16, 16)
    volume = Volume(data, np.eye(4), "scan")
    image = Layer.create(*image_layer(volume, "memory"))
    viewer = ViewerModel()
    viewer.add_layer(image)
    layers = ResultLayers(viewer)
    labels = Volume(np.zeros(data.shape, np.uint8), volume.affine)
    layers.show(image, Scan.of(image), Segmentation(labels, CLASSES, COLORS, {}, trace))
    return viewer, layers, image


def world_of(layers: ResultLayers, token: int) -> tuple[float, ...]:
    (index,) = np.argwhere(layers["tokens"].data == token + 1)
    return tuple(layers["tokens"].data_to_world(index))


def test_picking_a_token_shows_what_it_depends_on_and_marks_it():
    _, layers, _ = dependent()
    layers.choose("dependencies", 1)
    assert layers["dependencies"].visible

    assert layers.pick(world_of(layers, 6))

    assert layers.token == 6
    ids, shares = layers["tokens"].data, layers["dependencies"].data
    found = {int(i) - 1: s for i, s in zip(ids.ravel(), shares.ravel(), strict=True)}
    assert [found[t] for t in range(1, 8)] == [0.5, 0.5, 0, 0, 0, 1, 0]
    assert np.isnan(found[0])
    assert layers["tokens"].get_color(7)[3] > 0.5
    assert layers["tokens"].get_color(5)[3] == 0

    layers.pick(world_of(layers, 1))
    assert np.isnan(layers["dependencies"].data).all()
    assert not layers.pick((500.0, 500.0, 500.0))
    assert layers.token == 1
    layers.choose("depth", 1)
    assert layers["tokens"].get_color(2)[3] == 0


def test_token_in_the_slice_is_chosen_until_one_is_picked():
    viewer, layers, image = dependent()
    for superior in (3, 4, 7, 6):
        layers.choose("depth", 1)
        viewer.dims.set_point(0, world_of(layers, superior)[0])
        layers.choose("dependencies", 1)
        assert world_of(layers, layers.token)[0] == viewer.dims.point[0]
        assert layers.result.trace.attended(layers.token) is not None

    layers.pick(world_of(layers, 6))
    layers.choose("depth", 1)
    layers.choose("dependencies", 1)
    layers.show(image, Scan.of(image), layers.result)

    assert layers.token == 6
