"""The UNETR decoder for patches of 8 voxels, from a token map and the image to class scores."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sparseseg.network.config import NetworkConfig
from napari_sparseseg.network.fields import Field


class InstanceNorm(nn.InstanceNorm3d):
    """Instance normalisation of ``(n, x, y, z, channels)`` features."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel over the voxels of its window."""
        return super().forward(x.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)


def _norm(kind: str, channels: int) -> nn.Module:
    """Return the norm of a kind; "channel" looks at each voxel on its own."""
    return InstanceNorm(channels) if kind == "instance" else nn.LayerNorm(channels)


def _pointwise(x: Tensor, conv: nn.Conv3d) -> Tensor:
    """Run a 1x1x1 convolution."""
    return F.linear(x, conv.weight.flatten(1), conv.bias)


def _unfold(x: Tensor, factor: int) -> Tensor:
    """Give each of the ``factor ** 3`` parts of a voxel its share of the channels.

    ``(n, x, y, z, factor ** 3 * channels)`` to ``(n, factor x, factor y, factor z, channels)``.
    """
    n, a, b, c, channels = x.shape
    parts = x.view(n, a, b, c, factor, factor, factor, channels // factor**3)
    parts = parts.permute(0, 1, 4, 2, 5, 3, 6, 7)
    return parts.reshape(n, factor * a, factor * b, factor * c, -1)


def split_voxels(image: Tensor) -> Tensor:
    """Turn 2x2x2 voxels into channels: ``(n, 2x, 2y, 2z, c)`` to ``(n, x, y, z, 8c)``."""
    n, x, y, z, c = image.shape
    parts = image.reshape(n, x // 2, 2, y // 2, 2, z // 2, 2, c)
    return parts.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(n, x // 2, y // 2, z // 2, 8 * c)


class Double(nn.ConvTranspose3d):
    """Double the resolution by a transposed convolution of stride 2, which overlaps nothing.

    Parameters
    ----------
    inside, outside : int
        Channels in and out.
    """

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__(inside, outside, kernel_size=2, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Map ``(n, x, y, z, inside)`` to ``(n, 2x, 2y, 2z, outside)``."""
        return _unfold(F.linear(x, self.weight.permute(2, 3, 4, 1, 0).flatten(0, 3)), 2)


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

    def forward(self, x: Tensor, field: Field) -> Tensor:
        """Map ``(blocks, x, y, z, inside)`` to ``(blocks, x, y, z, outside)``."""
        y = F.leaky_relu(self.norm1(field.convolve(x, self.conv1)), 0.01)
        y = self.norm2(field.convolve(y, self.conv2))
        if isinstance(self.shortcut, nn.Sequential):
            conv, norm = self.shortcut
            assert isinstance(conv, nn.Conv3d)
            x = norm(_pointwise(x, conv))
        return F.leaky_relu(y + x, 0.01)

    def macs(self, voxels: int) -> int:
        """Multiply-accumulates for so many voxels."""
        inside, outside = self.conv1.in_channels, self.conv1.out_channels
        shortcut = inside * outside if inside != outside else 0
        return voxels * (27 * outside * (inside + outside) + shortcut)


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
        self.up = Double(inside, outside)
        self.mix = ResidualBlock(outside + skips, outside, norm)

    def forward(self, x: Tensor, skips: list[Tensor], field: Field) -> Tensor:
        """Map ``(blocks, x, y, z, inside)`` to ``(blocks, 2x, 2y, 2z, outside)``."""
        return self.mix(torch.cat([self.up(x), *skips], dim=-1), field)

    def macs(self, voxels: int) -> int:
        """Multiply-accumulates for so many voxels of the finer side."""
        up = voxels * self.up.in_channels * self.up.out_channels
        return up + self.mix.macs(voxels)


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
        self.classes = classes
        self.hidden = nn.Conv3d(features + image, 2 * features, 1)
        self.scores = nn.Conv3d(2 * features, 8 * classes, 1)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """Return ``(n, 2x, 2y, 2z, classes)`` scores."""
        y = F.leaky_relu(_pointwise(torch.cat([x, image], dim=-1), self.hidden), 0.01)
        # stored class by class; the other way round, a voxel's scores come out side by side
        weight = self.scores.weight.view(self.classes, 8, -1).transpose(0, 1).flatten(0, 1)
        assert self.scores.bias is not None
        bias = self.scores.bias.view(self.classes, 8).T.flatten()
        return _unfold(F.linear(y, weight, bias), 2)

    def macs(self, voxels: int) -> int:
        """Multiply-accumulates for so many features."""
        return voxels * (self.hidden.weight.numel() + self.scores.weight.numel())


class PatchHead(nn.Sequential):
    """Predict the class scores of all 4x4x4 voxels under each feature at 1/4 resolution.

    Draws the patches that get no fine level.

    Parameters
    ----------
    features : int
        Channels.
    classes : int
        Number of classes.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(
            nn.Linear(features, features),
            nn.LeakyReLU(0.01),
            nn.Linear(features, 64 * classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, x, y, z, features)`` to ``(n, 4x, 4y, 4z, classes)`` scores."""
        return _unfold(super().forward(x), 4)

    def macs(self, voxels: int) -> int:
        """Multiply-accumulates for so many features."""
        return voxels * sum(layer.weight.numel() for layer in self if isinstance(layer, nn.Linear))


class UNETRDecoder(nn.Module):
    """UNETR's decoder on a token grid of 1/8 resolution.

    Levels and channels follow the released "UNETRx8_decoderv2" of Zhou et al. (IPMI 2023):
    skips at 1/8, 1/4 and 1/2 from token maps, a bottleneck at 1/16, and an image branch at full
    resolution. ``DecoderConfig.finest = 2`` replaces the full-resolution level (image branch, up
    block, head) by one at half resolution that reads and writes 2x2x2 sub-voxels.

    The levels up to 1/4 are the coarse ones, those behind them the fine ones, which may serve
    fewer tokens.

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
        self.skip2 = nn.ModuleList(
            [Double(dim, 2 * f), Double(2 * f, 2 * f), ResidualBlock(2 * f, 2 * f, norm)]
        )
        self.skip4 = Double(dim, 4 * f)
        self.skip8 = ResidualBlock(dim, 8 * f, norm)
        self.bottleneck = nn.AvgPool3d(3, stride=2, padding=1)
        self.up8 = UpBlock(dim, 8 * f, 8 * f, norm)
        self.up4 = UpBlock(8 * f, 4 * f, 4 * f, norm)
        self.patch_head = PatchHead(4 * f, config.classes) if config.decoder.two_level else None
        if self.full:
            self.image = ResidualBlock(config.channels, f, norm)
            self.up2 = UpBlock(4 * f, 2 * f, 2 * f, norm)
            self.up1 = UpBlock(2 * f, f, f, norm)
            self.head: nn.Conv3d | SubvoxelHead = nn.Conv3d(f, config.classes, 1)
        else:
            self.image = ResidualBlock(8 * config.channels, f, norm)
            self.up2 = UpBlock(4 * f, 2 * f, 3 * f, norm)
            self.head = SubvoxelHead(2 * f, 8 * config.channels, config.classes)

    def coarse(self, maps: tuple[Tensor, ...], field: Field) -> Tensor:
        """Run the levels at 1/8 and 1/4.

        Parameters
        ----------
        maps : tuple of Tensor
            Four ``(n, x/8, y/8, z/8, dim)`` maps, for the skips at 1/2, 1/4 and 1/8 and for the
            bottleneck. STP + MTA hands over one completed map four times.
        field : Field
            Tokens that are decoded.

        Returns
        -------
        Tensor
            Features on the field, two voxels along each edge of a token.
        """
        _, z4, z8, last = maps
        pooled = self.bottleneck(last.permute(0, 4, 1, 2, 3).float())  # no bf16 pooling on CPU
        up = self.up8.up(pooled.permute(0, 2, 3, 4, 1).to(last.dtype))
        skip = self.skip8(field.spread(z8), field)
        y = self.up8.mix(torch.cat([field.spread(up), skip], dim=-1), field)
        return self.up4(y, [self.skip4(field.spread(z4))], field)

    def fine(
        self,
        y: Tensor,
        maps: tuple[Tensor, ...],
        windows: Tensor,
        shown: Tensor | None,
        field: Field,
    ) -> Tensor:
        """Run the levels behind 1/4, which see the image.

        Parameters
        ----------
        y : Tensor
            Output of :meth:`coarse`, brought onto the field.
        maps : tuple of Tensor
            As for :meth:`coarse`.
        windows : Tensor
            ``(n, channels, x, y, z)`` normalised intensities.
        shown : Tensor or None
            ``(n, x/8, y/8, z/8, 1)`` factor on what the image shows of each patch, 1 or 0; all
            of it if None.
        field : Field
            Tokens that get the fine levels.

        Returns
        -------
        Tensor
            ``(tokens, voxels, classes)`` scores of the field's tokens.
        """
        first, second, block = self.skip2
        skip = block(second(first(field.spread(maps[0]))), field)
        voxels = field.cut(windows, self.config.patch)
        if not self.full:
            voxels = split_voxels(voxels)
        image = self.image(voxels, field)
        if shown is not None:
            factor = _enlarge(field.spread(shown), image).to(image.dtype)
            image, voxels = image * factor, voxels * factor
        if self.full:
            y = self.up1(self.up2(y, [skip], field), [image], field)
            assert isinstance(self.head, nn.Conv3d)
            return field.patches(_pointwise(y, self.head))
        y = self.up2(y, [skip, image], field)
        return field.patches(self.head(y, voxels))

    def macs(self, cells: int, coarse: int, fine: int, drawn: int) -> int:
        """Multiply-accumulates of the convolutions.

        Parameters
        ----------
        cells : int
            Places for tokens in the windows, air or not: the bottleneck runs on all.
        coarse, fine, drawn : int
            Tokens that the coarse levels, the fine ones and the patch-wise head ran on.
        """
        f, dim = self.config.decoder.feature_size, self.config.dim
        at4, at2, at1 = 8, 64, 512  # voxels of a token at strides 4, 2 and 1
        total = cells * dim * 8 * f + self.skip8.macs(coarse) + self.up8.mix.macs(coarse)
        total += coarse * at4 * dim * 4 * f + self.up4.macs(coarse * at4)
        if self.patch_head is not None:
            total += self.patch_head.macs(drawn * at4)
        total += fine * (at4 * dim * 2 * f + at2 * 4 * f * f)
        block = self.skip2[2]
        assert isinstance(block, ResidualBlock)
        total += block.macs(fine * at2) + self.up2.macs(fine * at2)
        if self.full:
            total += self.image.macs(fine * at1) + self.up1.macs(fine * at1)
            return total + fine * at1 * f * self.config.classes
        assert isinstance(self.head, SubvoxelHead)
        return total + self.image.macs(fine * at2) + self.head.macs(fine * at2)


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    """Repeat voxels until ``(n, x, y, z, 1)`` has the size of ``like``."""
    for axis in (1, 2, 3):
        x = x.repeat_interleave(like.shape[axis] // x.shape[axis], dim=axis)
    return x
