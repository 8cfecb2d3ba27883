"""A scan that is mapped from its file: the same answer, and never copied whole."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_sparseseg.files import read_volume, write_volume
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.volume import Volume

MakeScan = Callable[..., Volume]
COARSE = np.diag([0.25, 0.25, 0.25, 1.0])


@pytest.fixture(scope="module")
def stored(make_scan: MakeScan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a scan of small voxels, 14 MB of int16."""
    scan = make_scan((200, 192, 184), COARSE, margin=10)
    path = tmp_path_factory.mktemp("mapped") / "scan.nii"
    write_volume(Volume(scan.data.astype(np.int16), scan.affine, "scan"), path)
    return path


def test_a_mapped_scan_is_segmented_as_one_in_memory(segmenter: Segmenter, stored: Path) -> None:
    mapped = read_volume(stored, mapped=True)
    assert isinstance(mapped.data.base, np.memmap)
    loaded = Volume(np.array(mapped.data), mapped.affine, mapped.name)

    np.testing.assert_array_equal(
        segmenter.segment(mapped, 0.4).labels.data, segmenter.segment(loaded, 0.4).labels.data
    )


def test_a_mapped_scan_stays_in_its_file(segmenter: Segmenter, stored: Path) -> None:
    """Numpy takes a slab of it at a time; the labels, and a copy to count, have half its bytes."""
    mapped = read_volume(stored, mapped=True)
    segmenter.segment(mapped, 0.4)  # what is made once is there
    tracemalloc.start()
    try:
        with segmenter.open(mapped) as session:
            opening = tracemalloc.get_traced_memory()[1]
            assert session.volume.data is mapped.data
            session.run(0.4)
        whole = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert opening < 0.5 * mapped.data.nbytes
    assert whole < 1.3 * mapped.data.nbytes
