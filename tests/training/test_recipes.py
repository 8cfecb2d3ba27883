"""The recipes that ship, and what they promise of one another."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from napari_sparseseg.methods import METHODS
from napari_sparseseg.network import SparseUNETR
from napari_sparseseg.training.recipe import Recipe, load_recipe
from tests.training.conftest import RECIPES

FILES = sorted(RECIPES.glob("*.toml"))
SHIPPED = ("dense", "stp", "dtop", "svit", "apformer")
COMPARED = ("truncated", "none", "svit-published")
OPTIONS = ("stp-mask", "edge")


def recipe(name: str) -> Recipe:
    return load_recipe(RECIPES / f"{name}.toml")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_recipe_loads(file: Path) -> None:
    plan = load_recipe(file)
    assert plan.name == file.stem
    assert plan.name.startswith(f"{plan.task.name}-")
    assert plan.network.window == plan.data.window
    assert plan.network.classes == len(plan.task.classes) == len(plan.task.colors)
    assert plan.settings[0] == 1.0
    assert plan.settings == tuple(sorted(plan.settings, reverse=True))
    assert 0 < plan.default <= 1
    assert max(plan.optimiser.warmup, plan.optimiser.decay) < plan.optimiser.steps
    assert not plan.start or (RECIPES / f"{plan.start}.toml").exists()
    if METHODS[plan.network.sparsifier].control is None:
        assert plan.settings == (1.0,)


@pytest.mark.parametrize("half", ["", "-first"])
def test_head_and_neck_stp_and_its_dense_twin_have_the_same_budget(half: str) -> None:
    """Two runs each from the common start: token assembly has to learn from early on."""
    dense, plan = recipe(f"headneck-ct-dense{half}"), recipe(f"headneck-ct-stp{half}")
    assert plan.start == ("headneck-ct-start" if half else "headneck-ct-stp-first")
    assert plan.optimiser == dense.optimiser
    check_same_scans(plan, dense)


@pytest.mark.parametrize("arm", ["svit", "dtop", "apformer", "apformer-published", "longer"])
def test_other_head_and_neck_arms_start_from_the_dense_twin_with_the_same_budget(arm: str) -> None:
    """The dense twin trained on for as long is among them."""
    plan, longer = recipe(f"headneck-ct-{arm}"), recipe("headneck-ct-longer")
    assert plan.start == "headneck-ct-dense"
    assert longer.network == recipe("headneck-ct-dense").network
    assert plan.optimiser == replace(longer.optimiser, sparsifier=plan.optimiser.sparsifier)
    check_same_scans(plan, longer)


def test_head_and_neck_apformer_departs_from_its_paper_in_one_named_option() -> None:
    plan, published = recipe("headneck-ct-apformer"), recipe("headneck-ct-apformer-published")
    assert plan.network.options == {"rest": True}
    assert published.network.options == {}
    changes = {"name": published.name, "variant": published.variant, "default": published.default}
    assert replace(plan, network=replace(plan.network, options={}), **changes) == published


def check_same_scans(plan: Recipe, other: Recipe) -> None:
    assert (plan.batch, plan.seed, plan.data) == (other.batch, other.seed, other.data)
    assert (plan.data.intensity, plan.data.spacing) == ("ct", 3.0)
    assert (plan.network.window, plan.network.depth) == ((208, 112, 128), other.network.depth)


@pytest.mark.parametrize("arm", [*SHIPPED, *COMPARED, *OPTIONS])
def test_every_hippocampus_arm_has_the_same_budget(arm: str) -> None:
    """Same start, data, steps and rates; an arm changes its rule and what comes with it."""
    dense, plan = recipe("hippocampus-mr-dense"), recipe(f"hippocampus-mr-{arm}")
    assert plan.start == "hippocampus-mr-start"
    assert plan.optimiser == replace(dense.optimiser, sparsifier=plan.optimiser.sparsifier)
    assert (plan.batch, plan.seed, plan.data) == (dense.batch, dense.seed, dense.data)
    same = replace(
        plan.network,
        sparsifier=dense.network.sparsifier,
        completion=dense.network.completion,
        decoder=dense.network.decoder,
        options=dense.network.options,
    )
    assert same == dense.network


@pytest.mark.parametrize("arm", ["dtop", "svit", "apformer"])
def test_other_brain_arms_start_from_the_dense_twin_with_the_same_budget(arm: str) -> None:
    """They decode active blocks like it and see as many windows each."""
    plan, dense, common = (recipe(f"brain-mr-{name}") for name in (arm, "dense", "finetune"))
    assert plan.start == "brain-mr-dense"
    assert plan.batch * plan.optimiser.steps == common.batch * common.optimiser.steps
    assert plan.optimiser.rate == common.optimiser.rate
    assert plan.data == dense.data
    assert plan.network.decoder == replace(dense.network.decoder, detail="all")
    assert plan.network.decoder.context == "open"


def test_scores_are_taught_their_target_in_stp_alone() -> None:
    taught = {plan.network.sparsifier for plan in map(load_recipe, FILES) if plan.loss.score}
    assert taught == {"stp"}


@pytest.mark.parametrize(
    ("twin", "sparse"), [("brain-mr-plain", "brain-mr-elastic"), ("brain-mr-dense", "brain-mr-stp")]
)
def test_a_brain_dense_twin_differs_only_in_pruning(twin: str, sparse: str) -> None:
    """A term for scores or for patches that are drawn means nothing where nothing is pruned."""
    pruned, dense = recipe(sparse), recipe(twin)
    same = replace(
        dense,
        name=pruned.name,
        settings=pruned.settings,
        default=pruned.default,
        network=replace(dense.network, sparsifier="stp"),
        loss=pruned.loss,
    )
    assert same == pruned
    assert dense.network.sparsifier == "dense"
    assert dense.settings == (1.0,)
    assert dense.loss == replace(pruned.loss, score=0.0, drawn=0.0)


def test_the_default_model_decodes_active_blocks_on_two_levels() -> None:
    plan = recipe("brain-mr-stp")
    assert plan.network.decoder.two_level
    assert plan.network.window == (96, 96, 96)
    assert 0 < plan.air_share < 1


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_is_drawn_is_taught_where_a_rule_prunes(file: Path) -> None:
    plan = load_recipe(file)
    prunes = METHODS[plan.network.sparsifier].control is not None
    assert (plan.loss.drawn > 0) == (plan.network.decoder.two_level and prunes)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_recipe_fits_what_it_starts_from(file: Path) -> None:
    """Only the window may differ: the codes of its places are laid on the middle."""
    plan = load_recipe(file)
    if plan.start:
        start = recipe(plan.start)
        with torch.device("meta"):
            weights = SparseUNETR(start.network).state_dict()
            SparseUNETR(plan.network).start_from(weights, start.network.window)


def test_the_licence_of_share_alike_data_is_kept() -> None:
    assert recipe("hippocampus-mr-stp").task.license == "CC-BY-SA-4.0"
    assert "CC-BY-SA 4.0" in recipe("hippocampus-mr-stp").task.data
    assert recipe("brain-mr-stp").task.license == "Apache-2.0"


def test_the_makefile_knows_every_arm_of_the_comparison() -> None:
    text = (RECIPES.parents[2] / "Makefile").read_text()
    assert f"METHODS := {' '.join(SHIPPED)}" in text
    assert f"hippocampus-mr,{' '.join(COMPARED)})" in text


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("setting = [1.0]", TypeError),
        ('task = "spine-ct"', KeyError),
        ("[optimiser]\nspeed = 1", TypeError),
        ('[data]\nkind = "dreams"', KeyError),
    ],
)
def test_a_misspelt_field_is_refused(tmp_path: Path, line: str, error: type[Exception]) -> None:
    text = (RECIPES / "hippocampus-mr-start.toml").read_text()
    key = line.split("\n")[-1].split(" = ")[0]
    text = re.sub(rf"^{key} = .*\n", "", text, flags=re.MULTILINE)
    table = line.split("\n")[0]
    text = text.replace(table, line) if table.startswith("[") else f"{line}\n{text}"
    file = tmp_path / "recipe.toml"
    file.write_text(text)
    with pytest.raises(error, match=r"setting|spine-ct|speed|dreams"):
        load_recipe(file)
