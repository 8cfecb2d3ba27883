"""A model for CT refuses what cannot be in Hounsfield units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from checks import assert_sentence

from napari_sparseseg.errors import InputError
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import ModelInfo


@pytest.fixture
def for_ct(tiny_models: dict[str, ModelInfo]) -> Segmenter:
    return Segmenter(replace(tiny_models["tiny-stp"], intensity="ct"), device="cpu")


def test_a_scan_with_nothing_below_zero_is_refused(
    for_ct: Segmenter, make_scan: Callable[..., Volume]
) -> None:
    scan = make_scan((32, 32, 32))
    assert scan.data.min() >= 0

    with pytest.raises(InputError, match="Hounsfield units") as caught:
        for_ct.open(scan)
    assert_sentence(caught.value)


def test_a_scan_with_fat_and_air_is_taken(
    for_ct: Segmenter, make_scan: Callable[..., Volume]
) -> None:
    scan = make_scan((32, 32, 32))
    moved = Volume(scan.data * 4 - 1000, scan.affine, scan.name)

    assert for_ct.segment(moved, 0.5).labels.shape == scan.shape
