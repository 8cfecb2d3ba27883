"""DICOM at the command: ``sparseseg parts``, and ``--part`` where a scan is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli_checks import TINY, Sparseseg, assert_refused

from napari_sparseseg.files import read_volume, write_volume
from napari_sparseseg.volume import Volume
from tests.dicom.series import AXIAL, header, write_series


@pytest.fixture
def folder(tmp_path: Path, make_scan: Callable[..., Volume]) -> Path:
    """Write two series, of which the first is a scan like the others here."""
    affine = AXIAL @ np.diag([1.4, 1.25, 0.4, 1])
    data = np.rint(make_scan((20, 18, 16), margin=1).data).astype(np.int16)
    write_series(tmp_path / "dicom", data, affine, shared=header("MR", 2))
    write_series(tmp_path / "dicom", data[:, :, ::2], affine, shared=header("CT", 7))
    return tmp_path / "dicom"


def test_parts_are_listed_for_people(sparseseg: Sparseseg, folder: Path) -> None:
    shared = header("CT", 10)
    shared.SamplesPerPixel = 3
    write_series(folder, np.zeros((4, 4, 2), np.int16), shared=shared,
                 change=lambda _, item: setattr(item, "SamplesPerPixel", 3))  # fmt: skip
    answer = sparseseg("parts", folder)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.splitlines() == [
        "2   MR, 16 slices of 20 x 18, 0.98 x 1 x 1 mm, axial",
        "7   CT, 8 slices of 20 x 18, 0.98 x 1 x 1 mm, axial",
        "10  CT, 2 slices of 4 x 4",
        "    CT series 10 holds colour images; choose a series with one measured value per voxel.",
    ]


def test_parts_are_listed_for_programs(sparseseg: Sparseseg, folder: Path, scan: Path) -> None:
    listed = json.loads(sparseseg("parts", folder, "--json").out)
    assert [entry["key"] for entry in listed] == ["2", "7"]
    assert set(listed[0]) == {"key", "title", "problem"}
    (frame,) = json.loads(sparseseg("parts", scan, "--json").out)
    assert frame["key"] == "1"


def test_a_folder_without_scans_ends_in_a_sentence(sparseseg: Sparseseg, tmp_path: Path) -> None:
    assert_refused(sparseseg("parts", tmp_path), "without DICOM images")


def test_the_labels_of_a_series_are_those_of_the_same_scan_as_nifti(
    sparseseg: Sparseseg, folder: Path, tmp_path: Path
) -> None:
    write_volume(read_volume(folder, part="2"), tmp_path / "scan.nii.gz")
    for source, name in ((folder, "dicom"), (tmp_path / "scan.nii.gz", "nifti")):
        part = ["--part", "2"] if source == folder else []
        answer = sparseseg("segment", source, tmp_path / f"{name}-labels.nii.gz", *part, *TINY)
        assert (answer.code, answer.err) == (0, "")
    mine, expected = (read_volume(tmp_path / f"{n}-labels.nii.gz") for n in ("dicom", "nifti"))
    np.testing.assert_array_equal(mine.data, expected.data)
    np.testing.assert_allclose(mine.affine, expected.affine, atol=1e-5)
    assert len(np.unique(mine.data)) > 2


@pytest.mark.parametrize("command", ["segment", "sweep"])
def test_a_choice_is_asked_for(
    sparseseg: Sparseseg, folder: Path, tmp_path: Path, command: str
) -> None:
    output = [tmp_path / "labels.nii.gz"] if command == "segment" else ["--out", tmp_path / "out"]
    answer = sparseseg(command, folder, *output, *TINY)
    assert_refused(answer, "choose one of: 2 (MR, 16 slices")
    assert answer.err.endswith("axial), with --part.\n")
    assert_refused(sparseseg(command, folder, *output, "--part", "3", *TINY), "no series '3'")


def test_a_series_is_swept(sparseseg: Sparseseg, folder: Path, tmp_path: Path) -> None:
    answer = sparseseg("sweep", folder, "--part", "7", "--out", tmp_path / "out", "--no-random",
                       "--ratios", "1,0.5", *TINY)  # fmt: skip
    assert (answer.code, answer.err) == (0, "")
    assert (tmp_path / "out" / "sweep.json").exists()
