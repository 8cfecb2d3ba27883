"""Label maps of heads, and the scans synthesised from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from benchmarks.quality.cases import majority
from napari_sparseseg.training.anatomy import STRUCTURES, class_of_label, load_anatomy
from napari_sparseseg.training.synthesis import SynthesisConfig, Synthesiser
from tests.training.conftest import WINDOW


def test_labels_become_classes_with_sides_merged() -> None:
    names = list(STRUCTURES)
    labels = np.array([0, 41, 2, 44, 53, 502, 24, 85])
    expected = [
        "background",
        "cerebral white matter",
        "cerebral white matter",
        "lateral ventricle",
        "hippocampus",
        "background",
        "CSF",
        "background",
    ]
    assert [names[c] for c in class_of_label(labels)] == expected


def test_heads_are_in_canonical_axes_and_know_the_distance_to_the_brain(label_map: Path) -> None:
    anatomy = load_anatomy([label_map])
    head = anatomy.heads[0]
    assert head.tissue.shape == (66, 86, 56)  # R, A, S of the part that is not background
    classes = anatomy.classes[head.tissue]
    thalami = np.argwhere(classes == list(STRUCTURES).index("thalamus"))
    assert np.ptp(thalami, axis=0).tolist() == [21, 9, 7]
    assert head.centre.tolist() == [32.5, 42.5, 27.5]
    assert head.rim[33, 43, 28] == 0
    assert head.rim[5, 43, 28] == 3  # cortex begins at 8


def test_samples_are_reproducible_and_show_their_labels(label_map: Path) -> None:
    anatomy = load_anatomy([label_map])
    config = SynthesisConfig(WINDOW, stripped=1.0, off_centre=0.0)
    one, two = (Synthesiser(anatomy, config) for _ in range(2))
    one.seed(5)
    first, second = one.draw(), one.draw()
    two.draw()
    two.seed(5)
    again = two.draw()
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.subvoxels, again.subvoxels)
    assert not torch.equal(first.image, second.image)
    assert first.image.shape == (1, 1, *WINDOW)
    truth = majority(first.subvoxels)
    names = list(STRUCTURES)
    white = first.image[0, 0][truth == names.index("cerebral white matter")]
    grey = first.image[0, 0][truth == names.index("cerebral cortex")]
    air = first.image[0, 0][(first.subvoxels == 0).all(dim=0)]
    assert white.median() > grey.median() > air.median()


def test_held_out_heads_are_not_loaded(label_map: Path, tmp_path: Path) -> None:
    for name in ("seg_01", "seg_02", "seg_03"):
        (tmp_path / f"{name}.nii.gz").write_bytes(label_map.read_bytes())
    (tmp_path / "seg_02.nii.gz").write_bytes(b"no label map")
    config = SynthesisConfig(WINDOW, validation=("seg_02",))
    assert [file.name for file in config.held_out(tmp_path)] == ["seg_02.nii.gz"]
    assert len(config.open(tmp_path).maps) == 2


def test_training_on_the_real_label_maps(data_dir: Path) -> None:
    files = sorted((data_dir / "brain-labels").glob("*.nii.gz"))[:1]
    anatomy = load_anatomy(files)
    sample = Synthesiser(anatomy, SynthesisConfig(off_centre=0.0, stripped=1.0)).draw(0)
    present = set(majority(sample.subvoxels).unique().tolist())
    assert present >= set(range(17))  # CSF may be stripped away with the skull
