"""Results made by hand and shown without a window, and where their layers should lie."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Layer
from nibabel.orientations import apply_orientation, inv_ornt_aff

from napari_sparseseg import maps
from napari_sparseseg.canonical import ModelSpace
from napari_sparseseg.plugin.geometry import Scan
from napari_sparseseg.plugin.layers import ResultLayers
from napari_sparseseg.plugin.readers import image_layer
from napari_sparseseg.session import Segmentation
from napari_sparseseg.tokens import TokenGrid
from napari_sparseseg.volume import Volume

from .traces import make_trace

CLASSES = ("background", "left", "right")
COLORS = ("#000000", "#ff0000", "#00ff00")
ORIENTATIONS = [
    np.array(list(zip(axes, signs, strict=True)), dtype=float)
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def make_result(
    volume: Volume, labels: np.ndarray, seed: int = 0, method: str = "stp"
) -> Segmentation:
    space = ModelSpace.of(volume, 2.0)
    trace = make_trace(TokenGrid.over(space.shape, space.affine), method, seed)
    return Segmentation(Volume(labels, volume.affine), CLASSES, COLORS, {}, trace)


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
        for role in ("kept", "depth", "importance"):
            assert_same_place(layers[role].data_to_world(found), expected)
        depth = maps.AIR if trace.air[token] else trace.depth[token]
        assert layers["depth"].data[tuple(found)] == depth
        assert_affine_of(layers["tokens"], found, trace.grid.affine @ [*token, 1])


def assert_same_place(one: Any, other: Any) -> None:
    np.testing.assert_allclose(one, other, atol=1e-6)


def assert_affine_of(layer: Layer, index: np.ndarray, point: np.ndarray) -> None:
    np.testing.assert_allclose(layer.metadata["affine"] @ [*index, 1], point, atol=1e-6)
