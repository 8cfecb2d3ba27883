"""SparseUNETR: patch embedding, sparse encoder, completion, decoder."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sparseseg.network.blocks import block_macs
from napari_sparseseg.network.completion import Preservation, adapt_groups, make_completion
from napari_sparseseg.network.config import NetworkConfig
from napari_sparseseg.network.decoder import UNETRDecoder
from napari_sparseseg.network.decoding import Decoded, Output, decode
from napari_sparseseg.network.encoded import Encoded
from napari_sparseseg.network.encoder import FirstStage, SparseEncoder
from napari_sparseseg.network.sparsifiers import make_sparsifier
from napari_sparseseg.network.trace import WindowTrace, trace_windows

_POSITIONS = "encoder.positions"


@dataclass(frozen=True)
class Prepared:
    """A batch of windows up to the first stage: all that no setting changes.

    Attributes
    ----------
    windows : Tensor
        ``(n, channels, x, y, z)`` as given, in the precision of the network.
    first : FirstStage
        Tokens at the first stage and their scores.
    """

    windows: Tensor
    first: FirstStage


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
        self.sparsifier = make_sparsifier(config)
        self.completion = make_completion(config)
        self.air_token = nn.Parameter(torch.zeros(config.dim))
        self.decoder = UNETRDecoder(config)
        self.apply(_initialise)
        if isinstance(self.completion, Preservation):
            self.completion.start_skips_at_zero()

    def forward(self, windows: Tensor, setting: float = 1.0) -> Tensor:
        """Segment windows.

        Parameters
        ----------
        windows : Tensor
            ``(n, channels, x, y, z)`` normalised intensities; x, y, z as in the configuration.
        setting : float
            The sparsifier's setting, in (0, 1]: its keep ratio or threshold; 1 prunes nothing.

        Returns
        -------
        Tensor
            ``(n, classes, x, y, z)`` class scores.

        Raises
        ------
        ValueError
            If the shape or the setting does not fit.
        """
        return self.finish(self.prepare(windows), setting).logits

    def prepare(self, windows: Tensor, air: Tensor | None = None) -> Prepared:
        """Run everything that does not depend on the setting.

        Parameters
        ----------
        windows : Tensor
            ``(n, channels, x, y, z)`` normalised intensities.
        air : Tensor, optional
            ``(n, grid x, y, z)`` bool, tokens that never enter block 1; :meth:`find_air` if left
            out.

        Raises
        ------
        ValueError
            If the shape does not fit.
        """
        expected = (self.config.channels, *self.config.window)
        if windows.shape[1:] != expected:
            raise ValueError(f"windows are {tuple(windows.shape[1:])}, the network is {expected}")
        if air is None:
            air = self.find_air(windows)
        windows = windows.to(self.dtype)
        return Prepared(windows, self.encoder.begin(windows, air, self.sparsifier))

    def finish(self, prepared: Prepared, setting: float, active_blocks: bool = True) -> Output:
        """Decide, encode, complete and decode; ``prepared`` can be used again.

        Parameters
        ----------
        prepared : Prepared
            From :meth:`prepare`.
        setting : float
            The sparsifier's setting, in (0, 1].
        active_blocks : bool
            Whether only the blocks of open tokens are decoded, where the decoder's context allows
            it, or whole windows. The answer is the same.

        Raises
        ------
        ValueError
            If the setting is not in (0, 1].
        """
        if not 0.0 < setting <= 1.0:
            raise ValueError(f"the setting {setting} is not in (0, 1]")
        encoded = self.encoder.finish(prepared.first, setting, self.sparsifier)
        completed = self.completion(encoded)
        return decode(
            self.decoder, self.air_token, prepared.windows, encoded, completed, active_blocks
        )

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

    def start_from(
        self, weights: dict[str, Tensor], window: tuple[int, int, int] | None = None
    ) -> None:
        """Load the weights of a twin, whose sparsifier or completion may be of another kind.

        Parts that the twin lacks keep their initial values.

        Parameters
        ----------
        weights : dict of Tensor
            State of a :class:`SparseUNETR`.
        window : tuple of int, optional
            Window of the twin in voxels, if it may differ: its middle is then laid on the middle
            of this one.

        Raises
        ------
        ValueError
            If the architectures differ in anything else.
        """
        optional = (
            "sparsifier.",
            "completion.skip_",
            "completion.mask_token",
            "decoder.patch_head.",
        )
        own = self.state_dict()
        if window is not None and window != self.config.window:
            weights = {**weights, _POSITIONS: self._fit_positions(weights[_POSITIONS], window)}
        if "completion.layer_tokens" in weights:
            weights = adapt_groups(weights, len(self.completion.norms))
        fitting = {
            key: value
            for key, value in weights.items()
            if key in own and value.shape == own[key].shape
        }
        rest = (own.keys() | weights.keys()) - fitting.keys()
        foreign = sorted(key for key in rest if not key.startswith(optional))
        if foreign:
            raise ValueError(f"the starting weights are of another architecture: {foreign[0]}")
        self.load_state_dict(fitting, strict=False)

    def _fit_positions(self, codes: Tensor, window: tuple[int, int, int]) -> Tensor:
        """Lay the position codes of a window on this one; the edge is repeated or cut."""
        old = [w // self.config.patch for w in window]
        padding: list[int] = []
        for before, now in zip(old, self.config.grid, strict=True):
            low = (now - before) // 2
            padding = [low, now - before - low, *padding]
        volume = F.pad(codes.T.reshape(1, -1, *old), padding, mode="replicate")
        return volume.flatten(2)[0].T.contiguous()

    def macs(self, output: Output) -> Macs:
        """Count the multiply-accumulates of a batch from what ran.

        The encoder's share comes from the log that its blocks wrote, not from the setting.
        """
        encoded = output.encoded
        scoring = sum(
            self.sparsifier.macs(stage, len(window.rows))
            for stage, windows in enumerate(encoded.scored)
            for window in windows
        )
        entering = self.completion.entering(encoded)
        return self._count(encoded, encoded.log.macs, scoring, entering, output.decoded)

    def dense_macs(self, output: Output) -> Macs:
        """Count what the dense twin does on the same tokens: each in every block and level."""
        config, layout = self.config, output.encoded.layout
        encoder = config.depth * block_macs(layout.lengths(), config.dim, config.mlp_ratio)
        tokens = len(layout.cells)
        if config.decoder.context == "window":
            tokens = len(layout.counts) * math.prod(config.grid)
        everything = Decoded(tokens, tokens, 0)
        return self._count(output.encoded, encoder, 0, layout.size, everything)

    def _count(
        self, encoded: Encoded, encoder: int, scoring: int, entering: int, decoded: Decoded
    ) -> Macs:
        config, layout = self.config, encoded.layout
        cells = len(layout.counts) * math.prod(config.grid) if decoded.coarse else 0
        return Macs(
            embedding=len(layout.cells) * config.channels * config.patch**3 * config.dim,
            encoder=encoder,
            scoring=scoring,
            completion=self.completion.macs(layout.lengths(), entering),
            decoder=self.decoder.macs(cells, decoded.coarse, decoded.fine, decoded.drawn),
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


def _initialise(module: nn.Module) -> None:
    """Initialise as ViTs are: truncated normal linear layers, zero biases."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
