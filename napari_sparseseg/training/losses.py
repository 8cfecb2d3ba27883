"""Losses on the patches of the tokens that hold tissue.

Air needs no loss: its label is background by rule. Working on ``(classes, tokens, voxels)``
arrays instead of whole windows leaves out more than half of a brain window, and having the
classes first makes a softmax on a CPU about fifteen times faster than having them last.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from monai.losses import DiceLoss
from torch import Tensor

from napari_sparseseg.network.encoded import Encoded


@dataclass(frozen=True)
class LossWeights:
    """How much each term counts.

    Attributes
    ----------
    dice, cross_entropy : float
        On voxels, against soft labels.
    drawn : float
        Both of the above for the patch-wise head alone, on every patch, where the decoder has
        one: at a high keep ratio it would otherwise hardly be trained.
    token : float
        Cross-entropy of the class mix that each completed token predicts for its patch; makes
        the tokens, not only the image branch, carry the answer.
    score : float
        Teaches the scores where errors are; 0 trains them as published, by the
        straight-through gradient of the segmentation loss alone.
    method : float
        The sparsifier's own published loss, which has its published weights inside.
    balance : float
        Class weights of the cross-entropies are frequencies to the power of minus this: 0
        counts voxels alike, 1 counts classes alike.
    """

    dice: float = 1.0
    cross_entropy: float = 1.0
    drawn: float = 0.0
    token: float = 0.3
    score: float = 0.0
    method: float = 1.0
    balance: float = 0.25


def to_patches(values: Tensor, cells: Tensor, patch: int) -> Tensor:
    """Cut maps into patches and take those of some tokens.

    Parameters
    ----------
    values : Tensor
        ``(n, channels, x, y, z)``.
    cells : Tensor
        ``(tokens,)`` indices into the flattened ``(n, grid)`` map.
    patch : int
        Edge of a patch.

    Returns
    -------
    Tensor
        ``(channels, tokens, patch ** 3)``.
    """
    n, c, x, y, z = values.shape
    blocks = values.reshape(n, c, x // patch, patch, y // patch, patch, z // patch, patch)
    blocks = blocks.permute(1, 0, 2, 4, 6, 3, 5, 7).reshape(c, -1, patch**3)
    return blocks[:, cells]


def soft_labels(subvoxels: Tensor, classes: int) -> Tensor:
    """Turn ``(8, tokens, voxels)`` sub-voxel classes into ``(classes, tokens, voxels)`` shares."""
    share = torch.zeros(classes, *subvoxels.shape[1:], device=subvoxels.device)
    part = torch.full(subvoxels.shape, 1 / len(subvoxels), device=subvoxels.device)
    return share.scatter_add_(0, subvoxels.long(), part)


def voxel_losses(logits: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Dice and class-weighted cross-entropy against soft labels.

    Parameters
    ----------
    logits, target : Tensor
        ``(classes, tokens, voxels)`` scores and shares.
    weight : Tensor
        ``(classes,)`` weight of each class in the cross-entropy.

    Returns
    -------
    dice, cross_entropy : Tensor
        Scalars.
    probability : Tensor
        ``(classes, tokens, voxels)``, without gradient.
    """
    log_p = F.log_softmax(logits, dim=0)
    p = log_p.exp()
    per_class = -(target * log_p).sum(dim=(1, 2))
    entropy = (per_class @ weight) / (target.sum(dim=(1, 2)) @ weight)
    dice = DiceLoss(include_background=False, smooth_nr=1.0, smooth_dr=1.0)
    return dice(p.flatten(1)[None], target.flatten(1)[None]), entropy, p.detach()


def update_balance(balance: Tensor, frequency: Tensor, power: float) -> None:
    """Let class weights follow the class frequencies of the samples, to the power of ``-power``.

    Parameters
    ----------
    balance : Tensor
        ``(classes,)`` weights; changed in place, by a fiftieth of the way.
    frequency : Tensor
        ``(classes,)`` share of each class in the step's samples.
    power : float
        0 counts voxels alike, 1 counts classes alike.
    """
    fresh = frequency.clamp_min(1e-4) ** -power
    balance.lerp_(fresh / fresh.mean(), 0.02)


def expected_error_share(p: Tensor, target: Tensor, floor: float = 50.0) -> Tensor:
    """Return each token's share of the error in mean Dice.

    A token's error is the sum over classes of ``|p - y|`` in its patch, divided by the class's
    volume in the batch, so that a wrong voxel of a small structure counts as much for the
    score as it does for its Dice.

    Parameters
    ----------
    p, target : Tensor
        ``(classes, tokens, voxels)`` probabilities and shares; background (class 0) is left
        out.
    floor : float
        Least volume in voxels, so that a sliver of a structure does not outweigh the rest.

    Returns
    -------
    Tensor
        ``(tokens,)``, not negative, sums to 1.
    """
    volume = target.sum(dim=(1, 2)).clamp_min(floor)
    error = ((p - target).abs().sum(dim=2) / volume[:, None])[1:].sum(dim=0)
    return error / error.sum().clamp_min(1e-12)


def score_loss(encoded: Encoded, share: Tensor) -> Tensor:
    """Listwise loss that ranks tokens by their share of the error.

    Cross-entropy between ``softmax(score)`` over the tokens scored at a stage and their
    renormalised error shares, averaged over stages and windows. This is our option beside the
    published recipe, which gives the scores no target.

    Parameters
    ----------
    encoded : Encoded
        The encoder's answer.
    share : Tensor
        ``(tokens,)`` in the order of the layout.
    """
    by_row = encoded.at_rows(share)
    terms = []
    for windows in encoded.scored:
        for window in windows:
            target = by_row[window.rows]
            target = target / target.sum().clamp_min(1e-12)
            terms.append(-(target * F.log_softmax(window.scores.importance, dim=0)).sum())
    return torch.stack(terms).mean()


def token_loss(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Class-weighted cross-entropy of the class mix of each patch.

    Parameters
    ----------
    predicted : Tensor
        ``(tokens, classes)`` scores of a linear head on the completed tokens.
    target : Tensor
        ``(classes, tokens, voxels)`` shares.
    weight : Tensor
        ``(classes,)`` weight of each class.
    """
    mix = target.mean(dim=2).T * weight
    return -(mix * F.log_softmax(predicted, dim=1)).sum() / mix.sum()
