"""The UNETR decoder for patches of 8 voxels, from a token map and the image to class scores."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sparseseg.network.config import NetworkConfig


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each voxel of a ``(n, channels, x, y, z)`` map."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each voxel on its own."""
        return super().forward(x.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)


def _norm(kind: str, channels: int) -> nn.Module:
    return nn.InstanceNorm3d(channels) if kind == "instance" else ChannelNorm(channels)


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions with normalisation, and a 1x1x1 shortcut where channels differ.

    Parameters
    ----------
    inside, outside : int
        Channels in and out.
    norm : str
        "instance" or "channel".
    """

    def __init__(self, inside: int, outside: int, norm: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inside, outside, 3, padding=1, bias=False)
        self.norm1 = _norm(norm, outside)
        self.conv2 = nn.Conv3d(outside, outside, 3, padding=1, bias=False)
        self.norm2 = _norm(norm, outside)
        self.shortcut: nn.Module = nn.Identity()
        if inside != outside:
            self.shortcut = nn.Sequential(
                nn.Conv3d(inside, outside, 1, bias=False), _norm(norm, outside)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, inside, x, y, z)`` to ``(n, outside, x, y, z)``."""
        y = F.leaky_relu(self.norm1(self.conv1(x)), 0.01)
        return F.leaky_relu(self.norm2(self.conv2(y)) + self.shortcut(x), 0.01)


def _double(inside: int, outside: int) -> nn.Module:
    return nn.ConvTranspose3d(inside, outside, kernel_size=2, stride=2, bias=False)


class UpBlock(nn.Module):
    """Double the resolution, join skips, and run a residual block.

    Parameters
    ----------
    inside, outside : int
        Channels in and out.
    skips : int
        Channels of all skips together.
    norm : str
        "instance" or "channel".
    """

    def __init__(self, inside: int, outside: int, skips: int, norm: str) -> None:
        super().__init__()
        self.up = _double(inside, outside)
        self.mix = ResidualBlock(outside + skips, outside, norm)

    def forward(self, x: Tensor, *skips: Tensor) -> Tensor:
        """Map ``(n, inside, x, y, z)`` to ``(n, outside, 2x, 2y, 2z)``."""
        return self.mix(torch.cat([self.up(x), *skips], dim=1))


def split_voxels(image: Tensor) -> Tensor:
    """Turn 2x2x2 voxels into channels: ``(n, c, 2x, 2y, 2z)`` to ``(n, 8c, x, y, z)``."""
    n, c, x, y, z = image.shape
    parts = image.reshape(n, c, x // 2, 2, y // 2, 2, z // 2, 2)
    return parts.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(n, 8 * c, x // 2, y // 2, z // 2)


def join_voxels(values: Tensor) -> Tensor:
    """Undo :func:`split_voxels`: ``(n, 8c, x, y, z)`` to ``(n, c, 2x, 2y, 2z)``."""
    n, c, x, y, z = values.shape
    parts = values.reshape(n, c // 8, 2, 2, 2, x, y, z)
    return parts.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(n, c // 8, 2 * x, 2 * y, 2 * z)


class SubvoxelHead(nn.Module):
    """Predict the class scores of the 2x2x2 voxels under each feature at once.

    Parameters
    ----------
    features, image : int
        Channels of the features, and of the image sub-voxels that are shown to the head again.
    classes : int
        Number of classes.
    """

    def __init__(self, features: int, image: int, classes: int) -> None:
        super().__init__()
        self.hidden = nn.Conv3d(features + image, 2 * features, 1)
        self.scores = nn.Conv3d(2 * features, 8 * classes, 1)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """Return ``(n, classes, 2x, 2y, 2z)`` scores."""
        y = F.leaky_relu(self.hidden(torch.cat([x, image], dim=1)), 0.01)
        return join_voxels(self.scores(y))


HALO = 2
"""Tokens around a box that its voxels are computed from, behind the level of 1/8 resolution."""


@dataclass(frozen=True)
class Box:
    """A box of tokens: the part of a window that is decoded.

    Attributes
    ----------
    start, stop : tuple of int
        First token and the one behind the last along each axis.
    """

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @classmethod
    def around(cls, marked: Tensor) -> Box | None:
        """Return the least box around the marked tokens of all windows, None if there are none.

        Parameters
        ----------
        marked : Tensor
            ``(n, x, y, z)`` bool.
        """
        places = marked.any(dim=0).nonzero()
        if not len(places):
            return None
        low, high = places.amin(dim=0).tolist(), (places.amax(dim=0) + 1).tolist()
        return cls((low[0], low[1], low[2]), (high[0], high[1], high[2]))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of tokens along each axis."""
        x, y, z = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return x, y, z

    def grown(self, by: int, grid: tuple[int, int, int]) -> Box:
        """Return the box with a margin, as far as the grid reaches."""
        x, y, z = (max(0, a - by) for a in self.start)
        u, v, w = (min(n, b + by) for b, n in zip(self.stop, grid, strict=True))
        return Box((x, y, z), (u, v, w))

    def within(self, outer: Box) -> Box:
        """Return the same place counted from the start of another box."""
        x, y, z = (a - o for a, o in zip(self.start, outer.start, strict=True))
        u, v, w = (b - o for b, o in zip(self.stop, outer.start, strict=True))
        return Box((x, y, z), (u, v, w))

    def cut(self, values: Tensor, per_token: int) -> Tensor:
        """Cut the box out of ``(n, channels, x, y, z)`` with so many values along a token."""
        x, y, z = (
            slice(a * per_token, b * per_token) for a, b in zip(self.start, self.stop, strict=True)
        )
        return values[:, :, x, y, z]


class UNETRDecoder(nn.Module):
    """UNETR's decoder on a token grid of 1/8 resolution.

    Levels and channels follow the released "UNETRx8_decoderv2" of Zhou et al. (IPMI 2023):
    skips at 1/8, 1/4 and 1/2 from token maps, a bottleneck at 1/16, and an image branch at full
    resolution. ``DecoderConfig.finest = 2`` replaces the full-resolution level (image branch, up
    block, head) by one at half resolution that reads and writes 2x2x2 sub-voxels.

    Parameters
    ----------
    config : NetworkConfig
        Architecture.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        f, norm, dim = config.decoder.feature_size, config.decoder.norm, config.dim
        self.config = config
        self.full = config.decoder.finest == 1
        self.skip2 = nn.Sequential(
            _double(dim, 2 * f), _double(2 * f, 2 * f), ResidualBlock(2 * f, 2 * f, norm)
        )
        self.skip4 = _double(dim, 4 * f)
        self.skip8 = ResidualBlock(dim, 8 * f, norm)
        self.bottleneck = nn.AvgPool3d(3, stride=2, padding=1)
        self.up8 = UpBlock(dim, 8 * f, 8 * f, norm)
        self.up4 = UpBlock(8 * f, 4 * f, 4 * f, norm)
        if self.full:
            self.image = ResidualBlock(config.channels, f, norm)
            self.up2 = UpBlock(4 * f, 2 * f, 2 * f, norm)
            self.up1 = UpBlock(2 * f, f, f, norm)
            self.head: nn.Module = nn.Conv3d(f, config.classes, 1)
        else:
            self.image = ResidualBlock(8 * config.channels, f, norm)
            self.up2 = UpBlock(4 * f, 2 * f, 3 * f, norm)
            self.head = SubvoxelHead(2 * f, 8 * config.channels, config.classes)

    def image_features(self, windows: Tensor) -> Tensor:
        """Run the image branch, which no keep ratio changes.

        Parameters
        ----------
        windows : Tensor
            ``(n, channels, x, y, z)`` normalised intensities.
        """
        return self.image(windows if self.full else split_voxels(windows))

    def forward(
        self,
        windows: Tensor,
        image: Tensor,
        maps: tuple[Tensor, ...],
        detail: Tensor | None = None,
        box: Box | None = None,
    ) -> Tensor:
        """Decode token maps to class scores.

        Parameters
        ----------
        windows : Tensor
            ``(n, channels, x, y, z)`` normalised intensities.
        image : Tensor
            Output of :meth:`image_features` for them.
        maps : tuple of Tensor
            Four ``(n, dim, x/8, y/8, z/8)`` maps, for the skips at 1/2, 1/4 and 1/8 and for the
            bottleneck. STP + MTA hands over one completed map four times.
        detail : Tensor, optional
            ``(n, 1, x/8, y/8, z/8)`` factor on what the image shows of each patch, 1 or 0; all
            of it if left out.
        box : Box, optional
            The tokens whose voxels are wanted; the whole window if left out. Exact only without
            statistics over the window, that is with ``norm="channel"``.

        Returns
        -------
        Tensor
            ``(n, classes, x, y, z)`` scores of the box, or of the window.
        """
        z2, z4, z8, last = maps
        coarse = self.bottleneck(last.float()).to(last.dtype)  # no bf16 pooling on CPU
        y = self.up8(coarse, self.skip8(z8))
        if box is None:
            return self._finer(y, z4, z2, image, windows, detail)
        wide = box.grown(HALO, self.config.grid)
        fine = image.shape[2] // last.shape[2]
        scores = self._finer(
            wide.cut(y, 1),
            wide.cut(z4, 1),
            wide.cut(z2, 1),
            wide.cut(image, fine),
            wide.cut(windows, self.config.patch),
            None if detail is None else wide.cut(detail, 1),
        )
        return box.within(wide).cut(scores, self.config.patch)

    def _finer(
        self,
        y: Tensor,
        z4: Tensor,
        z2: Tensor,
        image: Tensor,
        windows: Tensor,
        detail: Tensor | None,
    ) -> Tensor:
        """Run the levels finer than 1/8."""
        y = self.up4(y, self.skip4(z4))
        if detail is not None:
            factor = [a // b for a, b in zip(image.shape[2:], detail.shape[2:], strict=True)]
            shown = F.interpolate(detail, scale_factor=factor, mode="nearest").to(image.dtype)
            image = image * shown
        if self.full:
            return self.head(self.up1(self.up2(y, self.skip2(z2)), image))
        y = self.up2(y, self.skip2(z2), image)
        voxels = split_voxels(windows)
        return self.head(y, voxels if detail is None else voxels * shown)

    def macs(self, box: Box | None) -> int:
        """Multiply-accumulates of the convolutions for one window, image branch included.

        Parameters
        ----------
        box : Box or None
            The tokens whose voxels are decoded; None if only the image branch ran.
        """
        f, dim, channels = self.config.decoder.feature_size, self.config.dim, self.config.channels
        tokens = math.prod(self.config.grid)
        inside = channels if self.full else 8 * channels
        total = _residual_macs(inside, f, tokens * (512 if self.full else 64))
        if box is None:
            return total
        total += _residual_macs(dim, 8 * f, tokens) + _up_macs(dim, 8 * f, 8 * f, tokens)
        at8 = math.prod(box.grown(HALO, self.config.grid).shape)
        at4, at2, at1 = 8 * at8, 64 * at8, 512 * at8  # voxels at stride 4, 2, 1
        total += dim * 2 * f * at4 + 4 * f * f * at2 + _residual_macs(2 * f, 2 * f, at2)
        total += dim * 4 * f * at4 + _up_macs(8 * f, 4 * f, 4 * f, at4)
        if self.full:
            total += _up_macs(4 * f, 2 * f, 2 * f, at2)
            return total + _up_macs(2 * f, f, f, at1) + f * self.config.classes * at1
        total += _up_macs(4 * f, 2 * f, 3 * f, at2)
        return total + 4 * f * (2 * f + 8 * channels + 8 * self.config.classes) * at2


def _residual_macs(inside: int, outside: int, voxels: int) -> int:
    shortcut = inside * outside if inside != outside else 0
    return voxels * (27 * outside * (inside + outside) + shortcut)


def _up_macs(inside: int, outside: int, skips: int, voxels: int) -> int:
    return voxels * inside * outside + _residual_macs(outside + skips, outside, voxels)
