"""SparseUNETR: patch embedding, sparse encoder, completion, decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sparseseg.network.blocks import block_macs
from napari_sparseseg.network.completion import TokenAssembly
from napari_sparseseg.network.config import NetworkConfig
from napari_sparseseg.network.decoder import UNETRDecoder
from napari_sparseseg.network.encoder import Encoded, FirstStage, SparseEncoder
from napari_sparseseg.network.sparsifiers import make_sparsifier
from napari_sparseseg.network.trace import WindowTrace, trace_windows

AIR_SCORE = -30.0
"""Score of every class but background in a patch that is air."""


@dataclass(frozen=True)
class Prepared:
    """A batch of windows up to the first stage: all that no keep ratio changes.

    Attributes
    ----------
    windows : Tensor
        ``(n, channels, x, y, z)`` as given, in the precision of the network.
    air : Tensor
        ``(n, grid x, y, z)`` bool.
    image : Tensor
        Output of the decoder's image branch.
    first : FirstStage
        Tokens at the first stage and their scores.
    """

    windows: Tensor
    air: Tensor
    image: Tensor
    first: FirstStage


@dataclass(frozen=True)
class Output:
    """What the network says about a batch of windows.

    Attributes
    ----------
    logits : Tensor
        ``(n, classes, x, y, z)`` class scores; background in air.
    encoded : Encoded
        The tokens as they left the encoder.
    completed : Tensor
        ``(rows, dim)`` completed features, in the order of ``encoded.layout``.
    """

    logits: Tensor
    encoded: Encoded
    completed: Tensor


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates by part."""

    embedding: int
    encoder: int
    scoring: int
    completion: int
    decoder: int

    @property
    def total(self) -> int:
        """Sum of the parts."""
        return self.embedding + self.encoder + self.scoring + self.completion + self.decoder


class SparseUNETR(nn.Module):
    """A UNETR whose encoder drops tokens.

    Parameters
    ----------
    config : NetworkConfig
        Architecture.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = SparseEncoder(config)
        self.sparsifier = make_sparsifier(config.sparsifier, config.dim, len(config.stages))
        self.completion = TokenAssembly(config)
        self.air_token = nn.Parameter(torch.zeros(config.dim))
        self.decoder = UNETRDecoder(config)
        self.apply(_initialise)

    def forward(self, windows: Tensor, keep_ratio: float = 1.0) -> Tensor:
        """Segment windows.

        Parameters
        ----------
        windows : Tensor
            ``(n, channels, x, y, z)`` normalised intensities; x, y, z as in the configuration.
        keep_ratio : float
            Fraction of each window's tokens that run through every block, in (0, 1].

        Returns
        -------
        Tensor
            ``(n, classes, x, y, z)`` class scores.

        Raises
        ------
        ValueError
            If the shape or the keep ratio does not fit.
        """
        return self.finish(self.prepare(windows), keep_ratio).logits

    def prepare(self, windows: Tensor) -> Prepared:
        """Run everything that does not depend on the keep ratio."""
        expected = (self.config.channels, *self.config.window)
        if windows.shape[1:] != expected:
            raise ValueError(f"windows are {tuple(windows.shape[1:])}, the network is {expected}")
        air = self.find_air(windows)
        windows = windows.to(self.dtype, memory_format=torch.channels_last_3d)
        image = self.decoder.image_features(windows)
        first = self.encoder.begin(windows, air, self.sparsifier)
        return Prepared(windows, air, image, first)

    def finish(self, prepared: Prepared, keep_ratio: float) -> Output:
        """Prune, encode, complete and decode; ``prepared`` can be used again.

        Raises
        ------
        ValueError
            If the keep ratio is not in (0, 1].
        """
        if not 0.0 < keep_ratio <= 1.0:
            raise ValueError(f"keep ratio {keep_ratio} is not in (0, 1]")
        encoded = self.encoder.finish(prepared.first, keep_ratio, self.sparsifier)
        completed = self.completion(encoded)
        tokens = encoded.layout.to_map(completed, self.air_token)
        detail = None
        if self.config.decoder.detail == "open":
            detail = encoded.layout.to_map(encoded.went_on[:, None], encoded.went_on.new_ones(1))
        logits = self.decoder(prepared.windows, prepared.image, (tokens,) * 4, detail)
        return Output(self._silence_air(logits, prepared.air), encoded, completed)

    def trace(self, encoded: Encoded) -> tuple[WindowTrace, ...]:
        """Return what happened to every token, one record per window."""
        return trace_windows(encoded, self.config.depth)

    def find_air(self, windows: Tensor) -> Tensor:
        """Mark the patches that hold only background by intensity.

        Returns
        -------
        Tensor
            ``(n, grid x, y, z)`` bool.
        """
        bright = (windows > self.config.air_level).any(dim=1, keepdim=True).float()
        share = F.avg_pool3d(bright, self.config.patch)[:, 0]
        return share <= self.config.air_fraction

    def macs(self, encoded: Encoded) -> Macs:
        """Count the multiply-accumulates of a batch from what ran.

        The encoder's share comes from the log that its blocks wrote, not from the keep ratio.
        """
        scored = [len(a) for windows in encoded.importance for _, a in windows]
        return self._count(encoded, encoded.log.lengths, scored)

    def dense_macs(self, encoded: Encoded) -> Macs:
        """Count what the dense twin does on the same windows: every token in every block."""
        return self._count(encoded, [encoded.layout.lengths()] * self.config.depth, [])

    def _count(self, encoded: Encoded, blocks: list[tuple[int, ...]], scored: list[int]) -> Macs:
        config, windows = self.config, len(encoded.layout.counts)
        volume = config.window[0] * config.window[1] * config.window[2]
        return Macs(
            embedding=windows * config.channels * volume * config.dim,
            encoder=sum(block_macs(n, config.dim, config.mlp_ratio) for n in blocks),
            scoring=sum(self.sparsifier.macs(tokens) for tokens in scored),
            completion=self.completion.macs(encoded.layout.lengths()),
            decoder=windows * self.decoder.macs(),
        )

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights; scorers stay in float32."""
        return self.air_token.dtype

    def to_precision(self, dtype: torch.dtype) -> SparseUNETR:
        """Convert all but the sparsifier, whose scores must not tie by rounding."""
        self.to(dtype)
        self.sparsifier.float()
        return self.channels_last()

    def channels_last(self) -> SparseUNETR:
        """Lay convolution weights out channels last: bf16 units gain only then."""
        for parameter in self.parameters():
            if parameter.ndim == 5:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
        return self

    def _silence_air(self, logits: Tensor, air: Tensor) -> Tensor:
        """Set patches of air to background: their tokens said nothing."""
        if self.config.air_fraction < 0:
            return logits
        size = self.config.patch
        n, classes, *_ = logits.shape
        gx, gy, gz = self.config.grid
        blocks = logits.view(n, classes, gx, size, gy, size, gz, size)
        quiet = logits.new_full((classes,), AIR_SCORE)
        quiet[0] = 0.0
        mask = air.view(n, 1, gx, 1, gy, 1, gz, 1)
        return torch.where(mask, quiet.view(1, -1, 1, 1, 1, 1, 1, 1), blocks).view_as(logits)


def _initialise(module: nn.Module) -> None:
    """Initialise as ViTs are: truncated normal linear layers, zero biases."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
