"""SparseUNETR: patch embedding, sparse encoder, completion, decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sparseseg.network.blocks import block_macs
from napari_sparseseg.network.completion import (
    Completed,
    Preservation,
    adapt_groups,
    make_completion,
)
from napari_sparseseg.network.config import NetworkConfig
from napari_sparseseg.network.decoder import Box, UNETRDecoder
from napari_sparseseg.network.encoded import Encoded
from napari_sparseseg.network.encoder import FirstStage, SparseEncoder
from napari_sparseseg.network.sparsifiers import make_sparsifier
from napari_sparseseg.network.trace import WindowTrace, trace_windows

UNLIKELY = -30.0
"""Score of every other class in a patch whose class is known; its own has 0."""


@dataclass(frozen=True)
class Prepared:
    """A batch of windows up to the first stage: all that no setting changes.

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
    tissue : Box or None
        The tokens that are not air, None if all are.
    decoded : Box or None
        The tokens that were decoded: those whose prediction was not final before.
    """

    logits: Tensor
    encoded: Encoded
    completed: Tensor
    tissue: Box | None
    decoded: Box | None


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

    def prepare(self, windows: Tensor) -> Prepared:
        """Run everything that does not depend on the setting."""
        expected = (self.config.channels, *self.config.window)
        if windows.shape[1:] != expected:
            raise ValueError(f"windows are {tuple(windows.shape[1:])}, the network is {expected}")
        air = self.find_air(windows)
        windows = windows.to(self.dtype, memory_format=torch.channels_last_3d)
        image = self.decoder.image_features(windows)
        first = self.encoder.begin(windows, air, self.sparsifier)
        return Prepared(windows, air, image, first)

    def finish(self, prepared: Prepared, setting: float) -> Output:
        """Decide, encode, complete and decode; ``prepared`` can be used again.

        Raises
        ------
        ValueError
            If the setting is not in (0, 1].
        """
        if not 0.0 < setting <= 1.0:
            raise ValueError(f"the setting {setting} is not in (0, 1]")
        encoded = self.encoder.finish(prepared.first, setting, self.sparsifier)
        completed = self.completion(encoded)
        tissue, decoded = self._boxes(encoded, prepared.air)
        logits = self._decode(prepared, encoded, completed, decoded)
        logits = self._finalise(logits, encoded, prepared.air)
        return Output(logits, encoded, completed.last, tissue, decoded)

    def _boxes(self, encoded: Encoded, air: Tensor) -> tuple[Box | None, Box | None]:
        """Return the boxes of the tissue and of the tokens that still need decoding."""
        grid = self.config.grid
        whole = Box((0, 0, 0), grid)
        if self.training or self.config.decoder.norm != "channel":
            return whole, whole  # the statistics of an instance norm need the whole window
        tissue = Box.around(~air)
        if encoded.fate != "exited":
            return tissue, tissue
        layout = encoded.layout
        is_open = (
            (~air).flatten().index_fill(0, layout.cells[encoded.label[layout.rows] >= 0], False)
        )
        return tissue, Box.around(is_open.view(air.shape))

    def _decode(
        self, prepared: Prepared, encoded: Encoded, completed: Completed, box: Box | None
    ) -> Tensor:
        """Return the scores of the windows; those outside the box are of no meaning."""
        layout, patch = encoded.layout, self.config.patch
        shape = (len(prepared.windows), self.config.classes, *self.config.window)
        if box is None:
            return prepared.image.new_zeros(shape)
        last = layout.to_map(completed.last, self.air_token)
        skips = [
            last if skip is completed.last else layout.to_map(skip, self.air_token)
            for skip in completed.skips
        ]
        detail = None
        if self.config.decoder.detail == "open":
            detail = layout.to_map(encoded.went_on[:, None], encoded.went_on.new_ones(1))
        if box.shape == self.config.grid:
            return self.decoder(prepared.windows, prepared.image, (*skips, last), detail)
        part = self.decoder(prepared.windows, prepared.image, (*skips, last), detail, box)
        logits = part.new_zeros(shape)
        box.cut(logits, patch).copy_(part)
        return logits

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

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Load the weights of a twin, whose sparsifier or completion may be of another kind.

        Parts that the twin lacks keep their initial values.

        Parameters
        ----------
        weights : dict of Tensor
            State of a :class:`SparseUNETR`.

        Raises
        ------
        ValueError
            If the architectures differ in anything else.
        """
        optional = ("sparsifier.", "completion.skip_", "completion.mask_token")
        own = self.state_dict()
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
        """Count what the dense twin does on the same windows: every token in every block."""
        config, layout = self.config, output.encoded.layout
        encoder = config.depth * block_macs(layout.lengths(), config.dim, config.mlp_ratio)
        return self._count(output.encoded, encoder, 0, layout.size, output.tissue)

    def _count(
        self, encoded: Encoded, encoder: int, scoring: int, entering: int, box: Box | None
    ) -> Macs:
        config, windows = self.config, len(encoded.layout.counts)
        volume = config.window[0] * config.window[1] * config.window[2]
        return Macs(
            embedding=windows * config.channels * volume * config.dim,
            encoder=encoder,
            scoring=scoring,
            completion=self.completion.macs(encoded.layout.lengths(), entering),
            decoder=windows * self.decoder.macs(box),
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

    def _finalise(self, logits: Tensor, encoded: Encoded, air: Tensor) -> Tensor:
        """Write what was known without the decoder: air is background, an exit its class."""
        final = torch.where(air, 0, -1).flatten()
        if encoded.fate == "exited":
            layout = encoded.layout
            final = final.index_copy(0, layout.cells, encoded.label[layout.rows])
        if not bool((final >= 0).any()):
            return logits
        size, (gx, gy, gz) = self.config.patch, self.config.grid
        n, classes, *_ = logits.shape
        blocks = logits.view(n, classes, gx, size, gy, size, gz, size)
        known = F.one_hot(final.clamp_min(0), classes).to(logits.dtype)
        scores = UNLIKELY * (1 - known).view(n, gx, gy, gz, classes).permute(0, 4, 1, 2, 3)
        mask = (final >= 0).view(n, 1, gx, 1, gy, 1, gz, 1)
        return torch.where(mask, scores[:, :, :, None, :, None, :, None], blocks).reshape(
            logits.shape
        )


def _initialise(module: nn.Module) -> None:
    """Initialise as ViTs are: truncated normal linear layers, zero biases."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
