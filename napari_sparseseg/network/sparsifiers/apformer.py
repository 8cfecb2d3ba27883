"""APFormer (Lin et al., IEEE TMI 2023, arXiv 2206.14413): queries and dependencies are pruned.

Carried to 3-D and into the common encoder: the relative positions are those of the token grid,
and the query gate judges the tokens at the first stage, where they have seen their neighbours
(the paper's gate reads a convolutional feature map).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sparseseg.network.blocks import Attend
from napari_sparseseg.network.config import NetworkConfig
from napari_sparseseg.network.sparsifiers.base import (
    AttentionNote,
    AttentionPlace,
    Decision,
    Scores,
    Sparsifier,
)
from napari_sparseseg.network.sparsifiers.edge import WHOLE

if TYPE_CHECKING:
    from napari_sparseseg.network.encoded import Encoded

GAUSSIAN_WEIGHT = 0.01
GAMMA = -2.0
"""Fixed, as released: the sigmoid of it, 0.119, bounds how far a threshold lies from the least."""
_EPS = 1e-6
# the paper weighs the segmentation with 0.8 and both terms with 0.1; ours counts 1
_TERM_WEIGHT = 0.1 / 0.8


def self_regularisation(attention: Tensor) -> Tensor:
    """Return the self-regularised attention loss of one layer and window.

    ``0.8 max(SmoothL1(n A, n A^T), 0.1) + 0.2 mean_h relu(min_i H_i - 0.9) / 0.1`` with the
    entropy H_i of a row in units of ``log2 n``: attention should be nearly symmetric, and some
    query of each head focused.

    Parameters
    ----------
    attention : Tensor
        ``(heads, n, n)`` softmax of the scaled products, without position terms.
    """
    n = attention.shape[-1]
    asymmetry = F.smooth_l1_loss(n * attention, n * attention.transpose(1, 2)).clamp_min(0.1)
    entropy = -(attention * attention.clamp_min(1e-12).log2()).sum(dim=2) / math.log2(max(n, 2))
    focus = F.relu(entropy.amin(dim=1) - 0.9).mean() / 0.1
    return 0.8 * asymmetry + 0.2 * focus


def keep_dependencies(attention: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Drop the weak dependencies of each query and head, and renormalise the others.

    ``theta_i = min_j A_ij + level_i sigmoid(gamma) (max_j A_ij - min_j A_ij)``; ``A_ij`` is kept
    where it is above theta.

    Parameters
    ----------
    attention : Tensor
        ``(heads, queries, n)``.
    level : Tensor
        ``(heads, queries, 1)``, 0 to 1.

    Returns
    -------
    attention : Tensor
        With what was dropped at zero and the rest summing to 1.
    kept : Tensor
        Bool of the same shape.
    """
    least, most = attention.amin(dim=2, keepdim=True), attention.amax(dim=2, keepdim=True)
    gamma = 1 / (1 + math.exp(-GAMMA))
    kept = attention > least + level * gamma * (most - least)
    sparse = attention * kept
    return sparse / (sparse.sum(dim=2, keepdim=True) + _EPS), kept


class RelativePositions(nn.Module):
    """Gaussian-prior relative position embedding of one block.

    ``B_h[rel(i, j)] + 0.01 exp(-d_ij^2 / (2 sigma_h^2 + eps))`` with a learned table B and
    width sigma, and distances in units of the token grid's edges.

    Parameters
    ----------
    grid : tuple of int
        Token grid of a window.
    heads : int
        Attention heads.
    """

    def __init__(self, grid: tuple[int, int, int], heads: int) -> None:
        super().__init__()
        self.grid = grid
        offsets = math.prod(2 * g - 1 for g in grid)
        self.table = nn.Parameter(torch.zeros(offsets, heads))
        self.sigma = nn.Parameter(0.1 * torch.arange(1, heads + 1))

    def forward(self, positions: Tensor) -> Tensor:
        """Return ``(heads, n, n)``; ``positions`` are raster indices, -1 for a class token."""
        x, y, z = self.grid
        places = torch.stack([positions // (y * z), positions // z % y, positions % z], dim=1)
        offset = places[:, None] - places[None]
        extent = offset.new_tensor(self.grid)
        index = offset + extent - 1
        index = (index[..., 0] * (2 * y - 1) + index[..., 1]) * (2 * z - 1) + index[..., 2]
        near = (positions[:, None] >= 0) & (positions[None] >= 0)
        bias = F.embedding(torch.where(near, index, 0), self.table)
        squared = (offset / extent).square().sum(dim=2, keepdim=True)
        prior = torch.exp(-squared / (2 * self.sigma.square() + _EPS))
        bias = (bias + GAUSSIAN_WEIGHT * prior) * near[..., None]  # a class token has no place
        return bias.permute(2, 0, 1)


class AdaptiveAttention(Sparsifier):
    """Prune the queries of background tokens, and the weak dependencies of all others.

    As published, a token with a pruned query still goes through the MLP of every block. With the
    option ``rest`` (ours) it skips that as well, which is most of what a block costs.
    """

    closes_detail = False
    attends_its_own_way = True

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config, "apformer")
        self.muted_rest = bool(config.options.get("rest", False))
        self.gate = nn.Sequential(nn.LayerNorm(config.dim), nn.Linear(config.dim, 2))
        self.positions = nn.ModuleList(
            RelativePositions(config.grid, config.heads) for _ in range(config.depth)
        )
        self.levels = nn.ModuleList(
            nn.Linear(config.dim // config.heads, 1, bias=False) for _ in range(config.depth)
        )

    def stages(self) -> tuple[int, ...]:
        """Decide once, at the architecture's first stage; the queries stay pruned."""
        return self.config.stages[:1]

    def score(self, stage: int, tokens: Tensor) -> Scores:
        """Return the probability of foreground, with the gate's logits for its loss."""
        with torch.autocast(tokens.device.type, enabled=False):
            logits = self.gate(tokens.float())
        return Scores(logits.softmax(dim=1)[:, 1].detach(), logits)

    def decide(self, stage: int, scores: Scores, setting: float) -> Decision:
        """Prune the queries whose probability of background reaches the threshold."""
        background = 1 - scores.importance
        keep = background < setting
        return Decision(keep if setting < 1 else torch.ones_like(keep))

    def attention(self, place: AttentionPlace) -> Attend:
        """Attend with relative positions, and with pruned queries and dependencies."""

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            if self.training:
                place.notes.append(AttentionNote(place.block, place.window, _regularise(q, k)))
            bias = self.positions[place.block](place.positions)
            if place.attending is None or place.setting >= 1:
                mask = bias.to(q.dtype)[None]
                return F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask)[0]
            return self._attend_sparsely(place, place.attending, bias, q, k, v)

        return attend

    def _attend_sparsely(
        self,
        place: AttentionPlace,
        attending: Tensor,
        bias: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
    ) -> Tensor:
        asking = q[:, attending]
        products = (asking @ k.transpose(1, 2)).float() / q.shape[-1] ** 0.5
        full = (products + bias[:, attending]).softmax(dim=2)
        with torch.autocast(q.device.type, enabled=False):
            level = self.levels[place.block](asking.float()).sigmoid()
        sparse, kept = keep_dependencies(full, level)
        if not self.training and place.block == self.config.depth - 1:
            count = kept.new_zeros(len(attending), len(attending), dtype=torch.uint8)
            count[attending] = kept.sum(dim=0, dtype=torch.uint8)
            place.notes.append(AttentionNote(place.block, place.window, kept=count))
        (rows,) = torch.where(attending)
        return torch.zeros_like(q).index_copy(1, rows, (sparse.to(v.dtype) @ v).to(q.dtype))

    def loss(self, encoded: Encoded, mix: Tensor) -> Tensor:
        """Self-regularisation of the attention, and Dice + cross-entropy of the query gate.

        The gate learns which patches hold any foreground.
        """
        from monai.losses import DiceCELoss  # slow to import, and only training needs it

        penalties = [note.penalty for note in encoded.notes if note.penalty is not None]
        if not encoded.layout.counts or not len(mix):
            return mix.new_zeros(())
        logits = torch.cat([window.scores.details for window in encoded.scored[0]])
        rows = torch.cat([window.rows for window in encoded.scored[0]])
        foreground = encoded.at_rows((mix[:, 0] < WHOLE).float())[rows]
        judge = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
        head = judge(logits.T[None], foreground[None, None])
        return _TERM_WEIGHT * (torch.stack(penalties).mean() + head)

    def attention_macs(self, attending: int) -> int:
        """Count the linear layer of the dependency gate, one product for each query and head."""
        return self.config.dim * attending

    def macs(self, stage: int, tokens: int) -> int:
        """Count the query gate."""
        return 2 * self.config.dim * tokens


def _regularise(q: Tensor, k: Tensor) -> Tensor:
    with torch.autocast(q.device.type, enabled=False):
        products = q.float() @ k.float().transpose(1, 2) / q.shape[-1] ** 0.5
        return self_regularisation(products.softmax(dim=2))
