"""SViT against the paper (Liu et al., WACV 2024): gates, targets, preserved tokens, loss."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from napari_sparseseg.network import SparseUNETR
from napari_sparseseg.network.sparsifiers import Decision, Scores, make_sparsifier
from napari_sparseseg.network.sparsifiers.svit import BlockGates, Gate, gate_targets
from tests.network.conftest import (
    layout_of,
    make_encoded,
    make_network,
    scored,
    settings_of,
    small_completion,
    small_config,
)


def gated_network(**changes: object) -> SparseUNETR:
    config = {"sparsifier": "svit", "completion": small_completion("preserve")} | changes
    return make_network(small_config(**config))


def gelu(x: float) -> float:
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


def test_margin_by_hand() -> None:
    """Two layers, width 4 to 1 to 2: keep = 2 GELU(h) + 0.5, skip = -GELU(h)."""
    gate = Gate(4)
    first: Any = gate.rate[1]
    second: Any = gate.rate[3]
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 0.0, 0.0, -1.0]]))
        first.bias.fill_(0.25)
        second.weight.copy_(torch.tensor([[2.0], [-1.0]]))
        second.bias.copy_(torch.tensor([0.5, 0.0]))
        margins = gate(torch.tensor([[3.0, 1.0, 1.0, -1.0], [1.0, -1.0, 3.0, 1.0]]))
    n = 2 / math.sqrt(2 + 1e-5)  # LayerNorm: mean 1, variance 2
    expected = [3 * gelu(h + 0.25) + 0.5 for h in (n - (-n), 0 - 0)]
    assert margins.tolist() == pytest.approx(expected, abs=1e-5)


def test_targets_are_the_published_ones_at_their_keep_ratio() -> None:
    published = [0.7] * 3 + [0.49] * 3 + [0.343] * 3
    assert gate_targets(9, 0.343) == pytest.approx(published)
    assert gate_targets(9, 1.0) == (1.0,) * 9


def test_the_last_target_is_the_keep_ratio_and_targets_fall() -> None:
    for gates in (1, 2, 4, 9):
        targets = gate_targets(gates, 0.2)
        assert len(targets) == gates
        assert list(targets) == sorted(targets, reverse=True)
    assert gate_targets(9, 0.2)[-1] == pytest.approx(0.2)
    assert gate_targets(4, 0.2)[-1] == pytest.approx(0.2)


def test_a_gate_stands_before_each_block_behind_the_first_stage() -> None:
    rule = make_sparsifier(small_config(sparsifier="svit", depth=12, stages=(3, 6, 9)))
    assert rule.stages() == (3, 4, 5, 6, 7, 8, 9, 10, 11)
    assert len(rule.gates) == 9  # type: ignore[arg-type]


def kept(rule: BlockGates, stage: int, margins: list[float], setting: float) -> list[bool]:
    return rule.decide(stage, Scores(torch.tensor(margins)), setting).keep.tolist()


def test_the_bar_moves_with_the_target() -> None:
    """At the start a margin must exceed -ln(t / (1 - t)): the likely side of a shifted gate."""
    rule = BlockGates(small_config()).eval()
    # gates before blocks 2 to 5: at a keep ratio of 1/8 the targets are 1/2, 1/2, 1/4, 1/8
    assert gate_targets(4, 1 / 8) == pytest.approx([1 / 2, 1 / 2, 1 / 4, 1 / 8])
    assert kept(rule, 0, [-0.01, 0.01], 1 / 8) == [False, True]
    assert kept(rule, 2, [math.log(3) - 0.01, math.log(3) + 0.01], 1 / 8) == [False, True]
    assert kept(rule, 3, [math.log(7) - 0.01, math.log(7) + 0.01], 1 / 8) == [False, True]
    with torch.no_grad():
        rule.slopes[3] = math.log(math.exp(2) - 1)  # a slope of 2 moves it twice as far
    bar = 2 * math.log(7)
    assert kept(rule, 3, [bar - 0.01, bar + 0.01], 1 / 8) == [False, True]


@pytest.mark.parametrize("stage", range(4))
def test_the_kept_set_grows_with_the_keep_ratio_at_every_gate(stage: int) -> None:
    """For equal scores; any slope is positive."""
    torch.manual_seed(stage)
    rule = BlockGates(small_config()).eval()
    with torch.no_grad():
        rule.slopes.copy_(3 * torch.randn(4))
    scores, before = Scores(4 * torch.randn(200)), torch.zeros(200, dtype=torch.bool)
    sizes = []
    for setting in (0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0):
        keep = rule.decide(stage, scores, setting).keep
        assert not (before & ~keep).any()
        before = keep
        sizes.append(int(keep.sum()))
    assert sizes[-1] == 200
    assert sizes[0] < sizes[4] < sizes[-1]


def test_a_keep_ratio_just_below_one_is_no_error() -> None:
    rule = BlockGates(small_config())
    for training in (True, False):
        keep = rule.train(training).decide(0, Scores(torch.zeros(3)), 1 - 1e-16).keep
        assert keep.all()


def test_training_draws_gates_with_the_probability_of_their_margin() -> None:
    """A margin of ln 3 at target 1/2 runs three times out of four; inference always."""
    torch.manual_seed(0)
    rule = BlockGates(small_config()).train()
    scores = Scores(torch.full((4000,), math.log(3)))
    decision = rule.decide(0, scores, 1 / 8)
    assert 0.72 < decision.keep.float().mean() < 0.78
    assert decision.gate is not None
    assert torch.equal(decision.gate, decision.keep.float())
    assert rule.eval().decide(0, scores, 1 / 8).keep.all()


@pytest.mark.parametrize("which", [0, 1, 2])
def test_skipped_tokens_keep_their_features_to_the_bit(windows: Tensor, which: int) -> None:
    network = gated_network()
    with torch.inference_mode():
        output = network.finish(network.prepare(windows), settings_of(network)[which])
        records = network.trace(output.encoded)
    encoded = output.encoded
    ran = torch.stack([r.ran for r in records], dim=1).flatten(1)[:, encoded.layout.cells]
    between = [*encoded.hidden, encoded.x]  # after 1, 2, 4 and all 5 blocks
    for (start, before), (stop, after) in zip(
        zip((1, 2, 4), between, strict=False),
        zip((2, 4, 5), between[1:], strict=True),
        strict=True,
    ):
        moved = (before != after).any(dim=1)[encoded.layout.rows]
        assert torch.equal(moved, ran[start:stop].any(dim=0))
        assert not moved.all()


def test_tokens_come_back_after_a_skip(windows: Tensor) -> None:
    network = gated_network()
    with torch.inference_mode():
        output = network.finish(network.prepare(windows), settings_of(network)[0])
    (ran, _) = (r.ran for r in network.trace(output.encoded))
    came_back = (~ran[1:-1] & ran[2:]).any(dim=0) & ran[0]
    assert came_back.any()


def test_every_gate_judges_every_token(windows: Tensor) -> None:
    network = gated_network()
    with torch.inference_mode():
        encoded = network.finish(network.prepare(windows), settings_of(network)[0]).encoded
    assert len(encoded.scored) == 4
    for stage in encoded.scored:
        assert tuple(len(w.rows) for w in stage) == encoded.layout.counts


def test_training_with_hard_gates_is_inference(windows: Tensor) -> None:
    """Masked keys and multiplied gates against gathered rows, with the same gates."""
    network = gated_network()
    torch.manual_seed(5)
    drawn: dict[tuple[int, int], Tensor] = {}

    def decide(stage: int, scores: Scores, setting: float) -> Decision:
        keep = drawn.setdefault(
            (stage, len(scores.importance)), torch.rand(len(scores.importance)) > 0.6
        )
        if (stage, len(keep)) == (2, 32):
            keep = torch.zeros_like(keep)  # a gate that lets no token of a window run
        return Decision(keep, keep.float() if network.training else None)

    network.sparsifier.decide = decide  # type: ignore[method-assign]
    with torch.no_grad():
        inference = network.finish(network.prepare(windows), 0.5)
        training = network.train().finish(network.prepare(windows), 0.5)
    assert inference.encoded.log.lengths[3][1] == 0
    assert inference.encoded.log.macs < training.encoded.log.macs
    assert (inference.encoded.x - training.encoded.x).abs().max() <= 1e-4
    assert (inference.logits - training.logits).abs().max() <= 1e-4


def test_rate_loss_by_hand() -> None:
    """Two gates of width 1, two windows; only the mean over all tokens of the batch counts."""
    rule = BlockGates(small_config(depth=3, stages=(1, 2), completion=small_completion("mask")))
    layout = layout_of(3, 1)
    stages = []
    for gates in ([[1.0, 0.0, 1.0], [1.0]], [[0.0, 0.0, 0.0], [1.0]]):
        values = [torch.tensor(g) for g in gates]
        decisions = [Decision(v > 0.5, v) for v in values]
        stages.append(scored(layout, [Scores(v) for v in values], decisions))
    setting = 0.216
    targets = gate_targets(2, setting)
    assert targets == pytest.approx([0.6, 0.36])
    encoded = make_encoded(layout, scored=tuple(stages), setting=setting, fate="skipped")
    expected = 4 * ((3 / 4 - 0.6) ** 2 + (1 / 4 - 0.36) ** 2) / 2
    loss = rule.loss(encoded, torch.full((4, 4), 0.25))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_a_dense_step_has_no_rate_loss(windows: Tensor) -> None:
    network = gated_network().train()
    encoded = network.finish(network.prepare(windows), 1.0).encoded
    mix = torch.full((len(encoded.layout.cells), 4), 0.25)
    assert network.sparsifier.loss(encoded, mix).item() == 0


@pytest.mark.parametrize("loss", ["segmentation", "rate"])
def test_gradient_passes_straight_through_to_every_gate(windows: Tensor, loss: str) -> None:
    network = gated_network().train()
    torch.manual_seed(0)
    output = network.finish(network.prepare(windows), 0.2)
    if loss == "segmentation":
        output.logits.square().mean().backward()
    else:
        mix = torch.full((len(output.encoded.layout.cells), 4), 0.25)
        network.sparsifier.loss(output.encoded, mix).backward()
    rule: Any = network.sparsifier
    for gate in rule.gates:
        for layer in (gate.rate[1], gate.rate[3]):
            assert layer.weight.grad is not None
            assert layer.weight.grad.any()
    assert rule.slopes.grad is not None
    assert (rule.slopes.grad != 0).all()


def test_rate_loss_pulls_towards_the_target() -> None:
    """Too many running: a step against the gradient lowers the margins."""
    torch.manual_seed(0)
    rule = BlockGates(small_config()).train()
    layout, margin = layout_of(90), torch.full((90,), 3.0, requires_grad=True)
    stages = []
    for stage in range(4):
        scores = Scores(margin)
        stages.append(scored(layout, [scores], [rule.decide(stage, scores, 0.1)]))
    encoded = make_encoded(layout, scored=tuple(stages), setting=0.1, fate="skipped")
    rule.loss(encoded, torch.full((90, 4), 0.25)).backward()
    assert margin.grad is not None
    assert margin.grad.sum() > 0


def standardised(**changes: object) -> BlockGates:
    return BlockGates(small_config(options={"standardise": True}, **changes))


def with_margins(rule: Any, stage: int, margins: Tensor) -> Scores:
    """Score tokens for which the gate gives these margins."""
    rule.gates[stage].forward = lambda tokens: margins
    scores: Scores = rule.score(stage, torch.zeros(len(margins), 24))
    return scores


def test_published_gates_standardise_nothing() -> None:
    rule = BlockGates(small_config()).train()
    assert not any("standardiser" in key for key in rule.state_dict())
    assert with_margins(rule, 0, torch.tensor([3.0, 5.0])).importance.tolist() == [3.0, 5.0]


def test_mean_and_spread_by_hand() -> None:
    """Windows of margins (1, 3), then (8, 8): weights 1 and 1/2; three logits per spread."""
    rule: Any = standardised().train()
    scores = with_margins(rule, 1, torch.tensor([1.0, 3.0]))
    assert scores.importance.tolist() == pytest.approx([-3, 3])  # mean 2, spread 1
    with_margins(rule, 1, torch.tensor([8.0, 8.0]))
    unit = rule.standardisers[1]
    mean = 2 + (8 - 2) / 2
    spread = 1 + (math.sqrt((8 - mean) ** 2) - 1) / 2
    assert (unit.mean.item(), unit.spread.item()) == pytest.approx((mean, spread))
    untouched = rule.standardisers[0]
    assert (untouched.mean.item(), untouched.spread.item()) == (0, 1)


def test_many_windows_leave_a_moving_average() -> None:
    """From the fiftieth window on, each counts one fiftieth."""
    rule: Any = standardised().train()
    for _ in range(60):
        with_margins(rule, 0, torch.tensor([-1.0, 1.0]))
    with_margins(rule, 0, torch.tensor([99.0, 101.0]))
    assert rule.standardisers[0].mean.item() == pytest.approx(2.0)


def test_mean_and_spread_are_learned_in_training_only(windows: Tensor) -> None:
    network = gated_network(options={"standardise": True})
    for training in (False, True):
        before = {k: v.clone() for k, v in network.sparsifier.state_dict().items()}
        with torch.no_grad():
            network.train(training)(windows, 0.3)
        after = network.sparsifier.state_dict()
        changed = {k for k in before if not torch.equal(before[k], after[k])}
        assert bool(changed) == training
        assert all(k.startswith("standardisers.") for k in changed)


def test_a_window_without_tokens_teaches_nothing() -> None:
    rule: Any = standardised().train()
    for margins in (torch.zeros(0), torch.tensor([7.0])):
        with_margins(rule, 0, margins)
    assert (rule.standardisers[0].mean.item(), rule.standardisers[0].windows.item()) == (0, 0)


@pytest.mark.parametrize("setting", [0.05, 0.343, 0.8])
def test_a_standardised_gate_attains_its_rate_without_noise(setting: float) -> None:
    """Gates that hardly tell tokens apart, far from zero: the published ones would run all."""
    torch.manual_seed(0)
    rule: Any = standardised()
    plain = BlockGates(small_config()).eval()
    margins = 5 + 0.1 * torch.randn(4, 20000)
    for stage, target in enumerate(gate_targets(4, setting)):
        for part in margins[stage].split(500):
            with_margins(rule.train(), stage, part)
        scores = with_margins(rule.eval(), stage, margins[stage])
        rate = rule.decide(stage, scores, setting).keep.float().mean().item()
        assert rate == pytest.approx(target, abs=0.02)
        assert plain.decide(stage, Scores(margins[stage]), setting).keep.all()


def test_a_scan_with_more_above_the_bar_still_runs_more() -> None:
    rule: Any = standardised()
    with_margins(rule.train(), 0, torch.randn(1000))
    easy = with_margins(rule.eval(), 0, torch.linspace(-3, 1, 100))
    hard = with_margins(rule, 0, torch.linspace(-1, 3, 100))
    kept_easy, kept_hard = (rule.decide(0, s, 0.3).keep.sum() for s in (easy, hard))
    assert kept_hard > kept_easy + 20


def test_the_standardised_state_survives_saving(windows: Tensor) -> None:
    network = gated_network(options={"standardise": True}).train()
    with torch.no_grad():
        for _ in range(3):
            network(windows, 0.3)
        loaded = gated_network(options={"standardise": True}, heads=2)
        loaded.start_from(network.state_dict())
        assert torch.equal(network.eval()(windows, 0.3), loaded.eval()(windows, 0.3))
    units: Any = loaded.to_precision(torch.bfloat16).sparsifier
    assert all(unit.mean.dtype == torch.float32 for unit in units.standardisers)
    assert all(unit.windows == 6 for unit in units.standardisers)  # two windows a step


def test_the_standardised_kept_set_grows_with_the_keep_ratio() -> None:
    torch.manual_seed(0)
    rule = standardised().eval()
    scores, before = Scores(3 * torch.randn(200)), torch.zeros(200, dtype=torch.bool)
    for setting in (0.05, 0.1, 0.5, 0.9, 1 - 1e-16, 1.0):
        keep = rule.decide(3, scores, setting).keep
        assert not (before & ~keep).any()
        assert keep.sum() > before.sum() or keep.all()
        before = keep
    assert before.all()


def test_gradient_reaches_a_standardised_gate(windows: Tensor) -> None:
    network = gated_network(options={"standardise": True}).train()
    torch.manual_seed(0)
    network(windows, 0.2).square().mean().backward()
    rule: Any = network.sparsifier
    assert all(gate.rate[3].weight.grad.any() for gate in rule.gates)
