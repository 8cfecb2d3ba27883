"""One step of training: which tokens take part, and the term of the patch-wise head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from napari_sparseseg.network import DecoderConfig
from napari_sparseseg.training.loop import TERMS, compute_losses, reduced_precision, step
from napari_sparseseg.training.losses import LossWeights, soft_labels, to_patches, voxel_losses
from napari_sparseseg.training.recipe import Recipe
from napari_sparseseg.training.run import Run
from napari_sparseseg.training.scans import ScanSource
from napari_sparseseg.training.source import Sample
from tests.training.conftest import scan_recipe


@pytest.fixture
def sample(data_set: Path) -> Sample:
    source = scan_recipe().data.open(data_set)
    assert isinstance(source, ScanSource)
    source.seed(1)
    return source.draw()


def two_level_recipe(method: str = "stp", **weights: float) -> Recipe:
    """A recipe whose decoder draws pruned tokens from its coarse levels."""
    plan = scan_recipe(method)
    decoder = DecoderConfig(4, 2, "channel", "open", "open")
    return replace(
        plan, network=replace(plan.network, decoder=decoder), loss=LossWeights(**weights)
    )


def terms_of(plan: Recipe, sample: Sample, setting: float) -> tuple[Run, dict[str, Tensor]]:
    run = Run.create(plan, "cpu")
    run.learner.train()
    torch.manual_seed(0)
    return run, compute_losses(run, [sample], setting)


def test_every_term_has_a_weight(sample: Sample) -> None:
    _, terms = terms_of(two_level_recipe(), sample, 0.5)

    assert set(terms) == set(TERMS)
    assert set(TERMS) | {"balance"} == set(vars(LossWeights()))


def test_the_drawn_term_is_dice_and_cross_entropy_of_the_patch_head(sample: Sample) -> None:
    """Also at setting 1, at which it draws no patch of the answer."""
    run, terms = terms_of(two_level_recipe(drawn=0.3), sample, 1.0)
    network = run.learner.network
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=reduced_precision("cpu")):
        output = network.finish(network.prepare(sample.image), 1.0)
    assert output.drawn is not None
    subvoxels = to_patches(sample.subvoxels[None], output.encoded.layout.cells, 8)
    target = soft_labels(subvoxels, 3)
    logits = output.drawn.float().permute(2, 0, 1)
    dice, entropy, _ = voxel_losses(logits, target, run.balance)

    assert terms["drawn"].item() == pytest.approx((dice + entropy).item(), rel=1e-5)
    assert terms["drawn"].item() != pytest.approx((terms["dice"] + terms["cross_entropy"]).item())


@pytest.mark.parametrize(
    "plan",
    [two_level_recipe(drawn=0.0), replace(scan_recipe(), loss=LossWeights(drawn=1.0))],
    ids=["no weight", "no patch-wise head"],
)
def test_there_is_no_drawn_term_without_a_weight_or_a_head(plan: Recipe, sample: Sample) -> None:
    assert terms_of(plan, sample, 0.5)[1]["drawn"].item() == 0


@pytest.mark.parametrize("drawn", [0.0, 0.3])
def test_at_setting_one_its_own_term_alone_trains_the_patch_head(
    drawn: float, sample: Sample
) -> None:
    plan = two_level_recipe(drawn=drawn)
    run, terms = terms_of(plan, sample, 1.0)
    torch.stack([getattr(plan.loss, name) * terms[name] for name in TERMS]).sum().backward()

    head: Any = run.learner.network.decoder.patch_head
    moved = [bool(p.grad is not None and p.grad.any()) for p in head.parameters()]
    assert moved == [drawn > 0] * 4


def test_the_drawn_term_counts_by_its_weight(sample: Sample) -> None:
    values = {}
    for weight in (1.0, 3.0):
        torch.manual_seed(0)
        run = Run.create(two_level_recipe(drawn=weight), "cpu")
        values[weight] = step(run, [sample], 1.0)

    assert values[1.0]["drawn"] == pytest.approx(values[3.0]["drawn"], rel=1e-5)
    assert values[1.0]["drawn"] > 0.1
    more = values[3.0]["loss"] - values[1.0]["loss"]
    assert more == pytest.approx(2 * values[1.0]["drawn"], rel=1e-3)


class SeenError(Exception):
    """Ends a step as soon as it is known which tokens take part."""


def air_shown(run: Run, sample: Sample, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Tensor]:
    """Give a function that begins a step and returns what it takes for air."""
    seen = []

    def prepare(windows: Tensor, air: Tensor) -> None:
        seen.append(air)
        raise SeenError

    monkeypatch.setattr(run.learner.network, "prepare", prepare)

    def begin() -> Tensor:
        with pytest.raises(SeenError):
            compute_losses(run, [sample], 1.0)
        return seen[-1]

    return begin


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.25, 30, 70), (1.0, 200, 200)])
def test_air_takes_part_in_its_share_of_the_steps(
    share: float, least: int, most: int, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 200 of them; a quarter is 50, give or take three standard deviations of 6.1."""
    run = Run.create(scan_recipe(air_share=share), "cpu")
    begin = air_shown(run, sample, monkeypatch)
    found = run.learner.network.find_air(sample.image)
    assert found.any() and not found.all()
    torch.manual_seed(0)
    steps = [begin() for _ in range(200)]

    everything = [not bool(air.any()) for air in steps]
    assert least <= sum(everything) <= most
    for air, all_enter in zip(steps, everything, strict=True):
        assert torch.equal(air, torch.zeros_like(found) if all_enter else found)


def test_where_air_takes_part_it_counts_for_the_loss(sample: Sample) -> None:
    """Its label is background, and the losses see as many patches as the window has."""
    counts = {}
    for share in (0.0, 1.0):
        run, terms = terms_of(scan_recipe(air_share=share), sample, 0.5)
        assert all(bool(term.isfinite()) for term in terms.values())
        counts[share] = terms["dice"].item()
    assert counts[0.0] != counts[1.0]
