"""The completions: assembly (MTA), mask tokens, preservation; and starting from a twin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from napari_sparseseg.network import DecoderConfig, SparseUNETR
from napari_sparseseg.network.blocks import sincos_positions
from napari_sparseseg.network.completion import (
    MaskCompletion,
    Preservation,
    TokenAssembly,
)
from napari_sparseseg.network.layout import TokenLayout
from tests.network.conftest import (
    Kind,
    make_encoded,
    make_network,
    middle_setting,
    small_completion,
    small_config,
)


def completion_network(kind: Kind, method: str = "stp", seed: int = 0) -> SparseUNETR:
    config = small_config(sparsifier=method, completion=small_completion(kind))
    return make_network(config, seed)


def two_tokens() -> TokenLayout:
    """Tokens at raster positions 1 and 2 * 24 + 3 * 4 of one window."""
    open_tokens = torch.zeros(1, 4, 6, 4, dtype=torch.bool)
    open_tokens[0, 0, 0, 1] = open_tokens[0, 2, 3, 0] = True
    return TokenLayout.of(open_tokens)


def test_assembly_by_hand() -> None:
    """MTA without its transformer block: every token keeps its place and its own group's maps."""
    config = small_config(stages=(1,), depth=2)
    assembly = TokenAssembly(config)
    assembly.blocks = nn.ModuleList()
    x = torch.randn(3, 24)
    left = torch.tensor([0, 0, 1], dtype=torch.uint8)
    with torch.no_grad():
        assembly.layer_tokens.copy_(torch.randn(2, 24))
        completed = assembly(make_encoded(two_tokens(), x, left=left))
        codes = sincos_positions(config.grid, 24)
        for row, group, position in ((0, 1, None), (1, 1, 1), (2, 0, 2 * 24 + 3 * 4)):
            y = assembly.linears[group](assembly.norms[group](x[row]))
            y = y + assembly.layer_tokens[group]
            if position is not None:  # the class token gets no position
                y = y + codes[position]
            expected = assembly.out(assembly.norm(y))
            assert torch.allclose(completed.last[row], expected, atol=1e-5)
    assert all(skip is completed.last for skip in completed.skips)


def test_assembly_has_a_group_for_each_stage_and_one_for_the_kept(windows: Tensor) -> None:
    """Changing the layer token of a group moves only the tokens that left with it."""
    network = completion_network("assembly")
    assert isinstance(network.completion, TokenAssembly)
    network.completion.blocks = nn.ModuleList()
    with torch.inference_mode():
        encoded = network.finish(network.prepare(windows), 0.3).encoded
        before = network.completion(encoded).last
        for group, left in enumerate((1, 2, 3, 0)):
            network.completion.layer_tokens[group] += torch.randn(24)
            after = network.completion(encoded).last
            moved = (before != after).any(dim=1)
            assert torch.equal(moved, encoded.left == left)
            assert moved.any()
            before = after
    assert len(network.completion.layer_tokens) == 4


@pytest.mark.parametrize("method", ["stp", "dtop", "random"])
def test_mask_completion_uses_no_feature_of_a_token_that_left(windows: Tensor, method: str) -> None:
    network = completion_network("mask", method)
    with torch.inference_mode():
        encoded = network.finish(network.prepare(windows), middle_setting(network)).encoded
        before = network.completion(encoded).last
        for gone in (True, False):
            rows = (encoded.left > 0) == gone
            other = replace(encoded, x=torch.where(rows[:, None], encoded.x + 7.0, encoded.x))
            assert torch.equal(network.completion(other).last, before) == gone


def test_mask_completion_by_hand() -> None:
    completion = MaskCompletion(small_config())
    completion.blocks = nn.ModuleList()
    x = torch.randn(3, 24)
    left = torch.tensor([0, 0, 2], dtype=torch.uint8)
    with torch.no_grad():
        completion.mask_token.normal_()
        completion.layer_tokens.normal_()
        completed = completion(make_encoded(two_tokens(), x, left=left)).last
        codes = sincos_positions((4, 6, 4), 24)
        kept = completion.linears[0](completion.norms[0](x)) + completion.layer_tokens[0]
        masked = completion.mask_token[0] + codes[60]
        for row, y in ((0, kept[0]), (1, kept[1] + codes[1]), (2, masked)):
            assert torch.allclose(completed[row], completion.out(completion.norm(y)), atol=1e-5)


def test_preserved_skips_are_the_stages_by_hand() -> None:
    """Each skip is the completed map plus its own projection of z3, z6 or z9."""
    completion = Preservation(small_config())
    completion.blocks = nn.ModuleList()
    x, *z = torch.randn(4, 3, 24)
    with torch.no_grad():
        completed = completion(make_encoded(two_tokens(), x, hidden=tuple(z)))
        for number, skip in enumerate(completed.skips):
            own = completion.skip_linears[number](completion.skip_norms[number](z[number]))
            assert torch.allclose(skip, completed.last + own, atol=1e-5)


def test_preserved_skips_start_at_zero() -> None:
    completion = SparseUNETR(small_config(completion=small_completion("preserve"))).completion
    x, *z = torch.randn(4, 3, 24)
    with torch.no_grad():
        completed = completion(make_encoded(two_tokens(), x, hidden=tuple(z)))
    assert all(torch.equal(skip, completed.last) for skip in completed.skips)


def test_hidden_features_are_those_behind_the_stages(windows: Tensor) -> None:
    """z3, z6, z9 of a dense run: what blocks 1, 2 and 4 of this network put out."""
    network = completion_network("preserve", "dense")
    out: list[Tensor] = []
    for block in network.encoder.blocks:
        block.register_forward_hook(lambda *call: out.append(call[2]))
    with torch.inference_mode():
        encoded = network.finish(network.prepare(windows), 1.0).encoded
    assert len(encoded.hidden) == 3
    for hidden, number in zip(encoded.hidden, (1, 2, 4), strict=True):
        assert torch.equal(hidden, out[number - 1])
    assert torch.equal(encoded.x, out[-1])


def test_each_skip_feeds_its_own_level(windows: Tensor) -> None:
    """z3 goes to 1/2, z6 to 1/4, z9 to 1/8; the bottleneck gets the completed map."""
    network = completion_network("preserve")
    seen: dict[str, Tensor] = {}
    decoder: Any = network.decoder
    parts = (decoder.skip2[0], decoder.skip4, decoder.skip8, decoder.bottleneck)
    names = ("skip2", "skip4", "skip8", "bottleneck")
    for name, module in zip(names, parts, strict=True):
        module.register_forward_pre_hook(
            lambda module, args, name=name: seen.__setitem__(name, args[0])
        )
    with torch.inference_mode():
        encoded = network.finish(network.prepare(windows), 0.3).encoded
        completed = network.completion(encoded)
        seen["bottleneck"] = seen["bottleneck"].permute(0, 2, 3, 4, 1)
        for name, values in zip(names, (*completed.skips, completed.last), strict=True):
            expected = encoded.layout.to_map(values, network.air_token)
            assert torch.allclose(seen[name], expected, atol=1e-5)


def logits(network: SparseUNETR, windows: Tensor, setting: float) -> Tensor:
    with torch.inference_mode():
        return network(windows, setting)


def started(config_of: SparseUNETR, source: SparseUNETR) -> SparseUNETR:
    network = SparseUNETR(config_of.config).eval()
    network.start_from(source.state_dict())
    return network


@pytest.mark.parametrize("method", ["dense", "stp", "edge", "dtop", "svit", "random"])
@pytest.mark.parametrize("kind", ["assembly", "mask", "preserve"])
@pytest.mark.parametrize("given", ["assembly", "mask"])
def test_a_twin_starts_where_its_source_is(
    windows: Tensor, given: Kind, kind: Kind, method: str
) -> None:
    """Whatever the sparsifier and the completion, the function at setting 1 is unchanged."""
    source = completion_network(given, "dense")
    twin = started(completion_network(kind, method), source)
    assert (logits(twin, windows, 1.0) - logits(source, windows, 1.0)).abs().max() <= 1e-4


def test_a_preserving_twin_keeps_its_skips(windows: Tensor) -> None:
    source = completion_network("preserve", "dense")
    same = started(completion_network("preserve", "svit", seed=5), source)
    other = started(completion_network("assembly", "stp", seed=5), source)
    expected = logits(source, windows, 1.0)
    assert (logits(same, windows, 1.0) - expected).abs().max() <= 1e-4
    assert (logits(other, windows, 1.0) - expected).abs().max() > 1e-2  # assembly has none
    source.completion.start_skips_at_zero()  # type: ignore[operator]
    plain = logits(source, windows, 1.0)
    assert (logits(other, windows, 1.0) - plain).abs().max() <= 1e-4


def test_every_group_of_an_assembly_starts_as_the_single_one(windows: Tensor) -> None:
    source = completion_network("mask")
    twin = started(completion_network("assembly", seed=5), source)
    completion = twin.completion
    for group in range(4):
        for part in ("norms", "linears"):
            mine, single = getattr(completion, part)[group], getattr(source.completion, part)[0]
            assert torch.equal(mine.weight, single.weight)
            assert torch.equal(mine.bias, single.bias)
        assert torch.equal(completion.layer_tokens[group], source.completion.layer_tokens[0])


def test_a_relative_position_starts_as_the_prior_alone(windows: Tensor) -> None:
    """APFormer differs from its dense twin by the Gaussian prior, at most 0.01 a product."""
    source = completion_network("assembly", "dense")
    twin = started(completion_network("assembly", "apformer"), source)
    difference = (logits(twin, windows, 1.0) - logits(source, windows, 1.0)).abs().max()
    assert 0 < difference < 0.1


def test_the_sparsifier_of_a_twin_keeps_its_initial_weights() -> None:
    torch.manual_seed(3)
    network = SparseUNETR(small_config(sparsifier="dtop"))
    before = {k: v.clone() for k, v in network.sparsifier.state_dict().items()}
    network.start_from(completion_network("assembly", "stp").state_dict())
    assert all(torch.equal(before[k], v) for k, v in network.sparsifier.state_dict().items())


def test_the_same_architecture_loads_whole(windows: Tensor) -> None:
    """Its sparsifier too: a user's own checkpoint."""
    source = completion_network("assembly")
    twin = started(completion_network("assembly", seed=5), source)
    for key, value in source.state_dict().items():
        assert torch.equal(twin.state_dict()[key], value)


def test_the_window_of_a_twin_is_laid_on_the_middle_of_another() -> None:
    """From a grid of 4 x 6 x 4 to one of 8 x 4 x 4: repeat two at either end, and cut one."""
    source = completion_network("preserve", "dense")
    twin = SparseUNETR(replace(source.config, window=(64, 32, 32)))
    twin.start_from(source.state_dict(), window=(32, 48, 32))
    old = source.encoder.positions.view(4, 6, 4, 24)
    new = twin.encoder.positions.view(8, 4, 4, 24)
    for x, from_x in enumerate((0, 0, 0, 1, 2, 3, 3, 3)):
        assert torch.equal(new[x], old[from_x, 1:5])
    for key, value in source.state_dict().items():
        if key != "encoder.positions":
            assert torch.equal(twin.state_dict()[key], value), key


def test_the_same_window_is_taken_as_it_is() -> None:
    source = completion_network("assembly")
    twin = SparseUNETR(source.config)
    twin.start_from(source.state_dict(), window=(32, 48, 32))
    assert torch.equal(twin.encoder.positions, source.encoder.positions)


def test_a_patch_head_that_a_twin_lacks_keeps_its_initial_weights() -> None:
    """A decoder of two levels starts from one that had a single one."""
    source = completion_network("assembly")
    torch.manual_seed(7)
    two_levels = DecoderConfig(4, 2, "channel", "open", "open")
    network = SparseUNETR(replace(source.config, decoder=two_levels))
    own = network.state_dict()
    before = {k: v.clone() for k, v in own.items() if k.startswith("decoder.patch_head.")}
    network.start_from(source.state_dict())
    assert before
    for key, value in network.state_dict().items():
        expected = before[key] if key in before else source.state_dict()[key]
        assert torch.equal(value, expected), key


FOREIGN = {
    "wider": {"dim": 48},
    "deeper": {"depth": 6},
    "shallower": {"depth": 4, "stages": (1, 2, 3)},
    "more classes": {"classes": 5},
    "another window": {"window": (32, 32, 32)},
    "full-resolution decoder": {"decoder": DecoderConfig(4, 1, "channel")},
    "wider completion": {"completion": replace(small_completion("assembly"), dim=48)},
    "deeper completion": {"completion": replace(small_completion("assembly"), depth=2)},
    "instance norm": {"decoder": DecoderConfig(4, 2, "instance")},
}


@pytest.mark.parametrize("changes", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_architecture_is_refused_with_the_reason(changes: dict[str, object]) -> None:
    network = completion_network("preserve", "svit")
    with pytest.raises(ValueError, match=r"another architecture: \w+"):
        network.start_from(SparseUNETR(small_config(**changes)).state_dict())


@pytest.mark.parametrize("weights", [{}, {"layer1.weight": torch.zeros(3)}])
def test_other_weights_are_refused(weights: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="another architecture"):
        completion_network("assembly").start_from(weights)


def test_refused_weights_leave_the_network_as_it_was() -> None:
    network = completion_network("preserve")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(ValueError, match="another architecture"):
        network.start_from(SparseUNETR(small_config(classes=5)).state_dict())
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


def test_a_shared_start_for_all_groups() -> None:
    completion: Any = completion_network("assembly").completion
    completion.start_from_last_group()
    for group in range(3):
        assert torch.equal(completion.linears[group].weight, completion.linears[3].weight)
        assert torch.equal(completion.norms[group].weight, completion.norms[3].weight)
        assert torch.equal(completion.layer_tokens[group], completion.layer_tokens[3])
