"""The decoder's pieces by hand, and the configuration's checks."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sparseseg.network import DecoderConfig, NetworkConfig, SparseUNETR
from napari_sparseseg.network.decoder import (
    Double,
    PatchHead,
    ResidualBlock,
    SubvoxelHead,
    split_voxels,
)
from napari_sparseseg.network.fields import WholeField
from tests.network.conftest import make_network, middle_setting, small_completion, small_config


def last(x: Tensor) -> Tensor:
    """Put the channels last."""
    return x.permute(0, 2, 3, 4, 1)


def whole() -> WholeField:
    """One window of 2 x 3 x 2 tokens, all of them served."""
    return WholeField(torch.ones(1, 2, 3, 2, dtype=torch.bool), alone=False)


def test_split_voxels_by_hand() -> None:
    image = torch.arange(128.0).view(1, 4, 4, 4, 2)
    parts = split_voxels(image)
    assert parts.shape == (1, 2, 2, 2, 16)
    # cell (1, 0, 1) covers voxels x 2-3, y 0-1, z 2-3; channel after channel
    expected = [
        image[0, x, y, z, c].item() for c in (0, 1) for x in (2, 3) for y in (0, 1) for z in (2, 3)
    ]
    assert parts[0, 1, 0, 1].tolist() == expected


def test_doubling_is_a_transposed_convolution() -> None:
    torch.manual_seed(0)
    double, x = Double(5, 3), torch.randn(2, 5, 2, 3, 4)
    with torch.no_grad():
        expected = F.conv_transpose3d(x, double.weight, stride=2)
        assert torch.allclose(double(last(x)), last(expected), atol=1e-5)


@pytest.mark.parametrize("outside", [4, 6])
@pytest.mark.parametrize("norm", ["channel", "instance"])
def test_a_residual_block_is_made_of_torchs_own_parts(norm: str, outside: int) -> None:
    """With a shortcut where channels differ, and none where they do not."""
    torch.manual_seed(0)
    block, x = ResidualBlock(4, outside, norm), torch.randn(1, 4, 4, 6, 4)

    def normalise(y: Tensor) -> Tensor:
        if norm == "instance":
            return F.instance_norm(y)
        return F.layer_norm(last(y), y.shape[1:2]).permute(0, 4, 1, 2, 3)

    with torch.no_grad():
        y = F.leaky_relu(normalise(F.conv3d(x, block.conv1.weight, padding=1)), 0.01)
        y = normalise(F.conv3d(y, block.conv2.weight, padding=1))
        shortcut: Any = block.shortcut
        around = normalise(F.conv3d(x, shortcut[0].weight)) if outside != 4 else x
        expected = F.leaky_relu(y + around, 0.01)
        assert torch.allclose(block(last(x), whole()), last(expected), atol=1e-5)


@pytest.mark.parametrize("norm", ["channel", "instance"])
def test_only_an_instance_norm_feels_a_voxel_far_away(norm: str) -> None:
    torch.manual_seed(0)
    block = ResidualBlock(2, 3, norm)
    x = torch.randn(1, 8, 12, 8, 2)
    changed = x.clone()
    changed[0, 0, 0, 0] += 3.0
    with torch.no_grad():
        moved = (block(x, whole()) - block(changed, whole())).abs().amax(dim=-1)[0]
    assert moved[:3, :3, :3].max() > 1e-2  # two convolutions reach two voxels
    moved[:3, :3, :3] = 0
    assert bool(moved.any()) == (norm == "instance")


def test_the_order_of_a_subvoxel_heads_channels() -> None:
    """Class by class, and in a class the sub-voxels in raster order."""
    torch.manual_seed(0)
    head = SubvoxelHead(3, 2, 4)
    x, image = torch.randn(1, 3, 2, 3, 2), torch.randn(1, 2, 2, 3, 2)
    with torch.no_grad():
        scores = head(last(x), last(image))
        raw = head.scores(F.leaky_relu(head.hidden(torch.cat([x, image], dim=1)), 0.01))
    assert scores.shape == (1, 4, 6, 4, 4)
    for number, (i, j, k) in enumerate((i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)):
        for name in range(4):
            part = scores[0, i::2, j::2, k::2, name]
            assert torch.allclose(part, raw[0, 8 * name + number], atol=1e-5)


def test_the_order_of_a_patch_heads_channels() -> None:
    """Voxel by voxel in raster order, and at a voxel class by class."""
    torch.manual_seed(0)
    head, x = PatchHead(3, 2), torch.randn(1, 2, 3, 2, 3)
    with torch.no_grad():
        scores, raw = head(x), nn.Sequential.forward(head, x)
    assert scores.shape == (1, 8, 12, 8, 2)
    for number in range(64):
        i, j, k = number // 16, number // 4 % 4, number % 4
        assert torch.equal(scores[:, i::4, j::4, k::4], raw[..., 2 * number : 2 * number + 2])


def test_the_tokens_matter_to_the_decoder(any_network: SparseUNETR, windows: Tensor) -> None:
    """Other tokens must give another answer: the image branch alone is not enough."""
    network = any_network
    with torch.inference_mode():
        output = network.finish(network.prepare(windows), 1.0)
        network.encoder.positions.neg_()
        other = network.finish(network.prepare(windows), 1.0)
    assert (output.scores - other.scores).abs().max() > 1e-3


def test_a_window_as_context_is_decoded_as_a_whole(windows: Tensor) -> None:
    """The air beside a patch is part of what the published decoder sees."""
    network = make_network(small_config())
    with torch.inference_mode():
        prepared = network.prepare(windows)
        output = network.finish(prepared, 0.5)
        network.air_token.add_(1.0)
        other = network.finish(prepared, 0.5)
    assert (output.decoded.coarse, output.decoded.fine, output.decoded.drawn) == (192, 192, 0)
    assert len(output.scores) < 192
    assert (output.scores - other.scores).abs().max() > 1e-3


@pytest.mark.parametrize("method", ["stp", "dtop", "random"])
@pytest.mark.parametrize("finest", [1, 2])
def test_image_detail_reaches_only_the_tokens_that_went_on(
    windows: Tensor, finest: Literal[1, 2], method: str
) -> None:
    """With ``detail="open"`` the image features of a token that left at stage 1 are not used."""
    decoder = DecoderConfig(4, finest, "channel", "open")
    network = make_network(small_config(decoder=decoder, sparsifier=method))
    edge = 8 // finest
    place: list[slice] = []

    def brighten(module: nn.Module, args: tuple[Tensor, Any], features: Tensor) -> Tensor:
        """Change what the image shows of one patch, and of no other."""
        if place and finest == 2:
            args[0][(0, *place)] += 1.0  # the head sees these sub-voxels again
        features = features.clone()
        if place:
            features[(0, *place)] += 1.0
        return features

    network.decoder.image.register_forward_hook(brighten)
    with torch.inference_mode():
        prepared = network.prepare(windows)
        output = network.finish(prepared, middle_setting(network))
        record = network.trace(output.encoded)[0]
        for left in (True, False):
            cell = (~record.air & (record.left_stage == int(left))).nonzero()[0]
            place[:] = [slice(int(i) * edge, (int(i) + 1) * edge) for i in cell]
            other = network.finish(prepared, middle_setting(network))
            assert torch.equal(other.scores, output.scores) == left


@pytest.mark.parametrize("context", ["window", "open"])
@pytest.mark.parametrize("method", ["svit", "apformer"])
def test_tokens_that_stay_in_place_keep_their_detail(
    windows: Tensor, method: str, context: Literal["window", "open"]
) -> None:
    decoder = DecoderConfig(4, 2, "channel", "open", context)
    network = make_network(small_config(decoder=decoder, sparsifier=method))
    with torch.inference_mode():
        output = network.finish(network.prepare(windows), middle_setting(network))
    assert (output.encoded.went_on == 1).all()
    assert output.decoded.drawn == 0


def test_detail_for_open_tokens_carries_gradient_to_the_first_scores(windows: Tensor) -> None:
    """The choice of the first stage must feel what detail is worth, also for pruned tokens."""
    decoder = DecoderConfig(4, 2, "channel", "open")
    network = make_network(small_config(decoder=decoder)).train()
    output = network.finish(network.prepare(windows), 0.3)
    output.encoded.went_on.retain_grad()
    output.scores.square().mean().backward()
    gradient = output.encoded.went_on.grad
    assert gradient is not None
    closed = output.encoded.went_on.detach() == 0
    assert closed.any()
    assert (gradient[closed] != 0).any()


def test_reduced_precision_stays_close(windows: Tensor) -> None:
    network = make_network(small_config())
    with torch.inference_mode():
        exact = network(windows, 1.0)
        rounded = network.to_precision(torch.bfloat16).prepare(windows)
        logits = network.finish(rounded, 1.0).logits
    assert rounded.first.scores[0].importance.dtype == torch.float32
    assert logits.dtype == torch.bfloat16
    agree = (exact.argmax(dim=1) == logits.argmax(dim=1)).float().mean()
    assert agree > 0.97


def test_logits_lay_the_scores_of_the_tokens_where_they_are(windows: Tensor) -> None:
    """Air is background by 30 scores; every other patch holds its own voxels in raster order."""
    network = make_network(small_config())
    with torch.inference_mode():
        output = network.finish(network.prepare(windows), 0.5)
    expected = torch.full((2, 4, 32, 48, 32), -30.0)
    expected[:, 0] = 0
    air = network.find_air(windows)
    assert air.any()
    for (n, *cell), scores in zip((~air).nonzero().tolist(), output.scores, strict=True):
        x, y, z = (slice(8 * c, 8 * c + 8) for c in cell)
        expected[n, :, x, y, z] = scores.T.reshape(4, 8, 8, 8)
    assert torch.equal(output.logits, expected)


def test_configuration_survives_json() -> None:
    config = small_config(
        sparsifier="dtop",
        options={"width": 6},
        decoder=DecoderConfig(8, 1, "channel", "open", "open"),
        completion=small_completion("preserve"),
    )
    assert NetworkConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_configuration_from_before_there_was_a_context_sees_the_window() -> None:
    data = small_config(decoder=DecoderConfig(8, 1, "instance")).to_dict()
    del data["decoder"]["context"]
    assert NetworkConfig.from_dict(data).decoder.context == "window"


@pytest.mark.parametrize(
    "changes",
    [
        {"patch": 16},
        {"window": (40, 48, 32)},
        {"window": (16, 48, 32)},
        {"heads": 5},
        {"stages": (2, 2, 4)},
        {"stages": (1, 2, 5)},
        {"stages": (1, 3), "completion": small_completion("preserve")},
    ],
)
def test_impossible_configurations_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        small_config(**changes)


def test_open_context_is_refused_with_an_instance_norm() -> None:
    """Its mean would be that of the tokens that happen to be open."""
    with pytest.raises(ValueError, match="instance norm needs the whole window"):
        replace(DecoderConfig(4, 2, "instance"), context="open")
