"""Files with several frames: what `parts` lists, and one frame read out of many."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from napari_sparseseg.errors import InputError
from napari_sparseseg.files import SUFFIXES, Part, parts, read_volume
from tests.files.samples import (
    OBLIQUE,
    assert_one_sentence,
    assert_same_place,
    itk_image,
    nrrd_file,
    refused,
    write_samples,
)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_each_frame_is_what_went_into_it(tmp_path: Path, suffix: str, packed: bool) -> None:
    images = [itk_image(seed=seed) for seed in range(3)]
    path = tmp_path / f"film{suffix}"
    sitk.WriteImage(sitk.JoinSeries(images), path, useCompression=packed)
    listed = parts(path)
    assert [part.key for part in listed] == ["1", "2", "3"]
    for image, part in zip(images, listed, strict=True):
        volume = read_volume(path, part=part.key)
        assert_same_place(image, volume)
        np.testing.assert_array_equal(volume.data, sitk.GetArrayFromImage(image).T)


def test_titles_say_what_a_frame_is(tmp_path: Path) -> None:
    path = tmp_path / "film.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6, 40), np.int16), np.diag([0.5, 2, 3, 1])), path)
    assert parts(path)[2] == Part("3", "frame 3 of 40, 4 x 5 x 6 voxels of 0.5 x 2 x 3 mm")
    assert len(parts(path)) == 40


def test_every_single_scan_is_one_part(tmp_path: Path) -> None:
    for path in write_samples(tmp_path).values():
        (part,) = parts(path)
        assert part.key == "1" and part.title.startswith("frame 1 of 1, 7 x 6 x 5 voxels")
        np.testing.assert_array_equal(
            read_volume(path, part="1").data, read_volume(path).data, str(path)
        )


@pytest.mark.parametrize("key", ["", "0", "4", "-1", "1.0", "x", "²", "1" * 5000])
def test_other_keys_are_refused_with_the_choice(tmp_path: Path, key: str) -> None:
    path = tmp_path / "film.nrrd"
    sitk.WriteImage(sitk.JoinSeries([itk_image()] * 3), path)
    refused(path, "; choose 1 to 3" if key else "3 frames, 1 to 3; choose", part=key)


def test_a_single_scan_has_no_second_frame(tmp_path: Path) -> None:
    refused(
        write_samples(tmp_path)["nifti"],
        "no frame of the name that was asked for; choose 1 to 1",
        part="2",
    )


@pytest.mark.parametrize("kinds", ["list domain domain domain", "space space space time"])
def test_a_nrrd_counts_frames_along_its_first_or_last_axis(tmp_path: Path, kinds: str) -> None:
    """As 3D Slicer writes sequences and overlapping segments: all frames at every voxel."""
    frames = np.arange(5 * 2 * 3 * 4, dtype="<i2").reshape(5, 2, 3, 4)
    first = kinds.startswith("list")
    values = frames if first else np.moveaxis(frames, 0, -1)
    vectors = ["(-1,0,0)", "(0,-2,0)", "(0,0,3)"]
    vectors.insert(0 if first else 3, "none")
    path = nrrd_file(
        tmp_path / "film.seq.nrrd",
        "dimension: 4",
        f"sizes: {'5 2 3 4' if first else '2 3 4 5'}",
        f"kinds: {kinds}",
        "space: left-posterior-superior",
        f"space directions: {' '.join(vectors)}",
        "space origin: (10,20,30)",
        content=values.tobytes(order="F"),
    )
    for n in range(5):
        volume = read_volume(path, part=str(n + 1))
        np.testing.assert_array_equal(volume.data, frames[n])
        expected = [[1, 0, 0, -10], [0, 2, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]]
        np.testing.assert_array_equal(volume.affine, expected)
    assert volume.notes == ()


@pytest.mark.parametrize(
    ("kinds", "match"),
    [
        ("domain list domain domain", "first or last axis"),
        ("list domain domain list", "first or last axis"),
        ("vector domain domain domain", "several values per voxel"),
        ("RGB-color domain domain domain", "several values per voxel"),
    ],
)
def test_other_fourth_axes_are_refused(tmp_path: Path, kinds: str, match: str) -> None:
    path = nrrd_file(
        tmp_path / "scan.nrrd",
        "dimension: 4",
        "sizes: 3 2 3 4",
        f"kinds: {kinds}",
        "spacings: 1 1 1 1",
    )
    refused(path, match)


def test_a_film_of_slices_is_refused(tmp_path: Path) -> None:
    refused(nrrd_file(tmp_path / "scan.nrrd", "kinds: domain domain list"), "2-D frames")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_five_dimensions_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scan{suffix}"
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3, 2, 2), np.int16), OBLIQUE), path)
    refused(path, "5 dimensions")
    with pytest.raises(InputError) as caught:
        parts(path)
    assert_one_sentence(caught.value)


@pytest.mark.parametrize("name", ["film.nii", "film.nii.gz", "film.nrrd", "film.mha"])
def test_only_the_chosen_frame_is_taken_into_memory(tmp_path: Path, name: str) -> None:
    data = np.random.default_rng(0).integers(0, 9, (64, 64, 64, 24)).astype(np.int16)
    if ".nii" in name:
        nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / name)
    else:
        images = [sitk.GetImageFromArray(data[..., n].T) for n in range(24)]
        sitk.WriteImage(sitk.JoinSeries(images), tmp_path / name, useCompression="nrrd" in name)
    read_volume(tmp_path / name, part="1")  # what the libraries keep of themselves
    tracemalloc.start()
    try:
        volume = read_volume(tmp_path / name, part="23")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(volume.data, data[..., 22])
    assert peak < volume.data.nbytes + 7e6 < data.nbytes * 0.6
