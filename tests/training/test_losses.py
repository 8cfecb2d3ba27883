"""The losses by hand."""

from __future__ import annotations

import math

import pytest
import torch

from napari_sparseseg.network.encoded import BlockLog, Encoded, Scored
from napari_sparseseg.network.layout import TokenLayout
from napari_sparseseg.network.sparsifiers import Decision, Scores
from napari_sparseseg.training.losses import (
    expected_error_share,
    score_loss,
    soft_labels,
    to_patches,
    token_loss,
    voxel_losses,
)


def test_patches_hold_the_voxels_of_their_token() -> None:
    values = torch.arange(2 * 4 * 4 * 4.0).view(1, 2, 4, 4, 4)
    patches = to_patches(values, torch.tensor([5]), 2)  # token (1, 0, 1): x 2-3, y 0-1, z 2-3
    expected = values[0, :, 2:4, 0:2, 2:4].reshape(2, 1, 8)
    assert torch.equal(patches, expected)


def test_soft_labels_are_shares_of_the_subvoxels() -> None:
    subvoxels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2], dtype=torch.uint8).view(8, 1, 1)
    assert soft_labels(subvoxels, 4).flatten().tolist() == [3 / 8, 2 / 8, 3 / 8, 0]


def test_voxel_losses_by_hand() -> None:
    """Two voxels, two classes: p = (3/4, 1/4) for truth 0 and (1/2, 1/2) for truth 1."""
    p = torch.tensor([[0.75, 0.5], [0.25, 0.5]]).view(2, 1, 2)
    target = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(2, 1, 2)
    weight = torch.tensor([1.0, 3.0])
    dice, entropy, probability = voxel_losses(p.log(), target, weight)
    # foreground Dice with smoothing 1: 1 - (2 * 0.5 + 1) / (0.75 + 1 + 1)
    assert dice.item() == pytest.approx(1 - 2 / 2.75, abs=1e-6)
    expected = (1 * -math.log(0.75) + 3 * -math.log(0.5)) / (1 + 3)
    assert entropy.item() == pytest.approx(expected, abs=1e-6)
    assert torch.allclose(probability, p)


def test_error_share_by_hand() -> None:
    """Token 0 misses half of a large class, token 1 all of a small one."""
    target = torch.zeros(3, 2, 100)
    target[1, 0], target[2, 1, :50] = 1.0, 1.0
    target[0, 1, 50:] = 1.0
    p = target.clone()
    p[1, 0, :50], p[0, 0, :50] = 0.0, 1.0
    p[2, 1], p[0, 1] = 0.0, 1.0
    # 50 of 100 voxels against 50 of 50
    assert expected_error_share(p, target).tolist() == pytest.approx([0.5 / 1.5, 1.0 / 1.5])


def test_a_sliver_of_a_structure_does_not_outweigh_the_rest() -> None:
    target = torch.zeros(3, 2, 100)
    target[1, 0], target[2, 1, 0], target[0, 1, 1:] = 1.0, 1.0, 1.0
    p = torch.zeros_like(target)
    p[0] = 1.0
    # all 100 of 100 voxels, and 1 of a volume that counts as 50
    assert expected_error_share(p, target).tolist() == pytest.approx([1 / 1.02, 0.02 / 1.02])


def judged(layout: TokenLayout, scores: list[float]) -> Encoded:
    """One window whose tokens were scored once; only that matters to the loss."""
    a = torch.tensor(scores)
    rows = torch.arange(layout.size)
    scored = Scored(layout.rows, Scores(a), Decision(a > -9))
    return Encoded(
        layout=layout,
        setting=1.0,
        fate="pruned",
        x=torch.zeros(layout.size, 6),
        hidden=(),
        left=torch.zeros_like(rows),
        label=torch.full_like(rows, -1),
        went_on=torch.ones(layout.size),
        scored=((scored,),),
        log=BlockLog(),
        notes=(),
    )


def test_score_loss_is_least_where_scores_follow_the_errors() -> None:
    layout = TokenLayout.of(torch.ones(1, 1, 1, 3, dtype=torch.bool))
    share = torch.tensor([0.7, 0.2, 0.1])

    def loss(scores: list[float]) -> float:
        return score_loss(judged(layout, scores), share).item()

    best = [math.log(s) for s in (0.7, 0.2, 0.1)]
    entropy = -sum(s * math.log(s) for s in (0.7, 0.2, 0.1))
    assert loss(best) == pytest.approx(entropy, abs=1e-6)
    assert loss(best[::-1]) > loss([0.0, 0.0, 0.0]) > loss(best)


def test_token_loss_by_hand() -> None:
    """One token whose patch is half class 0, half class 1, with weights 1 and 3."""
    target = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(2, 1, 2)
    predicted = torch.tensor([[0.25, 0.75]]).log()
    expected = -(0.5 * math.log(0.25) + 1.5 * math.log(0.75)) / 2
    loss = token_loss(predicted, target, torch.tensor([1.0, 3.0]))
    assert loss.item() == pytest.approx(expected, abs=1e-6)
