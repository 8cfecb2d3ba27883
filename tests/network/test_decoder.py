"""The decoder's pieces, decoding a box of tokens, and the configuration's checks."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from napari_sparseseg.network import DecoderConfig, NetworkConfig, SparseUNETR
from napari_sparseseg.network.decoder import HALO, Box, ChannelNorm, join_voxels, split_voxels
from tests.network.conftest import make_network, middle_setting, small_completion, small_config


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


def test_the_tokens_matter_to_the_decoder(any_network: SparseUNETR, windows: Tensor) -> None:
    """Another token map must give another answer: the image branch alone is not enough."""
    network = any_network
    with torch.inference_mode():
        output = network.finish(network.prepare(windows), 1.0)
        network.air_token.add_(1.0)
        other = network.finish(network.prepare(windows), 1.0)
    tissue = ~network.find_air(windows)
    inside = tissue.repeat_interleave(8, 1).repeat_interleave(8, 2).repeat_interleave(8, 3)
    moved = (output.logits - other.logits).abs().amax(dim=1)[inside]
    assert moved.max() > 1e-3


BOXES = {
    "corner": Box((0, 0, 0), (1, 1, 1)),
    "far corner": Box((3, 5, 3), (4, 6, 4)),
    "one token inside": Box((2, 3, 1), (3, 4, 2)),
    "at one border": Box((1, 4, 1), (3, 6, 3)),
    "through the window": Box((0, 2, 0), (4, 4, 4)),
    "whole window": Box((0, 0, 0), (4, 6, 4)),
}


@pytest.mark.parametrize("detail", ["all", "open"])
@pytest.mark.parametrize("finest", [1, 2])
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_decoding_a_box_is_decoding_the_window(
    box: Box, finest: Literal[1, 2], detail: str
) -> None:
    """Promise 7."""
    network = make_network(small_config(decoder=DecoderConfig(4, finest, "channel")))
    torch.manual_seed(0)
    windows = torch.rand(2, 1, 32, 48, 32)
    maps = tuple(torch.randn(2, 24, 4, 6, 4) for _ in range(4))
    shown = (torch.rand(2, 1, 4, 6, 4) > 0.5).float() if detail == "open" else None
    decoder = network.decoder
    with torch.inference_mode():
        image = decoder.image_features(windows)
        whole = decoder(windows, image, maps, shown)
        part = decoder(windows, image, maps, shown, box)
    assert part.shape == (2, 4, *(8 * n for n in box.shape))
    assert (part - box.cut(whole, 8)).abs().max() <= 1e-4


@pytest.mark.parametrize("finest", [1, 2])
def test_a_smaller_box_costs_less_as_torch_counts(finest: Literal[1, 2]) -> None:
    network = make_network(small_config(decoder=DecoderConfig(4, finest, "channel")))
    network.requires_grad_(False)
    windows, maps = torch.rand(1, 1, 32, 48, 32), (torch.randn(1, 24, 4, 6, 4),) * 4
    decoder, costs = network.decoder, []
    for box in (BOXES["corner"], BOXES["at one border"], BOXES["whole window"]):
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            decoder(windows, decoder.image_features(windows), maps, None, box)
        costs.append(counter.get_total_flops() // 2)
        assert decoder.macs(box) == costs[-1]
    assert costs == sorted(set(costs))
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        decoder.image_features(windows)
    assert decoder.macs(None) == counter.get_total_flops() // 2


def test_the_halo_is_no_wider_than_it_must_be() -> None:
    """With one token less the border of a box would be wrong."""
    network = make_network(small_config(window=(96, 32, 32)))
    windows, maps = torch.rand(1, 1, 96, 32, 32), (torch.randn(1, 24, 12, 4, 4),) * 4
    box = Box((6, 0, 0), (7, 4, 4))
    with torch.inference_mode():
        image = network.decoder.image_features(windows)
        before = network.decoder(windows, image, maps, None, box)
        for distance, felt in ((HALO, True), (HALO + 1, False)):
            other = maps[2].clone()
            # the bottleneck map reaches far, so the finer skips alone are changed
            other[:, :, 6 + distance] += 5.0
            changed = (other, other, maps[2], maps[3])
            after = network.decoder(windows, image, changed, None, box)
            assert ((before - after).abs().max() > 1e-4) == felt


def test_boxes_by_hand() -> None:
    marked = torch.zeros(2, 4, 6, 4, dtype=torch.bool)
    assert Box.around(marked) is None
    marked[0, 1, 2, 3] = marked[1, 2, 5, 3] = True
    box = Box.around(marked)
    assert box == Box((1, 2, 3), (3, 6, 4))
    assert box.shape == (2, 4, 1)
    assert box.grown(2, (4, 6, 4)) == Box((0, 0, 1), (4, 6, 4))
    assert box.within(Box((0, 1, 1), (4, 6, 4))) == Box((1, 1, 2), (3, 5, 3))


def test_the_network_decodes_tissue_only(windows: Tensor) -> None:
    """A tissue block in one corner: its box is decoded, and the answer is that of the window."""
    network = make_network(small_config())
    corner = torch.zeros_like(windows)
    corner[..., :16, :16, :16] = windows.amax() - windows[..., 8:24, 16:32, 8:24]
    with torch.inference_mode():
        prepared = network.prepare(corner)
        output = network.finish(prepared, 0.5)
        maps = (output.encoded.layout.to_map(output.completed, network.air_token),) * 4
        whole = network.decoder(prepared.windows, prepared.image, maps)
    assert output.decoded == Box((0, 0, 0), (2, 2, 2))
    inside = (..., slice(16), slice(16), slice(16))
    assert (output.logits[inside] - whole[inside]).abs().max() <= 1e-4
    assert network.macs(output).decoder < 2 * network.decoder.macs(Box((0, 0, 0), (4, 6, 4)))


def test_instance_norm_needs_the_whole_window(windows: Tensor) -> None:
    network = make_network(small_config(decoder=DecoderConfig(4, 2, "instance")))
    windows[..., 16:] = 0
    with torch.inference_mode():
        output = network.finish(network.prepare(windows), 0.5)
    assert output.decoded == Box((0, 0, 0), (4, 6, 4))


@pytest.mark.parametrize("method", ["stp", "dtop", "random"])
@pytest.mark.parametrize("finest", [1, 2])
def test_image_detail_reaches_only_the_tokens_that_went_on(
    windows: Tensor, finest: Literal[1, 2], method: str
) -> None:
    """With ``detail="open"`` the image features of a token that left at stage 1 are not used."""
    decoder = DecoderConfig(4, finest, "channel", "open")
    network = make_network(small_config(decoder=decoder, sparsifier=method))
    edge = 8 // finest
    with torch.inference_mode():
        prepared = network.prepare(windows)
        output = network.finish(prepared, middle_setting(network))
        record = network.trace(output.encoded)[0]
        for left in (True, False):
            cells = (~record.air & (record.left_stage == int(left))).nonzero()
            x, y, z = (int(i) * edge for i in cells[0])
            image = prepared.image.clone()
            image[0, :, x : x + edge, y : y + edge, z : z + edge] += 1.0
            other = network.finish(replace(prepared, image=image), middle_setting(network))
            assert torch.equal(other.logits, output.logits) == left


@pytest.mark.parametrize("method", ["svit", "apformer"])
def test_tokens_that_stay_in_place_keep_their_detail(windows: Tensor, method: str) -> None:
    decoder = DecoderConfig(4, 2, "channel", "open")
    network = make_network(small_config(decoder=decoder, sparsifier=method))
    with torch.inference_mode():
        output = network.finish(network.prepare(windows), middle_setting(network))
    assert (output.encoded.went_on == 1).all()


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


def test_configuration_survives_json() -> None:
    config = small_config(
        sparsifier="dtop",
        options={"width": 6},
        decoder=DecoderConfig(8, 1, "instance"),
        completion=small_completion("preserve"),
    )
    assert NetworkConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


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
