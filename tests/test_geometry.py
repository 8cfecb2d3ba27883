"""From file to file: every label and token lies where its tissue lies, by SimpleITK alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sparseseg.errors import InputError
from napari_sparseseg.files import read_volume, write_volume
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.volume import Volume
from tests.geometry.known import Case, check, draw, make_segmenter


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return make_segmenter(tmp_path_factory.mktemp("bands"))


@pytest.mark.parametrize("way", range(48))
def test_all_orientations(segmenter: Segmenter, tmp_path: Path, way: int) -> None:
    """An oblique, anisotropic scan of odd size."""
    case = Case((33, 27, 21), (0.9, 1.1, 1.6), way, angles=(20.0, -15.0, 10.0))

    certain, known = check(segmenter, case, tmp_path)

    assert certain > 0.3
    assert known > 0.5


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_scan(
    segmenter: Segmenter, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    case = draw(np.random.default_rng(seed))
    check(segmenter, case, tmp_path_factory.mktemp("scan"))


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((1, 40, 35), (4.0, 1.0, 1.2)),
        ((41, 1, 30), (1.0, 5.0, 1.0)),
        ((37, 29, 1), (0.8, 0.9, 2.0)),
        ((3, 5, 4), (1.0, 2.0, 1.5)),
        ((60, 55, 4), (0.5, 0.5, 10.0)),
        ((90, 33, 35), (1.0, 1.0, 1.0)),
    ],
    ids=["one sagittal slice", "one coronal slice", "one axial slice", "smaller than a patch",
         "1 to 20", "several windows"],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_sizes(
    segmenter: Segmenter,
    tmp_path: Path,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    suffix: str,
) -> None:
    case = Case(shape, spacing, 29, angles=(5.0, 12.0, -8.0), suffix=suffix)
    check(segmenter, case, tmp_path)


def test_a_sheared_grid_is_refused(segmenter: Segmenter, tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[0, 1] = 0.2
    noise = np.random.default_rng(0).integers(-200, 900, (20, 20, 20)).astype(np.int16)
    write_volume(Volume(noise, affine), tmp_path / "scan.nii.gz")

    with pytest.raises(InputError, match="not at right angles"):
        segmenter.segment(read_volume(tmp_path / "scan.nii.gz"))
