"""Which scans stand in which set, and that their truth lies on their own grid."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from benchmarks.quality.cases import PER_HEAD, case_sets, majority, synthetic_heads
from napari_sparseseg.canonical import ModelSpace
from napari_sparseseg.errors import InputError
from napari_sparseseg.training.anatomy import STRUCTURES, load_anatomy
from napari_sparseseg.training.recipe import load_recipe
from napari_sparseseg.training.synthesis import SynthesisConfig, Synthesiser
from tests.quality.conftest import SPLIT, TASK, true_labels

RECIPES = Path(__file__).parents[2] / "napari_sparseseg" / "training" / "recipes"


def test_a_split_names_the_scans(data: Path) -> None:
    sets = case_sets(TASK, data)

    assert {name: every.names for name, every in sets.items()} == {
        "test": tuple(SPLIT["test"]),
        "validation": tuple(SPLIT["val"]),
    }
    assert sets["test"].title == "2 test scans"
    assert sets["validation"].title == "2 validation scans"


def test_the_truth_is_that_of_the_scan(data: Path) -> None:
    cases = list(case_sets(TASK, data)["test"])

    assert [case.name for case in cases] == SPLIT["test"]
    for case, number in zip(cases, (4, 5), strict=True):
        assert case.truth.dtype.kind == "u"
        np.testing.assert_array_equal(case.truth, true_labels(number))
        assert case.volume.shape == case.truth.shape
        assert case.volume.spacing == (1.0, 1.0, 2.0)
    assert (cases[1].volume.data - cases[0].volume.data).max() == pytest.approx(1, abs=1e-3)


def test_a_quick_try_takes_the_first(data: Path) -> None:
    every = case_sets(TASK, data)["test"]

    assert every.first(1).names == ("scan_4",)
    assert every.first(1).title == "1 test scans"
    assert len(every.first(None)) == len(every.first(9)) == 2


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "hippocampus").mkdir()
    with pytest.raises(InputError, match=r"no split\.json"):
        case_sets(TASK, tmp_path)

    split = {"test": ["gone"], "val": []}
    (tmp_path / "hippocampus" / "split.json").write_text(json.dumps(split))
    with pytest.raises(InputError, match=r"gone\.nii\.gz is missing"):
        case_sets(TASK, tmp_path)


def test_an_unknown_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        case_sets("knee", tmp_path)


def test_most_subvoxels_decide() -> None:
    """Two of three, and the lowest where two and two are as many."""
    subvoxels = torch.tensor([[0, 2], [1, 2], [1, 1]], dtype=torch.uint8).view(3, 2, 1, 1)
    even = torch.tensor([3, 1, 1, 3], dtype=torch.uint8).view(4, 1, 1, 1)

    assert majority(subvoxels).flatten().tolist() == [1, 2]
    assert majority(even).tolist() == [[[1]]]


@pytest.fixture(scope="module")
def brain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two heads, one of which is held out, and a scan with FreeSurfer labels."""
    data = tmp_path_factory.mktemp("brain")
    labels = np.zeros((70, 60, 50), dtype=np.float32)
    for margin, label in ((2, 502), (6, 24), (10, 3), (16, 41)):
        labels[margin:-margin, margin:-margin, margin:-margin] = label
    for folder in ("brain-labels", "brain-t1"):
        (data / folder).mkdir()
    for name in ("training_seg_01", "training_seg_05"):
        nib.save(nib.Nifti1Image(labels, np.eye(4)), data / "brain-labels" / f"{name}.nii.gz")
    for name, voxels in (("t1", labels * 2), ("labels", labels)):
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), data / "brain-t1" / f"{name}.nii.gz")
    return data


def test_the_real_scan_has_classes(brain: Path) -> None:
    (case,) = case_sets("brain-mr", brain)["test"]

    names = list(STRUCTURES)
    assert case.name == "brain-t1"
    assert case.truth[35, 30, 25] == names.index("cerebral white matter")
    assert case.truth[11, 11, 11] == names.index("cerebral cortex")
    assert case.truth[3, 3, 3] == case.truth[0, 0, 0] == 0  # skull, air
    assert case.volume.data[35, 30, 25] == 82


def test_synthetic_scans_are_those_of_the_held_out_heads(brain: Path) -> None:
    """Drawn once more by hand: the first of the head, without skull and in the middle."""
    every = synthetic_heads(brain)
    cases = list(every)

    assert every.names == tuple(f"training_seg_05-{n}" for n in range(PER_HEAD))
    assert every.title == "3 synthetic scans of the 1 held-out heads"
    recipe = load_recipe(RECIPES / "brain-mr-stp.toml").data
    assert isinstance(recipe, SynthesisConfig)
    config = SynthesisConfig(recipe.window, recipe.spacing, 1.0, 0.0, recipe.contrast)
    source = Synthesiser(load_anatomy([brain / "brain-labels" / "training_seg_05.nii.gz"]), config)
    source.seed(20_000)
    sample = source.draw(0)
    np.testing.assert_array_equal(cases[0].volume.data, sample.image[0, 0].numpy())
    assert not np.array_equal(cases[0].volume.data, cases[1].volume.data)
    white = list(STRUCTURES).index("cerebral white matter")
    pure = (sample.subvoxels == white).all(dim=0).numpy()
    assert pure.any()
    assert (cases[0].truth[pure] == white).all()


def test_a_synthetic_scan_is_on_the_grid_of_the_model(brain: Path) -> None:
    case = next(iter(synthetic_heads(brain)))
    space = ModelSpace.of(case.volume, 2.0)

    np.testing.assert_allclose(space.affine, case.volume.affine)
    np.testing.assert_allclose(space.to_model(case.volume.data), case.volume.data, atol=1e-6)
    middle = [(n - 1) / 2 for n in case.volume.shape]
    np.testing.assert_allclose(case.volume.affine @ [*middle, 1], [0, 0, 0, 1], atol=1e-9)
