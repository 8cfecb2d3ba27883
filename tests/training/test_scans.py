"""Real scans: the split, the way into model space, and the augmentation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_sparseseg.canonical import ModelSpace
from napari_sparseseg.errors import InputError
from napari_sparseseg.files import read_volume
from napari_sparseseg.intensity import normalise
from napari_sparseseg.training.losses import soft_labels
from napari_sparseseg.training.scans import Case, LoadCase, ScanConfig, ScanSource, read_split
from tests.training.conftest import WINDOW

STILL = ScanConfig(WINDOW, rotation=0.0, scaling=0.0, shear=0.0, contrast=0.0)
"""Nothing but a shift on the token grid (and, now and then, a blur)."""


def test_the_parts_of_a_split_are_apart(data_set: Path) -> None:
    parts = {
        part: [case.name for case in read_split(data_set, part)]
        for part in ("train", "val", "test")
    }
    assert parts == {
        "train": ["scan_0", "scan_1"],
        "val": ["scan_2"],
        "test": ["scan_3", "scan_4"],
    }


def test_no_scan_of_another_part_is_ever_drawn(make_data_set: Callable[..., Path]) -> None:
    """Validation and test scans that would be seen at once are not even read."""
    folder = make_data_set(train=2, val=2, test=2)
    for part in ("val", "test"):
        for case in read_split(folder, part):
            case.image.write_bytes(b"no scan")
    source = ScanConfig(WINDOW).open(folder)
    for _ in range(10):
        source.draw()
    assert [case.name for case in source.dataset.data] == ["scan_0", "scan_1"]


def test_a_folder_without_a_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"split\.json"):
        read_split(tmp_path, "train")


def test_a_missing_file_of_a_split_is_named(make_data_set: Callable[..., Path]) -> None:
    folder = make_data_set()
    (folder / "labels" / "scan_1.nii.gz").unlink()
    with pytest.raises(InputError, match=r"scan_1\.nii\.gz is missing"):
        read_split(folder, "train")


@pytest.mark.parametrize("spacing", [1.0, 2.0])
def test_training_sees_what_inference_sees(data_set: Path, spacing: float) -> None:
    case = read_split(data_set, "train")[0]
    loaded = LoadCase(spacing)(case)
    volume = read_volume(case.image).validated()
    space = ModelSpace.of(volume, spacing)
    assert torch.equal(loaded["image"][0], normalise(space.to_model(volume.data)))
    assert loaded["label"].shape == loaded["image"].shape


def test_labels_are_turned_into_canonical_axes(data_set: Path) -> None:
    """The file runs to the left and to the back: the anterior box ends up in front."""
    label = LoadCase(1.0)(read_split(data_set, "train")[0])["label"][0]
    front, back = (np.argwhere(label.numpy() == index)[:, 1] for index in (1, 2))
    assert (front.min(), front.max(), back.min(), back.max()) == (22, 31, 10, 19)


def test_labels_take_the_larger_share_of_a_coarser_voxel(data_set: Path) -> None:
    label = LoadCase(2.0)(read_split(data_set, "train")[0])["label"][0]
    assert label.shape == (14, 20, 13)
    # a box of 8x10x8 voxels at even places along two axes, and at odd ones along the third,
    # where the halves at either end are ties that go to the lower class
    assert int((label == 1).sum()) == 4 * 5 * 3


def test_a_draw_is_decided_by_its_seed(data_set: Path) -> None:
    source = ScanConfig(WINDOW).open(data_set)
    source.seed(5)
    first, second = source.draw(), source.draw()
    again = ScanConfig(WINDOW).open(data_set)
    again.seed(5)
    repeated = again.draw()
    assert torch.equal(first.image, repeated.image)
    assert torch.equal(first.subvoxels, repeated.subvoxels)
    assert not torch.equal(first.image, second.image)


def test_the_label_moves_with_the_image(data_set: Path) -> None:
    """The image is bright where the label is, whatever the deformation."""
    config = ScanConfig(WINDOW, rotation=30.0, scaling=0.2, shear=0.2, contrast=0.0)
    source = config.open(data_set)
    moved = set()
    for seed in range(8):
        source.seed(seed)
        sample = source.draw()
        label = sample.subvoxels[0]
        # the images' 100, 300 and 500, to the nearest; partial volume blurs only the faces
        level = torch.bucketize(sample.image[0, 0], torch.tensor([0.4, 0.8]))
        anterior, posterior = label == 1, label == 2
        assert (level == label)[sample.image[0, 0] > 0].float().mean() > 0.93
        assert int(anterior.sum()) > 200
        assert int(posterior.sum()) > 200
        moved.add(tuple(np.argwhere(anterior.numpy()).mean(0).round(1)))
    assert len(moved) == 8


def test_scans_fall_anywhere_on_the_token_grid(make_data_set: Callable[..., Path]) -> None:
    source = STILL.open(make_data_set(shape=(24, 40, 26)))
    starts = set()
    for seed in range(60):
        source.seed(seed)
        starts.add(int(np.argwhere(source.draw().image[0, 0].numpy() > 0)[:, 0].min()))
    assert {start % 8 for start in starts} == set(range(8))


def test_what_lies_outside_the_scan_stays_air(data_set: Path) -> None:
    source = ScanConfig(WINDOW, contrast=2.0).open(data_set)
    for seed in range(10):
        source.seed(seed)
        image = source.draw().image[0, 0]
        assert image.shape == WINDOW
        assert float(image.min()) == 0.0
        assert float(image.max()) <= 1.5
        assert 0.3 < float((image == 0).float().mean()) < 0.7  # the scan fills half of the window


def test_scans_larger_than_the_window_are_cut(make_data_set: Callable[..., Path]) -> None:
    source = STILL.open(make_data_set(shape=(50, 70, 60)))
    sample = source.draw()
    assert sample.image.shape == (1, 1, *WINDOW)
    assert sample.subvoxels.shape == (1, *WINDOW)


def test_hard_labels_are_soft_labels_of_one_voxel(data_set: Path) -> None:
    label = ScanConfig(WINDOW).open(data_set).draw().subvoxels
    shares = soft_labels(label.flatten(1)[:, None], 3)
    assert shares.shape == (3, 1, int(np.prod(WINDOW)))
    assert torch.equal(shares.argmax(dim=0)[0], label.flatten().long())
    assert shares.max() == 1.0


def test_drawing_from_the_real_scans(data_dir: Path) -> None:
    folder = data_dir / "hippocampus"
    parts = [{case.name for case in read_split(folder, p)} for p in ("train", "val", "test")]
    assert [len(part) for part in parts] == [160, 20, 20]
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
    cases = read_split(folder, "train")[:3]
    sample = ScanSource(cases, ScanConfig()).draw()
    assert sample.image.shape == (1, 1, 48, 64, 48)
    assert sample.subvoxels.unique().tolist() == [0, 1, 2]


def test_a_case_is_named_after_its_file() -> None:
    assert Case(Path("images/a_1.nii.gz"), Path("labels/a_1.nii.gz")).name == "a_1"
