"""Dynamic Token Pruning (DToP; Tang et al., ICCV 2023, arXiv 2308.01045): early exit.

Carried to 3-D: a token stands for a patch of 8x8x8 voxels, and it may exit only if its whole
patch is confidently one class, because the class becomes the label of every voxel in it.

Option ``width``: width of the heads; half that of the tokens if left out, as published.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sparseseg.network.config import NetworkConfig
from napari_sparseseg.network.sparsifiers.base import Decision, Scores, Sparsifier
from napari_sparseseg.network.sparsifiers.edge import WHOLE

if TYPE_CHECKING:
    from napari_sparseseg.network.encoded import Encoded

CONTEXT = 5
"""Most confident exiting tokens of each class that stay as context, as released."""
_LAYERS = 3
_ABSENT_WEIGHT, _FOCAL_WEIGHT = 0.1, 20.0


class QueryLayer(nn.Module):
    """A post-norm transformer decoder layer: class queries look at each other and at tokens.

    Parameters
    ----------
    dim, heads : int
        Width and attention heads.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.among = nn.MultiheadAttention(dim, heads, dropout=0.1, batch_first=True)
        self.query, self.key = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.value, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.ReLU(), nn.Linear(4 * dim, dim))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))

    def forward(self, queries: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Update ``(classes, dim)`` queries from ``(tokens, dim)``.

        Returns
        -------
        queries : Tensor
            ``(classes, dim)``.
        similarity : Tensor
            ``(classes, tokens)`` products of queries and keys before the softmax, mean over
            the heads: the mask logits.
        """
        beside = self.among(queries[None], queries[None], queries[None], need_weights=False)[0][0]
        queries = self.norms[0](queries + beside)
        q, k, v = (
            f(t).unflatten(1, (self.heads, -1)).transpose(0, 1)
            for f, t in ((self.query, queries), (self.key, tokens), (self.value, tokens))
        )
        similarity = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
        weights = F.dropout(similarity.softmax(dim=2), 0.1, self.training)
        queries = self.norms[1](queries + self.out((weights @ v).transpose(0, 1).flatten(1)))
        return self.norms[2](queries + self.mlp(queries)), similarity.mean(dim=0)


class GradingHead(nn.Module):
    """The small attention-to-mask head that grades every token at a stage.

    Parameters
    ----------
    dim, inner : int
        Width of the tokens, and of the head.
    classes, heads : int
        Number of classes, attention heads.
    """

    def __init__(self, dim: int, inner: int, classes: int, heads: int) -> None:
        super().__init__()
        self.classes = classes
        self.embed = nn.Sequential(nn.Linear(dim, inner), nn.LayerNorm(inner))
        self.queries = nn.Parameter(torch.randn(classes, inner) * 0.02)
        self.layers = nn.ModuleList(QueryLayer(inner, heads) for _ in range(_LAYERS))
        self.present = nn.Linear(inner, 2)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Grade ``(tokens, dim)`` features of one window.

        Returns
        -------
        masks : Tensor
            ``(classes, tokens)`` mask logits of the last layer.
        present : Tensor
            ``(classes, 2)`` logits of the class being in the window, or not.
        """
        x, queries = self.embed(tokens), self.queries
        masks = x.new_zeros(self.classes, len(tokens))
        for layer in self.layers:
            queries, masks = layer(queries, x)
        return masks, self.present(queries)


@dataclass(frozen=True)
class Grades:
    """What a head says of the tokens of a window.

    Attributes
    ----------
    masks, present : Tensor
        As :class:`GradingHead` returns them.
    label : Tensor
        ``(tokens,)`` class of the highest score.
    """

    masks: Tensor
    present: Tensor
    label: Tensor


class EarlyExit(Sparsifier):
    """A token exits once a head is sure that its whole patch is one class.

    The score of class c for token i is ``P_c sigmoid(M_ci)``; the token's confidence is the
    highest of them.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config, "dtop")
        self.width = int(config.options.get("width", config.dim // 2))
        self.graders = nn.ModuleList(
            GradingHead(config.dim, self.width, config.classes, config.heads) for _ in config.stages
        )

    def score(self, stage: int, tokens: Tensor) -> Scores:
        """Grade tokens in float32; their importance here is their confidence, 0 to 1."""
        if not len(tokens):
            empty = tokens.new_zeros(0, dtype=torch.float32)
            none = empty.new_zeros(self.config.classes, 0)
            return Scores(empty, Grades(none, none.new_zeros(len(none), 2), empty.long()))
        with torch.autocast(tokens.device.type, enabled=False):
            masks, present = self.graders[stage](tokens.float())
        scores = present.softmax(dim=1)[:, :1] * masks.sigmoid()
        confidence, label = scores.max(dim=0)
        return Scores(confidence.detach(), Grades(masks, present, label))

    def decide(self, stage: int, scores: Scores, setting: float) -> Decision:
        """Let tokens above the threshold exit, but for the surest of each class."""
        label: Tensor = scores.details.label
        leaves = scores.importance > setting if setting < 1 else torch.zeros_like(label) > 0
        for index in label[leaves].unique():
            (members,) = torch.where(leaves & (label == index))
            order = torch.argsort(scores.importance[members], descending=True, stable=True)
            leaves[members[order[:CONTEXT]]] = False
        return Decision(~leaves, label=label)

    def loss(self, encoded: Encoded, mix: Tensor) -> Tensor:
        """Cross-entropy of presence + 20 focal + Dice of the masks, summed over the heads.

        The mask of a class holds the tokens whose whole patch is that class; masks of classes
        that no token of the window holds alone are left out, as the released targets do.
        """
        from monai.losses import DiceLoss, FocalLoss  # slow to import, and only training needs it

        whole = encoded.at_rows((mix >= WHOLE).float())
        weight = torch.tensor([1.0, _ABSENT_WEIGHT], device=mix.device)
        focal, dice = (
            FocalLoss(gamma=2.0, alpha=0.25),
            DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0),
        )
        terms = []
        for windows in encoded.scored:
            for window in windows:
                grades: Grades = window.scores.details
                target = whole[window.rows].T
                here = target.any(dim=1)
                if not bool(here.any()):
                    continue
                entropy = F.cross_entropy(grades.present, (~here).long(), weight)
                masks, target = grades.masks[here][None], target[here][None]
                terms.append(entropy + _FOCAL_WEIGHT * focal(masks, target) + dice(masks, target))
        windows_in_all = max(1, len(encoded.layout.counts))
        return torch.stack(terms).sum() / windows_in_all if terms else mix.new_zeros(())

    def macs(self, stage: int, tokens: int) -> int:
        """Count the linear layers and products of a head."""
        if not tokens:
            return 0
        dim, n = self.width, self.config.classes
        per_token = self.config.dim * dim + _LAYERS * (2 * dim * dim + 2 * n * dim)
        per_query = 2 * dim + _LAYERS * (14 * dim * dim + 2 * n * dim)
        return tokens * per_token + n * per_query
