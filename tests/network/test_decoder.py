"""The decoder's pieces, and the configuration's checks."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from napari_sparseseg.network import DecoderConfig, NetworkConfig, SparseUNETR
from napari_sparseseg.network.decoder import ChannelNorm, join_voxels, split_voxels
from tests.network.conftest import make_network, small_config


def test_split_voxels_by_hand() -> None:
    image = torch.arange(64.0).view(1, 1, 4, 4, 4)
    parts = split_voxels(image)
    assert parts.shape == (1, 8, 2, 2, 2)
    # cell (1, 0, 1) covers voxels x 2-3, y 0-1, z 2-3
    expected = [image[0, 0, x, y, z].item() for x in (2, 3) for y in (0, 1) for z in (2, 3)]
    assert parts[0, :, 1, 0, 1].tolist() == expected


def test_joining_undoes_splitting() -> None:
    image = torch.randn(2, 3, 4, 6, 8)
    assert torch.equal(join_voxels(split_voxels(image)), image)


def test_channel_norm_looks_at_one_voxel() -> None:
    norm = ChannelNorm(5)
    x = torch.randn(1, 5, 3, 3, 3)
    changed = x.clone()
    changed[..., 0, 0, 0] += torch.randn(5)
    with torch.no_grad():
        before, after = norm(x), norm(changed)
    assert not torch.allclose(before[..., 0, 0, 0], after[..., 0, 0, 0])
    before[..., 0, 0, 0] = after[..., 0, 0, 0] = 0
    assert torch.equal(before, after)
    assert before[0, :, 1, 1, 1].mean().abs() < 1e-5


def test_the_tokens_matter_to_the_decoder(network: SparseUNETR, windows: Tensor) -> None:
    """Shuffled token maps must give another answer: the image branch alone is not enough."""
    with torch.inference_mode():
        output = network.finish(network.prepare(windows), 1.0)
        network.air_token.add_(1.0)
        other = network.finish(network.prepare(windows), 1.0)
    tissue = ~network.find_air(windows)
    inside = tissue.repeat_interleave(8, 1).repeat_interleave(8, 2).repeat_interleave(8, 3)
    moved = (output.logits - other.logits).abs().amax(dim=1)[inside]
    assert moved.max() > 1e-3


@pytest.mark.parametrize("finest", [1, 2])
def test_image_detail_reaches_only_the_tokens_that_went_on(windows: Tensor, finest: int) -> None:
    """With ``detail="open"`` the image features of a token pruned at stage 1 are not used."""
    decoder = DecoderConfig(4, finest, "channel", "open")
    network = make_network(small_config(decoder=decoder))
    edge = 8 // finest
    with torch.inference_mode():
        prepared = network.prepare(windows)
        output = network.finish(prepared, 0.3)
        record = network.trace(output.encoded)[0]
        for pruned in (True, False):
            cells = (~record.air & ((record.pruned_stage == 1) == pruned)).nonzero()
            x, y, z = (int(i) * edge for i in cells[0])
            image = prepared.image.clone()
            image[0, :, x : x + edge, y : y + edge, z : z + edge] += 1.0
            other = network.finish(replace(prepared, image=image), 0.3)
            assert torch.equal(other.logits, output.logits) == pruned


def test_detail_for_open_tokens_carries_gradient_to_the_first_scores(windows: Tensor) -> None:
    """The choice of the first stage must feel what detail is worth, also for pruned tokens."""
    decoder = DecoderConfig(4, 2, "channel", "open")
    network = make_network(small_config(decoder=decoder)).train()
    output = network.finish(network.prepare(windows), 0.3)
    output.encoded.went_on.retain_grad()
    output.logits.square().mean().backward()
    gradient = output.encoded.went_on.grad
    assert gradient is not None
    closed = output.encoded.went_on.detach() == 0
    assert closed.any()
    assert (gradient[closed] != 0).any()


def test_reduced_precision_keeps_the_scores_in_float32(windows: Tensor) -> None:
    network = make_network(small_config())
    with torch.inference_mode():
        exact = network(windows, 1.0)
        rounded = network.to_precision(torch.bfloat16).prepare(windows)
        logits = network.finish(rounded, 1.0).logits
    assert rounded.first.importance[0].dtype == torch.float32
    assert logits.dtype == torch.bfloat16
    agree = (exact.argmax(dim=1) == logits.argmax(dim=1)).float().mean()
    assert agree > 0.97


def test_configuration_survives_json() -> None:
    config = small_config(decoder=DecoderConfig(8, 1, "instance"))
    assert NetworkConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    "changes",
    [
        {"patch": 16},
        {"window": (40, 48, 32)},
        {"heads": 5},
        {"stages": (2, 2, 4)},
        {"stages": (1, 2, 5)},
    ],
)
def test_impossible_configurations_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        small_config(**changes)
