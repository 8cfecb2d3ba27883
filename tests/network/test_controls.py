"""The controls: as many tokens as the rule that they stand for, and no more cleverness."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from napari_sparseseg.network import DecoderConfig, Output, SparseUNETR
from napari_sparseseg.network.sparsifiers import Sparsifier, make_control
from tests.network.conftest import (
    Kind,
    make_network,
    middle_setting,
    small_completion,
    small_config,
)

INFORMED = ("stp", "edge", "dtop", "svit", "apformer")


def network_of(method: str, **changes: object) -> SparseUNETR:
    completion = small_completion("assembly" if method in ("stp", "edge") else "preserve")
    return make_network(small_config(sparsifier=method, completion=completion, **changes))


def under(network: SparseUNETR, control: str, seed: int = 0) -> Sparsifier:
    """Put a control in the place of a network's own sparsifier; return the own one."""
    own = network.sparsifier
    network.sparsifier = make_control(control, own, seed)
    return own


def run(network: SparseUNETR, windows: Tensor, setting: float) -> Output:
    with torch.inference_mode():
        return network.finish(network.prepare(windows), setting)


def kept(output: Output, stage: int = 0) -> Tensor:
    return torch.cat([w.decision.keep for w in output.encoded.scored[stage]])


@pytest.mark.parametrize("method", INFORMED)
def test_random_keeps_as_many_at_every_stage_and_window(windows: Tensor, method: str) -> None:
    network = network_of(method)
    setting = middle_setting(network)
    own = run(network, windows, setting)
    under(network, "random")
    other = run(network, windows, setting)
    assert own.encoded.log.lengths == other.encoded.log.lengths
    for mine, theirs in zip(own.encoded.scored, other.encoded.scored, strict=True):
        counts = [[int(w.decision.keep.sum()) for w in stage] for stage in (mine, theirs)]
        assert counts[0] == counts[1]
    assert not torch.equal(kept(own), kept(other))
    assert network.sparsifier.fate == own.encoded.fate == other.encoded.fate


@pytest.mark.parametrize("method", INFORMED)
def test_random_is_reproducible_and_follows_its_seed(windows: Tensor, method: str) -> None:
    network = network_of(method)
    setting = middle_setting(network)
    own = under(network, "random", seed=3)
    torch.manual_seed(1)
    first = run(network, windows, setting)
    torch.manual_seed(2)
    again = run(network, windows, setting)
    network.sparsifier = make_control("random", own, seed=4)
    other = run(network, windows, setting)
    assert torch.equal(first.logits, again.logits)
    assert not torch.equal(kept(first), kept(other))
    assert kept(first).sum() == kept(other).sum()


@pytest.mark.parametrize("method", INFORMED)
def test_random_at_setting_one_is_the_network(windows: Tensor, method: str) -> None:
    network = network_of(method)
    own = run(network, windows, 1.0)
    under(network, "random")
    assert (own.logits - run(network, windows, 1.0).logits).abs().max() <= 1e-4


def test_random_gives_an_exit_the_class_that_the_head_saw(windows: Tensor) -> None:
    network = network_of("dtop")
    own = run(network, windows, 0.3)
    under(network, "random")
    other = run(network, windows, 0.3)
    first, second = own.encoded.scored[0][0].decision, other.encoded.scored[0][0].decision
    assert first.label is not None
    assert second.label is not None
    assert torch.equal(first.label, second.label)  # the first stage sees the same tokens
    left = other.encoded.left == 1
    assert (other.encoded.label[left & (other.encoded.label >= 0)] >= 0).any()


def test_random_draws_are_uniform() -> None:
    """Every position is as likely: the mean draw over many seeds is 1/2."""
    inner = network_of("stp").sparsifier
    tokens = torch.zeros(20, 24)
    draws = [make_control("random", inner, seed).score(0, tokens).importance for seed in range(400)]
    mean = torch.stack(draws).mean(dim=0)
    assert (mean - 0.5).abs().max() < 0.06
    assert torch.stack(draws).unique().numel() > 7000


def test_random_draws_anew_at_every_stage() -> None:
    control = make_control("random", network_of("stp").sparsifier)
    tokens = torch.zeros(20, 24)
    assert not torch.equal(control.score(0, tokens).importance, control.score(1, tokens).importance)


def test_training_at_random_draws_afresh_each_time(windows: Tensor) -> None:
    network = network_of("random").train()
    with torch.no_grad():
        first, second = (network.finish(network.prepare(windows), 0.3) for _ in range(2))
    assert kept(first).sum() == kept(second).sum()
    assert not torch.equal(kept(first), kept(second))


def test_random_in_training_trains_the_rest(windows: Tensor) -> None:
    network = network_of("random").train()
    network(windows, 0.3).square().mean().backward()
    last: Any = network.encoder.blocks[-1]
    assert last.mlp[0].weight.grad.any()
    assert not list(network.sparsifier.parameters())


def later_blocks_run(network: SparseUNETR, windows: Tensor) -> list[int]:
    ran: list[int] = []
    hooks = [
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
        for number, block in enumerate(network.encoder.blocks)
    ]
    run(network, windows, 0.5)
    for hook in hooks:
        hook.remove()
    return ran


@pytest.mark.parametrize("method", INFORMED)
@pytest.mark.parametrize(("control", "blocks"), [("truncated", [0]), ("none", [])])
def test_an_ended_encoder_runs_no_later_block(
    windows: Tensor, method: str, control: str, blocks: list[int]
) -> None:
    network = network_of(method)
    full = run(network, windows, 1.0)
    under(network, control)
    assert later_blocks_run(network, windows) == blocks
    output = run(network, windows, 0.5)
    assert (output.logits - full.logits).abs().max() > 1e-2
    for record in network.trace(output.encoded):
        assert torch.equal(record.ran[: len(blocks)].all(dim=0), ~record.air | (not blocks))
        assert not record.ran[len(blocks) :].any()
        assert torch.equal(record.left_stage > 0, ~record.air)
        assert record.importance.isnan().all()


@pytest.mark.parametrize("control", ["truncated", "none"])
@pytest.mark.parametrize("completion", ["assembly", "mask", "preserve"])
def test_an_ended_encoder_is_its_trained_form(
    windows: Tensor, control: str, completion: Kind
) -> None:
    """A network whose own sparsifier is the control gives the same with the same weights."""
    size = small_completion(completion)
    network = make_network(small_config(sparsifier="stp", completion=size))
    trained = SparseUNETR(small_config(sparsifier=control, completion=size)).eval()
    trained.start_from(network.state_dict())
    under(network, control)
    assert torch.equal(run(network, windows, 0.5).logits, run(trained, windows, 1.0).logits)
    assert network.sparsifier.method == trained.sparsifier.method


@pytest.mark.parametrize("control", ["truncated", "none"])
def test_a_setting_means_nothing_to_an_ended_encoder(windows: Tensor, control: str) -> None:
    network = network_of("stp")
    under(network, control)
    outputs = [run(network, windows, setting).logits for setting in (0.1, 0.5, 1.0)]
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("control", ["truncated", "none"])
def test_an_ended_encoder_leaves_the_image_detail_alone(windows: Tensor, control: str) -> None:
    """Only the transformer is taken away, not the image that the decoder sees."""
    network = network_of("stp", decoder=DecoderConfig(4, 2, "channel", "open"))
    under(network, control)
    output = run(network, windows, 0.5)
    assert (output.encoded.went_on == 1).all()
    with torch.inference_mode():
        prepared = network.prepare(windows)
        changed = replace(prepared, windows=prepared.windows + 1)
        assert not torch.equal(network.finish(changed, 0.5).logits, output.logits)


def test_a_truncated_apformer_keeps_its_relative_positions(windows: Tensor) -> None:
    network = network_of("apformer")
    own: Any = under(network, "truncated")
    before = run(network, windows, 0.5)
    with torch.no_grad():
        own.positions[0].table.add_(torch.randn_like(own.positions[0].table))
    assert not torch.equal(before.logits, run(network, windows, 0.5).logits)


def test_the_skips_of_a_network_without_an_encoder_are_the_embedded_patches(
    windows: Tensor,
) -> None:
    network = network_of("dtop")
    under(network, "none")
    encoded = run(network, windows, 0.5).encoded
    with torch.inference_mode():
        tokens = network.encoder.embed(windows).flatten(2).transpose(1, 2).reshape(-1, 24)
        tokens = tokens[encoded.layout.cells] + network.encoder.positions[encoded.layout.positions]
    for hidden in (*encoded.hidden, encoded.x):
        assert torch.allclose(hidden[encoded.layout.rows], tokens, atol=1e-6)


def test_only_a_control_takes_anothers_place() -> None:
    inner = network_of("stp").sparsifier
    for name in ("dtop", "dense", "nonsense"):
        with pytest.raises(ValueError, match="no control"):
            make_control(name, inner)
