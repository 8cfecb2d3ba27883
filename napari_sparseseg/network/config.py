"""The architecture of a network as plain data, stored beside its weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from napari_sparseseg.network.limits import check_limits, check_window


@dataclass(frozen=True)
class CompletionConfig:
    """How the full token map is rebuilt for the decoder.

    Attributes
    ----------
    dim : int
        Width of the completion blocks, a multiple of 6 and of ``heads``.
    depth : int
        Number of transformer blocks; the published runs use one.
    heads : int
        Attention heads of a block.
    kind : {"assembly", "mask", "preserve"}
        "assembly" is MTA (Zhou et al., IPMI 2023): every token brings the features it left
        with. "mask" is what MTA was compared with: a learned mask token stands for every token
        that left. "preserve" (Liu et al., WACV 2024): features stay in place, and the decoder's
        skips get the token maps of the stages, as in a dense UNETR.
    """

    dim: int = 768
    depth: int = 1
    heads: int = 12
    kind: Literal["assembly", "mask", "preserve"] = "assembly"

    def __post_init__(self) -> None:
        check_limits(self)


@dataclass(frozen=True)
class DecoderConfig:
    """Size of the UNETR decoder.

    Attributes
    ----------
    feature_size : int
        Channels at full resolution; every coarser level doubles them.
    finest : {1, 2}
        Stride of the finest level that runs convolutions. 1 is the published decoder. With 2
        the image enters as 2x2x2 sub-voxels and the head predicts all eight of them at once,
        which leaves out the full-resolution convolutions, three quarters of a decoder's cost.
    detail : {"all", "open"}
        Which tokens the image branch serves. "all" as published: the image reaches every patch,
        which lets a UNETR ignore its tokens. With "open" a token pruned at the first stage gets
        no image detail: its patch is drawn from its completed features and its neighbours.
    norm : {"instance", "channel"}
        "instance" as published; "channel" normalises each voxel over its channels, so that a
        voxel's answer does not depend on how much air its window holds.
    context : {"window", "open"}
        What a convolution sees beside a patch that is decoded. "window" as published: all of the
        window, which therefore has to be decoded as a whole. With "open" a token that is not
        decoded is zero to its neighbours, so that the blocks of the others can be decoded alone.
        Together with ``detail="open"``, tokens pruned at the first stage do not get the levels
        finer than 1/4 at all: a patch-wise head draws them.
    """

    feature_size: int = 16
    finest: Literal[1, 2] = 1
    norm: Literal["instance", "channel"] = "instance"
    detail: Literal["all", "open"] = "all"
    context: Literal["window", "open"] = "window"

    def __post_init__(self) -> None:
        check_limits(self)
        if self.context == "open" and self.norm != "channel":
            raise ValueError("an instance norm needs the whole window: context must be 'window'")

    @property
    def two_level(self) -> bool:
        """Whether pruned tokens are drawn from the coarse levels alone."""
        return self.context == "open" and self.detail == "open"


@dataclass(frozen=True)
class NetworkConfig:
    """Everything that fixes the shape of a :class:`SparseUNETR`.

    The defaults are the published BTCV network: ViT-B, patch 8, window 96.

    Attributes
    ----------
    classes : int
        Number of output classes, background included.
    channels : int
        Number of image channels.
    window : tuple of int
        Window in voxels, each a multiple of twice the patch (the bottleneck halves the grid) and
        at least four patches.
    patch : int
        Edge of a patch in voxels; the decoder is built for 8.
    dim, depth, heads, mlp_ratio : int
        Width, number of blocks, attention heads and MLP factor of the encoder.
    stages : tuple of int
        Number of blocks before each stage at which the sparsifier decides.
    sparsifier : str
        Name of the registered sparsifier.
    options : dict
        Options of the sparsifier by name: departures from its paper.
    completion : CompletionConfig
        Size of the completion network.
    decoder : DecoderConfig
        Size of the decoder.
    air_level : float
        Normalised intensity below which a voxel counts as background.
    air_fraction : float
        A patch with at most this fraction of voxels above ``air_level`` is air: it never
        enters the encoder and its label is background. A negative value disables the rule.
    """

    classes: int = 14
    channels: int = 1
    window: tuple[int, int, int] = (96, 96, 96)
    patch: int = 8
    dim: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: int = 4
    stages: tuple[int, ...] = (3, 6, 9)
    sparsifier: str = "stp"
    options: dict[str, Any] = field(default_factory=dict)
    completion: CompletionConfig = field(default_factory=CompletionConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    air_level: float = 0.0
    air_fraction: float = -1.0

    def __post_init__(self) -> None:
        check_limits(self)
        check_window(self.window, self.patch)
        if self.patch != 8:
            raise ValueError(f"the decoder is built for patches of 8 voxels, not {self.patch}")
        if any(w % (2 * self.patch) or w < 4 * self.patch for w in self.window):
            raise ValueError(f"window {self.window} must be multiples of 16 voxels from 32 on")
        if self.dim % self.heads or self.completion.dim % self.completion.heads:
            raise ValueError("the width of a block must be a multiple of its attention heads")
        if self.completion.dim % 6 or self.dim % 2:
            raise ValueError("a completion width must be a multiple of 6")
        ordered = tuple(sorted(set(self.stages))) == self.stages
        if not ordered or not all(0 < s < self.depth for s in self.stages):
            raise ValueError(f"stages {self.stages} must rise and lie between blocks 1 and depth")
        if self.completion.kind == "preserve" and len(self.stages) != 3:
            raise ValueError("preserved tokens feed three skips, so there must be three stages")

    @property
    def grid(self) -> tuple[int, int, int]:
        """Token grid of one window."""
        a, b, c = (w // self.patch for w in self.window)
        return a, b, c

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready data that :meth:`from_dict` reads back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> NetworkConfig:
        """Build a configuration from :meth:`to_dict` data.

        Raises
        ------
        TypeError, ValueError
            If a key is unknown or a value is out of range.
        """
        values = dict(data)
        for key in ("window", "stages"):
            if key in values:
                values[key] = tuple(values[key])
        if "completion" in values:
            values["completion"] = CompletionConfig(**values["completion"])
        if "decoder" in values:
            values["decoder"] = DecoderConfig(**values["decoder"])
        return cls(**values)
