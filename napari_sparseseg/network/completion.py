"""The full token map rebuilt for the decoder from tokens that left the encoder early."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from napari_sparseseg.network.blocks import Block, block_macs, sincos_positions
from napari_sparseseg.network.config import NetworkConfig
from napari_sparseseg.network.encoded import Encoded


@dataclass(frozen=True)
class Completed:
    """Features of every token for the decoder, in the order of the layout's rows.

    Attributes
    ----------
    last : Tensor
        ``(rows, dim)`` for the bottleneck.
    skips : tuple of Tensor
        Three ``(rows, dim)``, for the skips at 1/2, 1/4 and 1/8.
    """

    last: Tensor
    skips: tuple[Tensor, Tensor, Tensor]


class Completion(nn.Module, ABC):
    """What all completions share: into their width, blocks over all tokens, and back.

    Parameters
    ----------
    config : NetworkConfig
        Architecture.
    groups : int
        Number of groups of tokens that get a LayerNorm, a linear layer and a learned layer
        token of their own.
    """

    positions: Tensor

    def __init__(self, config: NetworkConfig, groups: int) -> None:
        super().__init__()
        size = config.completion
        self.config = config
        self.norms = nn.ModuleList(nn.LayerNorm(config.dim, eps=1e-6) for _ in range(groups))
        self.linears = nn.ModuleList(nn.Linear(config.dim, size.dim) for _ in range(groups))
        self.layer_tokens = nn.Parameter(torch.zeros(groups, size.dim))
        self.register_buffer("positions", sincos_positions(config.grid, size.dim), persistent=False)
        self.blocks = nn.ModuleList(Block(size.dim, size.heads) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.dim, eps=1e-6)
        self.out = nn.Linear(size.dim, config.dim)

    @abstractmethod
    def forward(self, encoded: Encoded) -> Completed:
        """Complete the tokens of a batch."""

    def entering(self, encoded: Encoded) -> int:
        """Return the number of rows whose features enter the completion."""
        return encoded.layout.size

    def macs(self, lengths: tuple[int, ...], entering: int) -> int:
        """Multiply-accumulates for windows with these numbers of rows.

        Parameters
        ----------
        lengths : tuple of int
            Rows of each window.
        entering : int
            Rows whose features enter, of all windows.
        """
        dim, inner, rows = self.config.dim, self.config.completion.dim, sum(lengths)
        return (entering + rows) * dim * inner + len(self.blocks) * block_macs(lengths, inner)

    @torch.no_grad()
    def start_from_last_group(self) -> None:
        """Copy the maps of the tokens that ran every block to the groups of pruned tokens.

        A run that pruned nothing has trained only those; fine-tuning starts from the copies.
        """
        for norm, linear, token in zip(self.norms, self.linears, self.layer_tokens, strict=True):
            norm.load_state_dict(self.norms[-1].state_dict())
            linear.load_state_dict(self.linears[-1].state_dict())
            token.copy_(self.layer_tokens[-1])

    def _enter(self, group: int, x: Tensor) -> Tensor:
        """Bring the features of a group into the width of the completion."""
        return self.linears[group](self.norms[group](x)) + self.layer_tokens[group].to(x.dtype)

    def _mix(self, x: Tensor, encoded: Encoded) -> Tensor:
        """Run the blocks over all tokens and return to the width of the encoder."""
        layout = encoded.layout
        codes = self.positions[layout.positions].to(x.dtype)
        x = x.index_add(0, layout.rows, codes)  # class tokens get none
        for block in self.blocks:
            x = block(x, layout.lengths())
        return self.out(self.norm(x))


class TokenAssembly(Completion):
    """MTA (Zhou et al., IPMI 2023): every token brings the features it left with.

    Each group (tokens that left at stage 1, 2, ..., then those that ran every block) has its
    own LayerNorm, linear layer and learned layer token; the tokens go back to raster order, get
    a fixed sine-cosine position, and run through transformer blocks together. No mask tokens.
    The one completed map feeds all skips.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config, groups=len(config.stages) + 1)

    def forward(self, encoded: Encoded) -> Completed:
        """Complete the tokens of a batch."""
        last = len(self.norms) - 1
        parts, rows = [], []
        for group in range(last + 1):
            left = 0 if group == last else group + 1
            rows.append((encoded.left == left).nonzero()[:, 0])
            parts.append(self._enter(group, encoded.x[rows[-1]]))
        completed = self._mix(torch.cat(parts)[torch.argsort(torch.cat(rows))], encoded)
        return Completed(completed, (completed,) * 3)


class MaskCompletion(Completion):
    """Masked-token completion, what MTA was compared with (Zhou et al., IPMI 2023).

    Only tokens that ran every block bring features; one learned mask token stands for each of
    the others, and the blocks have to fill it from its position and its neighbours.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config, groups=1)
        self.mask_token = nn.Parameter(torch.zeros(1, config.completion.dim))

    def entering(self, encoded: Encoded) -> int:
        """Return the number of rows that stayed to the end."""
        return int((encoded.left == 0).sum())

    def forward(self, encoded: Encoded) -> Completed:
        """Complete the tokens of a batch."""
        stayed = (encoded.left == 0).nonzero()[:, 0]
        features = self._enter(0, encoded.x[stayed])
        x = self.mask_token.to(features.dtype).expand(encoded.layout.size, -1)
        completed = self._mix(x.index_copy(0, stayed, features), encoded)
        return Completed(completed, (completed,) * 3)


class Preservation(Completion):
    """Features stay in place, and the skips get what the stages saw (Liu et al., WACV 2024).

    Tokens that skipped or left keep the features they had. The decoder's skips are genuine, as
    in a dense UNETR: to the completed map each adds its own projection of z3, z6 or z9. The
    projections start at zero, so that a network trained with one map for all skips goes on
    from where it was.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config, groups=1)
        self.skip_norms = nn.ModuleList(nn.LayerNorm(config.dim, eps=1e-6) for _ in config.stages)
        self.skip_linears = nn.ModuleList(nn.Linear(config.dim, config.dim) for _ in config.stages)

    def start_skips_at_zero(self) -> None:
        """Make every skip the completed map alone."""
        for parameter in self.skip_linears.parameters():
            nn.init.zeros_(parameter)

    def forward(self, encoded: Encoded) -> Completed:
        """Complete the tokens of a batch."""
        last = self._mix(self._enter(0, encoded.x), encoded)
        z3, z6, z9 = (
            last + linear(norm(z))
            for linear, norm, z in zip(
                self.skip_linears, self.skip_norms, encoded.hidden, strict=True
            )
        )
        return Completed(last, (z3, z6, z9))

    def macs(self, lengths: tuple[int, ...], entering: int) -> int:
        """Count the projections of the skips too."""
        return (
            super().macs(lengths, entering)
            + len(self.skip_linears) * sum(lengths) * self.config.dim**2
        )


_KINDS: dict[str, type[TokenAssembly] | type[MaskCompletion] | type[Preservation]] = {
    "assembly": TokenAssembly,
    "mask": MaskCompletion,
    "preserve": Preservation,
}


def make_completion(config: NetworkConfig) -> Completion:
    """Build the completion that a configuration names."""
    return _KINDS[config.completion.kind](config)


def adapt_groups(weights: dict[str, Tensor], groups: int) -> dict[str, Tensor]:
    """Fit the completion in a network's weights to another number of groups.

    A single group takes the place of the last one, which ran every block; where there are more
    groups than before, the new ones start as copies of it.

    Parameters
    ----------
    weights : dict of Tensor
        State of a network; keys of its completion begin with "completion.".
    groups : int
        Number of groups wanted.
    """
    tokens = weights["completion.layer_tokens"]
    given = len(tokens)
    source = range(given) if groups == given else [given - 1] * groups
    result = {}
    for key, value in weights.items():
        if not key.startswith(("completion.norms.", "completion.linears.")):
            result[key] = value
            continue
        kind, number, parameter = key.removeprefix("completion.").split(".")
        for target, origin in enumerate(source):
            if int(number) == origin:
                result[f"completion.{kind}.{target}.{parameter}"] = value
    result["completion.layer_tokens"] = tokens[list(source)]
    return result
