"""Small networks and windows with tissue and air."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from napari_sparseseg.network import (
    CompletionConfig,
    DecoderConfig,
    NetworkConfig,
    SparseUNETR,
)


def small_config(**changes: object) -> NetworkConfig:
    """A network of a few thousand weights with three stages."""
    values: dict[str, object] = {
        "classes": 4,
        "window": (32, 48, 32),
        "dim": 24,
        "depth": 5,
        "heads": 2,
        "stages": (1, 2, 4),
        "completion": CompletionConfig(dim=24, depth=1, heads=2),
        "decoder": DecoderConfig(feature_size=4, finest=2, norm="channel"),
        "air_level": 0.06,
        "air_fraction": 0.02,
    }
    return NetworkConfig(**(values | changes))  # type: ignore[arg-type]


def make_network(config: NetworkConfig, seed: int = 0) -> SparseUNETR:
    """A network with random weights large enough that every part changes the answer."""
    torch.manual_seed(seed)
    network = SparseUNETR(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return network.eval()


@pytest.fixture(params=["finest 1, instance", "finest 2, channel", "finest 2, open"])
def network(request: pytest.FixtureRequest) -> SparseUNETR:
    """The published decoder, the half-resolution one, and one with detail for open tokens."""
    kinds = {
        "finest 1, instance": DecoderConfig(4, 1, "instance"),
        "finest 2, channel": DecoderConfig(4, 2, "channel"),
        "finest 2, open": DecoderConfig(4, 2, "channel", "open"),
    }
    return make_network(small_config(decoder=kinds[request.param]))


@pytest.fixture
def windows() -> Tensor:
    """Two windows: an ellipsoid of tissue in air, and one with less tissue."""
    generator = torch.Generator().manual_seed(1)
    axes = [torch.linspace(-1, 1, n) for n in (32, 48, 32)]
    radius = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0).sqrt()
    noise = 0.2 + torch.rand(2, 1, 32, 48, 32, generator=generator)
    return noise * torch.stack([radius < 0.9, radius < 0.6])[:, None]
