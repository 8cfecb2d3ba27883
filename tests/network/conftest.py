"""Small networks of every method, and windows with tissue and air."""

from __future__ import annotations

from typing import Any, Literal, cast

import pytest
import torch
from torch import Tensor

from napari_sparseseg.network import (
    CompletionConfig,
    DecoderConfig,
    NetworkConfig,
    SparseUNETR,
)
from napari_sparseseg.network.encoded import BlockLog, Encoded, Scored
from napari_sparseseg.network.layout import TokenLayout
from napari_sparseseg.network.sparsifiers import Decision, Scores

DECODERS = {
    "published": DecoderConfig(4, 1, "instance"),
    "half": DecoderConfig(4, 2, "channel"),
    "half, open": DecoderConfig(4, 2, "channel", "open"),
    "open blocks": DecoderConfig(4, 2, "channel", "all", "open"),
    "two levels": DecoderConfig(4, 2, "channel", "open", "open"),
    "two levels, full": DecoderConfig(4, 1, "channel", "open", "open"),
}
"""The published decoder, the half-resolution one, one with detail for open tokens, and those in
which a token that is not decoded is zero to its neighbours."""

CASES = [
    ("stp", "assembly", "published"),
    ("stp", "assembly", "half, open"),
    ("stp", "assembly", "two levels"),
    ("stp", "assembly", "two levels, full"),
    ("stp", "mask", "half"),
    ("stp", "preserve", "open blocks"),
    ("edge", "assembly", "half, open"),
    ("dtop", "preserve", "published"),
    ("dtop", "preserve", "open blocks"),
    ("dtop", "assembly", "half, open"),
    ("dtop", "assembly", "two levels"),
    ("svit", "preserve", "half"),
    ("svit", "assembly", "two levels"),
    ("apformer", "preserve", "open blocks"),
    ("apformer", "assembly", "published"),
    ("apformer, rest", "preserve", "open blocks"),
    ("random", "assembly", "half"),
    ("random", "assembly", "two levels"),
]
"""Method, completion and decoder, in the combinations that make sense; a method with an option
that is on is followed by the option's name."""

DENSE_CASES = [("dense", "assembly", "published"), ("dense", "preserve", "half")]

SETTINGS = {
    "stp": (0.05, 0.3, 0.5, 0.9),
    "edge": (0.05, 0.3, 0.5, 0.9),
    "random": (0.05, 0.3, 0.5, 0.9),
    "dtop": (0.1, 0.3, 0.4, 0.6),
    "svit": (0.0001, 0.002, 0.02, 0.2),
    "apformer": (0.05, 0.4, 0.6, 0.8),
}
"""Rising settings at which the small networks below prune less and less."""


Kind = Literal["assembly", "mask", "preserve"]


def small_config(**changes: object) -> NetworkConfig:
    """A network of a few thousand weights with three stages."""
    values: dict[str, object] = {
        "classes": 4,
        "window": (32, 48, 32),
        "dim": 24,
        "depth": 5,
        "heads": 2,
        "stages": (1, 2, 4),
        "completion": small_completion("assembly"),
        "decoder": DecoderConfig(feature_size=4, finest=2, norm="channel"),
        "air_level": 0.06,
        "air_fraction": 0.02,
    }
    return NetworkConfig(**(values | changes))  # type: ignore[arg-type]


def small_completion(kind: Kind) -> CompletionConfig:
    """A completion as wide as :func:`small_config`'s encoder."""
    return CompletionConfig(kind=kind, dim=24, depth=1, heads=2)


def make_network(config: NetworkConfig, seed: int = 0) -> SparseUNETR:
    """A network with random weights large enough that every part changes the answer."""
    torch.manual_seed(seed)
    network = SparseUNETR(config)
    torch.manual_seed(seed)  # the same encoder whatever the decoder
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            size = 0.5 if name.startswith("sparsifier.") else 0.15
            parameter.add_(size * torch.randn_like(parameter))
    return network.eval()


def make_case(case: tuple[str, str, str]) -> SparseUNETR:
    """The network of one of the :data:`CASES`."""
    method, completion, decoder = case
    name, _, option = method.partition(", ")
    return make_network(
        small_config(
            sparsifier=name,
            options={option: True} if option else {},
            completion=small_completion(cast(Kind, completion)),
            decoder=DECODERS[decoder],
        )
    )


def settings_of(network: SparseUNETR) -> tuple[float, ...]:
    """Settings at which a small network prunes, rising."""
    return SETTINGS[network.config.sparsifier]


def middle_setting(network: SparseUNETR) -> float:
    """A setting at which a small network prunes some tokens at every stage, but not all."""
    return SETTINGS.get(network.config.sparsifier, (0.3, 0.3))[1]


@pytest.fixture(params=CASES, ids="-".join)
def network(request: pytest.FixtureRequest) -> SparseUNETR:
    """A network of each method that prunes."""
    return make_case(request.param)


@pytest.fixture(params=CASES + DENSE_CASES, ids="-".join)
def any_network(request: pytest.FixtureRequest) -> SparseUNETR:
    """A network of each method, the dense one too."""
    return make_case(request.param)


@pytest.fixture
def windows() -> Tensor:
    """Two windows: an ellipsoid of tissue in air, and one with less tissue."""
    generator = torch.Generator().manual_seed(1)
    axes = [torch.linspace(-1, 1, n) for n in (32, 48, 32)]
    radius = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0).sqrt()
    noise = 0.2 + torch.rand(2, 1, 32, 48, 32, generator=generator)
    return noise * torch.stack([radius < 0.9, radius < 0.6])[:, None]


@pytest.fixture
def air_and_tissue(windows: Tensor) -> Tensor:
    """A window of air, then one with tissue."""
    return torch.stack([torch.zeros_like(windows[0]), windows[1]])


def layout_of(*counts: int, grid: tuple[int, int, int] = (4, 6, 4)) -> TokenLayout:
    """Windows in which the first so many cells of the grid hold a token."""
    cells = grid[0] * grid[1] * grid[2]
    tokens = torch.arange(cells)[None] < torch.tensor(counts)[:, None]
    return TokenLayout.of(tokens.view(len(counts), *grid))


def scored(
    layout: TokenLayout, scores: list[Scores], decisions: list[Decision] | None = None
) -> tuple[Scored, ...]:
    """A stage at which all tokens of all windows were judged."""
    decisions = decisions or [Decision(torch.ones_like(s.importance) > 0) for s in scores]
    parts = layout.rows.split(layout.counts)
    return tuple(Scored(r, s, d) for r, s, d in zip(parts, scores, decisions, strict=True))


def make_encoded(layout: TokenLayout, x: Tensor | None = None, **changes: Any) -> Encoded:
    """What an encoder hands on that pruned nothing; change what a test is about."""
    size = layout.size
    values: dict[str, Any] = {
        "setting": 0.5,
        "fate": "pruned",
        "x": torch.zeros(size, 24) if x is None else x,
        "hidden": (),
        "left": torch.zeros(size, dtype=torch.uint8),
        "label": torch.full((size,), -1),
        "went_on": torch.ones(size),
        "scored": (),
        "log": BlockLog(),
        "notes": (),
    }
    return Encoded(layout, **(values | changes))
