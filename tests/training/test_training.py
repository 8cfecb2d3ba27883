"""A whole training run in small: generator, loop, resuming, export, evaluation."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from napari_sparseseg.network import SparseUNETR
from napari_sparseseg.training.anatomy import STRUCTURES, class_of_label, load_anatomy
from napari_sparseseg.training.curve import draw_curve
from napari_sparseseg.training.evaluate import dice_per_class, majority
from napari_sparseseg.training.export import COLORS, export
from napari_sparseseg.training.loop import Run, draw_keep_ratio, learning_rate, train
from napari_sparseseg.training.recipe import OptimiserConfig, Recipe, load_recipe
from napari_sparseseg.training.synthesis import SynthesisConfig, Synthesiser
from napari_sparseseg.weights import find_model, load_network
from tests.network.conftest import small_config

RECIPES = Path(__file__).parents[2] / "napari_sparseseg" / "training" / "recipes"
WINDOW = (32, 48, 32)


@pytest.fixture(scope="module")
def label_map(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head of nested boxes: skull, CSF, cortex, white matter, two thalami; axes L-I-A."""
    labels = np.zeros((70, 60, 90), dtype=np.float32)
    for margin, label in ((2, 502), (6, 24), (10, 3), (16, 41)):
        inside = slice(margin, -margin)
        labels[inside, inside, inside] = label
    labels[24:32, 26:34, 40:50] = 10
    labels[38:46, 26:34, 40:50] = 49
    affine = np.array([[-1, 0, 0, 35], [0, 0, 1, -45], [0, -1, 0, 30], [0, 0, 0, 1.0]])
    path = tmp_path_factory.mktemp("labels") / "head.nii.gz"
    nib.save(nib.Nifti1Image(labels, affine), path)
    return path


@pytest.fixture
def source(label_map: Path) -> Synthesiser:
    return Synthesiser(load_anatomy([label_map]), SynthesisConfig(WINDOW), seed=3)


def recipe(steps: int = 4) -> Recipe:
    return Recipe(
        name="small",
        network=small_config(classes=18, window=WINDOW),
        data=SynthesisConfig(WINDOW),
        keep_ratios=(1.0, 0.5, 0.2),
        optimiser=OptimiserConfig(steps=steps, warmup=2, decay=2),
    )


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
    first, again = (Synthesiser(anatomy, config, 5).draw() for _ in range(2))
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.subvoxels, again.subvoxels)
    assert first.image.shape == (1, 1, *WINDOW)
    truth = majority(first.subvoxels, 18)
    names = list(STRUCTURES)
    white = first.image[0, 0][truth == names.index("cerebral white matter")]
    grey = first.image[0, 0][truth == names.index("cerebral cortex")]
    air = first.image[0, 0][(first.subvoxels == 0).all(dim=0)]
    assert white.median() > grey.median() > air.median()


def test_samples_differ(source: Synthesiser) -> None:
    assert not torch.equal(source.draw().image, source.draw().image)


def test_a_resumed_run_goes_on_where_it_stopped(source: Synthesiser, tmp_path: Path) -> None:
    torch.manual_seed(0)
    run = Run.create(recipe(), "cpu")
    start = {k: v.clone() for k, v in run.learner.state_dict().items()}
    train(run, source, tmp_path, save_every=2, minutes=10)
    assert run.step == 4
    moved = [k for k, v in run.learner.state_dict().items() if not torch.equal(v, start[k])]
    assert any("sparsifier" in k for k in moved)
    assert any("decoder" in k for k in moved)
    other = Run.create(recipe(6), "cpu")
    other.resume(tmp_path / "checkpoint.pt")
    assert other.step == 4
    for key, value in run.learner.state_dict().items():
        assert torch.equal(other.learner.state_dict()[key], value)
    train(other, source, tmp_path, save_every=2, minutes=10)
    assert other.step == 6


def test_the_log_has_a_line_every_ten_steps_and_gives_a_curve(
    source: Synthesiser, tmp_path: Path
) -> None:
    train(Run.create(recipe(20), "cpu"), source, tmp_path, save_every=50, minutes=10)
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["10", "20"]
    assert all(np.isfinite(float(row["loss"])) for row in rows)
    draw_curve(tmp_path / "log.csv", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_fine_tuning_starts_from_another_run(source: Synthesiser, tmp_path: Path) -> None:
    run = Run.create(recipe(2), "cpu")
    train(run, source, tmp_path, save_every=1, minutes=10)
    plan = recipe(2)
    dense = replace(plan, network=replace(plan.network, sparsifier="dense"), copy_groups=True)
    twin = Run.create(dense, "cpu", tmp_path / "checkpoint.pt")
    ours, theirs = run.learner.network.completion, twin.learner.network.completion
    assert torch.equal(ours.linears[-1].weight, theirs.linears[0].weight)
    assert torch.equal(ours.out.weight, theirs.out.weight)


def test_a_start_of_another_architecture_is_refused(source: Synthesiser, tmp_path: Path) -> None:
    train(Run.create(recipe(1), "cpu"), source, tmp_path, save_every=1, minutes=10)
    plan = recipe(1)
    other = replace(plan, network=replace(plan.network, depth=6))
    with pytest.raises(ValueError, match="another architecture"):
        Run.create(other, "cpu", tmp_path / "checkpoint.pt")


def test_an_exported_model_is_the_averaged_network(
    source: Synthesiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.create(recipe(2), "cpu")
    train(run, source, tmp_path / "run", save_every=1, minutes=10)
    export(run.recipe, tmp_path / "run" / "checkpoint.pt", tmp_path / "weights", 0.3)
    monkeypatch.setenv("SPARSESEG_WEIGHTS", str(tmp_path / "weights"))
    loaded = load_network(find_model("small"))
    average = run.average.module
    assert isinstance(average.network, SparseUNETR)
    for key, value in average.network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value.half().float())


def test_learning_rate_by_hand() -> None:
    config = OptimiserConfig(rate=1.0, warmup=4, steps=20, decay=10)
    assert [learning_rate(config, s) for s in (0, 3, 9, 15)] == pytest.approx([0.25, 1, 1, 0.5])
    assert learning_rate(config, 20) == 0


def test_dense_and_smallest_ratio_are_drawn_most() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_keep_ratio((1.0, 0.5, 0.1), rng) for _ in range(1000)]
    counts = [drawn.count(r) for r in (1.0, 0.5, 0.1)]
    assert counts[0] > 1.5 * counts[1]
    assert counts[2] > 1.5 * counts[1]


@pytest.mark.parametrize(
    "name", ["brain-mr-warmup", "brain-mr-elastic", "brain-mr-stp", "brain-mr-dense"]
)
def test_shipped_recipes_load(name: str) -> None:
    plan = load_recipe(RECIPES / f"{name}.toml")
    assert plan.name == name
    assert plan.network.window == plan.data.window
    assert plan.network.classes == len(STRUCTURES) == len(COLORS)


def test_dense_twin_differs_only_in_pruning() -> None:
    elastic, dense = (load_recipe(RECIPES / f"brain-mr-{n}.toml") for n in ("elastic", "dense"))
    same = replace(
        dense,
        name=elastic.name,
        keep_ratios=elastic.keep_ratios,
        network=replace(dense.network, sparsifier="stp"),
    )
    assert same == elastic
    assert dense.keep_ratios == (1.0,)


def test_a_misspelt_field_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text('name = "x"\nkeep_ratio = [1.0]\n[network]\nclasses = 18\n')
    with pytest.raises(TypeError, match="keep_ratio"):
        load_recipe(file)


def test_dice_by_hand() -> None:
    truth = np.array([[[0, 1, 1, 2]]])
    predicted = np.array([[[1, 1, 0, 2]]])
    dice = dice_per_class(predicted, truth, 4)
    assert dice[:2] == pytest.approx([0.5, 1.0])
    assert np.isnan(dice[2])


def test_training_on_the_real_label_maps(data_dir: Path) -> None:
    files = sorted((data_dir / "brain-labels").glob("*.nii.gz"))[:1]
    anatomy = load_anatomy(files)
    sample = Synthesiser(anatomy, SynthesisConfig(off_centre=0.0, stripped=1.0), 0).draw(0)
    present = set(majority(sample.subvoxels, 18).unique().tolist())
    assert present >= set(range(17))  # CSF may be stripped away with the skull
