"""Real scans: the split, the way into model space, and the augmentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor

from napari_sparseseg.canonical import ModelSpace
from napari_sparseseg.errors import InputError
from napari_sparseseg.files import read_volume
from napari_sparseseg.intensity import normalise
from napari_sparseseg.training.losses import soft_labels
from napari_sparseseg.training.recipe import load_recipe
from napari_sparseseg.training.scans import (
    Case,
    LoadCase,
    RandMirror,
    ScanConfig,
    ScanSource,
    read_split,
)
from tests.training.conftest import RECIPES, WINDOW

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


def test_ct_is_scaled_by_its_hounsfield_units(data_set: Path) -> None:
    """The 100, 300 and 500 HU of the images are 0.6, 1 and 1.4; see test_intensity.py."""
    case = read_split(data_set, "train")[0]
    loaded = LoadCase(1.0, "ct")(case)
    expected = 0.6 + 0.4 * loaded["label"]
    torch.testing.assert_close(loaded["image"], expected, atol=1e-5, rtol=0)
    image = replace(STILL, intensity="ct").open(data_set).draw().image
    assert float(image.max()) == pytest.approx(1.4, abs=0.01)


@pytest.fixture
def body(tmp_path: Path) -> Case:
    """Write a CT of a body of 24x40x24 voxels in the corner of a field of air."""
    hounsfield = np.full((64, 80, 60), -1000, dtype=np.float32)
    labels = np.zeros_like(hounsfield)
    hounsfield[2:26, 1:41, 3:27] = 50
    labels[2:26, 1:41, 3:27] = 1
    case = Case(tmp_path / "image.nii.gz", tmp_path / "label.nii.gz")
    for path, data in ((case.image, hounsfield), (case.label, labels)):
        nib.save(nib.Nifti1Image(data, np.eye(4)), path)
    return case


def seen_of(body: Case, *, cropped: bool) -> list[tuple[int, Tensor]]:
    """Voxels of the body that each of 20 draws shows, and where they begin."""
    source = ScanSource([body], replace(STILL, intensity="ct", cropped=cropped))
    seen = []
    for seed in range(20):
        source.seed(seed)
        label = source.draw().subvoxels[0]
        seen.append((int(label.sum()), torch.argwhere(label)[:1]))
    return seen


def test_a_cropped_scan_is_seen_whole_wherever_the_body_lies(body: Case) -> None:
    """The body leaves 8 voxels of the window along every axis, which is what it moves by."""
    seen = seen_of(body, cropped=True)
    assert {voxels for voxels, _ in seen} == {24 * 40 * 24}
    places = torch.cat([first for _, first in seen])
    assert places.min() == 0
    assert places.max() <= 8
    assert len(places.unique(dim=0)) > 15


def test_a_scan_that_is_not_cropped_is_seen_in_part(body: Case) -> None:
    assert min(voxels for voxels, _ in seen_of(body, cropped=False)) < 24 * 40 * 24 / 2


def test_a_mirrored_scan_by_hand() -> None:
    """Right and left, 1 and 2, change places; 3 has no partner."""
    image = torch.tensor([0.1, 0.2, 0.3, 0.4]).view(1, 4, 1, 1)
    label = torch.tensor([1.0, 3.0, 0.0, 2.0]).view(1, 4, 1, 1)
    mirror, mirrored = RandMirror(((1, 2),)), 0
    for seed in range(100):
        mirror.set_random_state(seed)
        drawn = mirror({"image": image, "label": label})
        if torch.equal(drawn["image"], image):
            assert torch.equal(drawn["label"], label)
            continue
        mirrored += 1
        assert drawn["image"].flatten().tolist() == image.flatten().tolist()[::-1]
        assert drawn["label"].flatten().tolist() == [1.0, 0.0, 3.0, 2.0]
    assert 35 <= mirrored <= 65  # half of them, give or take three standard deviations
    assert label.flatten().tolist() == [1.0, 3.0, 0.0, 2.0]


def exchanged(data_set: Path, config: ScanConfig) -> list[bool]:
    """Whether the brighter box, which is class 2, is class 1 in each of 20 draws."""
    source, answers = config.open(data_set), []
    for seed in range(20):
        source.seed(seed)
        sample = source.draw()
        one, two = (float(sample.image[0, 0][sample.subvoxels[0] == c].mean()) for c in (1, 2))
        assert abs(one - two) > 0.2
        answers.append(one > two)
    return answers


def test_a_recipe_decides_whether_scans_are_mirrored(data_set: Path) -> None:
    mirrored = exchanged(data_set, replace(STILL, mirrored=((1, 2),)))
    assert set(mirrored) == {True, False}
    assert mirrored == exchanged(data_set, replace(STILL, mirrored=((1, 2),)))
    assert not any(exchanged(data_set, STILL))


def test_a_recipe_may_hold_pairs(tmp_path: Path) -> None:
    """Lists in lists become tuples in tuples, so that a recipe can be compared and hashed."""
    path = tmp_path / "paired.toml"
    path.write_text(
        f'base = "{RECIPES / "hippocampus-mr-start.toml"}"\n[data]\nintensity = "ct"\n'
        "cropped = true\nmirrored = [[3, 4], [1, 2]]\n"
    )
    data = load_recipe(path).data
    assert isinstance(data, ScanConfig)
    assert data.mirrored == ((3, 4), (1, 2))
    assert (data.intensity, data.cropped, data.window) == ("ct", True, (48, 64, 48))
    assert hash(data) == hash(replace(data))
