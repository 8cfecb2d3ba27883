"""Results of a curve, compressed: they come back as they were, in a fraction of the memory."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_sparseseg.plugin.inspector.curve_data import Packed
from napari_sparseseg.session import Segmentation
from napari_sparseseg.volume import Volume

from .conftest import CLASSES, COLORS


def result_of(data: np.ndarray) -> Segmentation:
    volume = Volume(data, np.diag([2.0, 1, 3, 1]), "scan segmentation", ("a note.",))
    return Segmentation(volume, CLASSES, COLORS, {"model": "tiny"}, None)


@settings(max_examples=60, deadline=None)
@given(
    data=arrays(np.uint8, st.tuples(*(st.integers(1, 7),) * 3), elements=st.integers(0, 255)),
    order=st.sampled_from(list(itertools.permutations(range(3)))),
    flipped=st.sets(st.integers(0, 2)),
)
def test_a_packed_result_comes_back_whole(data: np.ndarray, order: tuple, flipped: set):
    data = np.flip(data.transpose(order), tuple(flipped))
    result = result_of(data)

    packed = Packed.of(result)
    back = packed.unpacked()

    np.testing.assert_array_equal(back.labels.data, data)
    assert back.labels.data.dtype == data.dtype
    np.testing.assert_array_equal(back.labels.affine, result.labels.affine)
    assert (back.labels.name, back.labels.notes) == (result.labels.name, result.labels.notes)
    assert (back.classes, back.report) == (result.classes, result.report)
    back.labels.data[...] = 1  # it is nobody else's
    np.testing.assert_array_equal(packed.unpacked().labels.data, data)


def test_a_map_of_structures_takes_a_fraction_of_its_memory():
    axes = np.ogrid[-1:1:128j, -1:1:128j, -1:1:100j]
    radius = np.sqrt(sum(axis**2 for axis in axes))
    labels = (3 * (1 - radius)).clip(0, 2).astype(np.uint8)

    packed = Packed.of(result_of(labels))

    assert len(packed.voxels) < labels.nbytes / 20
    assert packed.result.labels.data.size == 0
