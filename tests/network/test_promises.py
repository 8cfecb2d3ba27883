"""The promises of the design that the network has to keep, with every method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from napari_sparseseg.network import Output, SparseUNETR
from napari_sparseseg.network.blocks import Attend
from napari_sparseseg.network.sparsifiers.apformer import AdaptiveAttention
from napari_sparseseg.network.sparsifiers.base import AttentionPlace
from napari_sparseseg.network.sparsifiers.dense import KeepAll
from napari_sparseseg.network.sparsifiers.topk import keep_best, stage_quota
from tests.network.conftest import make_network, middle_setting, settings_of, small_config


class Everywhere(KeepAll):
    """The dense rule with APFormer's relative positions: its network with the gates off."""

    attends_its_own_way = True

    def __init__(self, own: AdaptiveAttention) -> None:
        super().__init__(own.config)
        self.positions = own.positions

    def attention(self, place: AttentionPlace) -> Attend:
        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            products = q @ k.transpose(1, 2) / q.shape[2] ** 0.5
            return (products + self.positions[place.block](place.positions)).softmax(dim=2) @ v

        return attend


def dense_twin(network: SparseUNETR) -> SparseUNETR:
    twin = SparseUNETR(replace(network.config, sparsifier="dense")).eval()
    shared = {k: v for k, v in network.state_dict().items() if not k.startswith("sparsifier.")}
    twin.load_state_dict(shared)
    if isinstance(network.sparsifier, AdaptiveAttention):
        twin.sparsifier = Everywhere(network.sparsifier).eval()
    return twin


def run(network: SparseUNETR, windows: Tensor, setting: float) -> Output:
    with torch.inference_mode():
        return network.finish(network.prepare(windows), setting)


def count_operations(network: SparseUNETR, windows: Tensor, setting: float) -> tuple[Output, int]:
    """Run, and return what torch counts; only its plain attention is counted in full."""
    network.requires_grad_(False)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        output = run(network, windows, setting)
    return output, counter.get_total_flops() // 2


@dataclass
class Watch:
    """Follow every token through the blocks by a tag in its features.

    Attributes
    ----------
    ran : list of list of set of int
        Per block and window, the raster indices of the tokens that its attention changed.
    """

    network: SparseUNETR
    ran: list[list[set[int]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        encoder: Any = self.network.encoder
        with torch.no_grad():
            # feature 0 is the raster index over 128, -1 for class tokens, and no block changes it
            encoder.embed.weight[0], encoder.embed.bias[0] = 0, 0
            encoder.positions[:, 0] = torch.arange(len(encoder.positions)) / 128
            encoder.class_token[0, 0] = -1
            for block in encoder.blocks:
                for linear in (block.attention.proj, block.mlp[2]):
                    linear.weight[0], linear.bias[0] = 0, 0
        for number, block in enumerate(encoder.blocks):
            self.ran.append([])
            block.register_forward_pre_hook(self._read_tags)
            block.attention.register_forward_hook(self._note(number))

    def _read_tags(self, module: nn.Module, args: tuple) -> None:
        self._tags, self._lengths = args[0][:, 0].clone(), args[1]

    def _note(self, number: int) -> Callable[[nn.Module, tuple, Tensor], None]:
        def note(module: nn.Module, args: tuple, out: Tensor) -> None:
            changed = (out != 0).any(dim=1)
            parts = zip(self._tags.split(self._lengths), changed.split(self._lengths), strict=True)
            for tags, moved in parts:
                assert (tags[:1] == -1).all()  # a window is led by its class token
                tokens = (tags[1:] * 128).round().long()
                assert (tokens[1:] > tokens[:-1]).all()  # in raster order
                self.ran[number].append(set(tokens[moved[1:]].tolist()))

        return note


def test_setting_one_is_the_dense_twin(network: SparseUNETR, windows: Tensor) -> None:
    """Promise 1."""
    sparse, dense = run(network, windows, 1.0), run(dense_twin(network), windows, 0.1)
    assert (sparse.logits - dense.logits).abs().max() <= 1e-4
    assert dense.logits.std() > 0.1
    for record in network.trace(sparse.encoded):
        assert torch.equal(record.ran.all(dim=0), ~record.air)
        assert not record.left_stage.any()


def test_pruning_changes_the_answer(network: SparseUNETR, windows: Tensor) -> None:
    full, pruned = (run(network, windows, s).logits for s in (1.0, settings_of(network)[0]))
    assert (full - pruned).abs().max() > 1e-2


@pytest.mark.parametrize("which", ["dense", "middle", "lowest"])
def test_the_trace_tells_the_rows_that_each_block_was_given(
    any_network: SparseUNETR, windows: Tensor, which: str
) -> None:
    """Promise 2: the number and the identity of the tokens, block by block."""
    network = any_network
    lowest = settings_of(network)[0] if network.config.sparsifier != "dense" else 0.1
    setting = {"dense": 1.0, "middle": middle_setting(network), "lowest": lowest}[which]
    watch = Watch(network)
    output = run(network, windows, setting)
    records = network.trace(output.encoded)
    for number, seen in enumerate(watch.ran):
        told = [set(r.ran[number].flatten().nonzero()[:, 0].tolist()) for r in records]
        assert told == (seen or [set(), set()])
        given = [n - 1 for n in output.encoded.log.lengths[number] if n]
        assert given == [len(tokens) for tokens in told if tokens]
    sparse = which != "dense" and network.config.sparsifier != "dense"
    everywhere = all(bool((r.ran.all(dim=0) | r.air).all()) for r in records)
    assert everywhere == (not sparse)


@pytest.mark.parametrize("which", [0, 1])
def test_tokens_leave_where_the_trace_says(
    network: SparseUNETR, windows: Tensor, which: int
) -> None:
    output = run(network, windows, settings_of(network)[which])
    fate, stages = network.sparsifier.fate, network.sparsifier.stages()
    for record in network.trace(output.encoded):
        depth = record.ran.sum(dim=0)
        assert torch.equal(depth == 0, record.air)
        assert torch.equal(record.importance[0].isnan(), record.air)
        left = record.left_stage
        if fate == "skipped":
            assert not left.any()
            continue
        expected = torch.tensor([network.config.depth, *stages])[left.long()]
        assert torch.equal(depth[~record.air], expected[~record.air])
        for stage in range(len(stages)):
            was_scored = ~record.air & ((left == 0) | (left > stage))
            assert torch.equal(~record.importance[stage].isnan(), was_scored)


def test_the_trace_names_the_very_tokens_that_ran(network: SparseUNETR, windows: Tensor) -> None:
    """Promise 2: a token that the trace says sat out the last attention cannot feel it."""
    setting = middle_setting(network)
    with torch.inference_mode():
        prepared = network.prepare(windows)
        before = network.finish(prepared, setting)
        last: Any = network.encoder.blocks[-1]
        for parameter in last.attention.proj.parameters():
            parameter.mul_(-1.0)
        after = network.finish(prepared, setting)
    moved = (before.encoded.x != after.encoded.x).any(dim=1)
    cells, rows = before.encoded.layout.cells, before.encoded.layout.rows
    records = network.trace(before.encoded)
    ran = torch.stack([r.ran[-1] for r in records]).flatten()[cells]
    assert torch.equal(moved[rows], ran)
    assert ran.any()
    assert not ran.all()


@pytest.mark.parametrize("which", ["dense", "middle", "lowest"])
def test_operations_are_those_that_torch_counts(
    network: SparseUNETR, windows: Tensor, which: str
) -> None:
    """Promise 2: savings are counted from what ran."""
    low, middle = settings_of(network)[:2]
    setting = {"dense": 1.0, "middle": middle, "lowest": low}[which]
    output, counted = count_operations(network, windows, setting)
    ran, dense = network.macs(output), network.dense_macs(output)
    assert ran.total == counted
    assert (dense.encoder > ran.encoder) == (setting < 1)
    if which == "middle":
        assert dense.total == count_operations(dense_twin(network), windows, 1.0)[1]


def test_a_dense_run_saves_nothing(any_network: SparseUNETR, air_and_tissue: Tensor) -> None:
    """Not even in a window of air, where only the class token runs."""
    output, counted = count_operations(any_network, air_and_tissue, 1.0)
    ran, dense = any_network.macs(output), any_network.dense_macs(output)
    assert ran.total == counted
    assert ran.encoder == dense.encoder
    assert ran.total - ran.scoring == dense.total


def test_observing_changes_nothing(any_network: SparseUNETR, windows: Tensor) -> None:
    """Promise 3: reading the trace between two runs leaves the logits bit-identical."""
    network, setting = any_network, middle_setting(any_network)
    with torch.inference_mode():
        prepared = network.prepare(windows)
        unobserved = network.finish(prepared, setting).logits
        output = network.finish(prepared, setting)
        network.trace(output.encoded)
        network.macs(output)
        again = network.finish(prepared, setting).logits
    assert torch.equal(unobserved, output.logits)
    assert torch.equal(unobserved, again)


def test_inference_is_deterministic(any_network: SparseUNETR, windows: Tensor) -> None:
    """Promise 6: whatever the state of torch's generator, and whatever ran before."""
    network, setting = any_network, middle_setting(any_network)
    torch.manual_seed(1)
    first = run(network, windows, setting)
    run(network, windows.flip(2), 0.6)
    torch.manual_seed(2)
    second = run(network, windows, setting)
    assert torch.equal(first.logits, second.logits)
    for a, b in zip(network.trace(first.encoded), network.trace(second.encoded), strict=True):
        assert torch.equal(a.ran, b.ran)
        assert torch.equal(a.importance.nan_to_num(-1), b.importance.nan_to_num(-1))


def test_settings_in_any_order_give_the_same(network: SparseUNETR, windows: Tensor) -> None:
    """Promise 6: what was prepared once serves every position of the slider."""
    slider = (settings_of(network)[0], 1.0)
    with torch.inference_mode():
        prepared = network.prepare(windows)
        up = [network.finish(prepared, s).logits for s in slider]
        down = [network.finish(prepared, s).logits for s in reversed(slider)]
        fresh = [network(windows, s) for s in slider]
    for a, b, c in zip(up, reversed(down), fresh, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


@settings(max_examples=50, deadline=None)
@given(
    scores=st.lists(st.integers(-5, 5), min_size=1, max_size=60),
    ratios=st.tuples(st.floats(0.001, 1.0), st.floats(0.001, 1.0)),
)
def test_kept_tokens_are_nested(scores: list[int], ratios: tuple[float, float]) -> None:
    """Promise 4, with many equal scores."""
    importance = torch.tensor(scores, dtype=torch.float32)
    low, high = (keep_best(importance, stage_quota(len(scores), r, 3)) for r in sorted(ratios))
    assert not (low & ~high).any()


def test_tokens_that_go_on_are_nested(network: SparseUNETR, windows: Tensor) -> None:
    """Promise 4, at the first stage: whatever goes on goes on at any higher setting."""
    first = network.sparsifier.stages()[0]
    with torch.inference_mode():
        prepared = network.prepare(windows)
        went_on = []
        for setting in settings_of(network):
            records = network.trace(network.finish(prepared, setting).encoded)
            went_on.append(torch.stack([r.ran[first] for r in records]))
    for low, high in zip(went_on, went_on[1:], strict=False):
        assert not (low & ~high).any()
        assert low.sum() < high.sum()


def test_a_window_does_not_depend_on_its_batch(any_network: SparseUNETR, windows: Tensor) -> None:
    """Promise 6."""
    setting = middle_setting(any_network)
    together = run(any_network, windows, setting)
    alone = [run(any_network, w[None], setting) for w in windows]
    turned = run(any_network, windows.flip(0), setting)
    assert (together.logits - torch.cat([o.logits for o in alone])).abs().max() <= 1e-4
    assert (together.logits - turned.logits.flip(0)).abs().max() <= 1e-4
    single = [any_network.trace(o.encoded)[0] for o in alone]
    for a, b in zip(any_network.trace(together.encoded), single, strict=True):
        assert torch.equal(a.ran, b.ran)
        assert torch.equal(a.left_stage, b.left_stage)


def test_air_never_enters_and_is_background(network: SparseUNETR, windows: Tensor) -> None:
    output = run(network, windows, 1.0)
    record = network.trace(output.encoded)[1]
    air = record.air.repeat_interleave(8, 0).repeat_interleave(8, 1).repeat_interleave(8, 2)
    assert air.any()
    assert (output.logits[1].argmax(dim=0)[air] == 0).all()
    assert torch.isnan(record.importance[:, record.air]).all()


def test_a_window_of_air_has_no_tokens(any_network: SparseUNETR) -> None:
    output = run(any_network, torch.zeros(1, 1, 32, 48, 32), middle_setting(any_network))
    assert output.encoded.layout.counts == (0,)
    assert (output.logits.argmax(dim=1) == 0).all()
    (record,) = any_network.trace(output.encoded)
    assert record.air.all()
    assert not record.ran.any()


def test_a_window_of_air_disturbs_no_other(
    any_network: SparseUNETR, air_and_tissue: Tensor
) -> None:
    setting = middle_setting(any_network)
    together = run(any_network, air_and_tissue, setting)
    alone = run(any_network, air_and_tissue[1:], setting)
    assert (together.logits[1] - alone.logits[0]).abs().max() <= 1e-4
    assert (together.logits[0].argmax(dim=0) == 0).all()


def mean_loss(network: SparseUNETR, windows: Tensor, setting: float) -> Tensor:
    """A stand-in for the losses of scores and of completed tokens, and the method's own loss."""
    output = network.finish(network.prepare(windows), setting)
    labels = torch.arange(len(output.encoded.layout.cells)) % network.config.classes
    mix = F.one_hot(labels, network.config.classes).float()
    answers = (output.logits, output.completed)  # a window of air has no other than class tokens
    means = torch.stack([answer.float().square().mean() for answer in answers])
    return means.sum() + network.sparsifier.loss(output.encoded, mix)


def assert_finite_gradients(network: SparseUNETR, loss: Tensor) -> None:
    network.zero_grad()
    loss.backward()
    assert loss.isfinite()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert gradients
    assert all(g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("setting", [1.0, 0.4])
def test_training_survives_air(
    any_network: SparseUNETR, air_and_tissue: Tensor, setting: float
) -> None:
    network = any_network.train()
    for windows in (air_and_tissue, torch.zeros_like(air_and_tissue)):
        assert_finite_gradients(network, mean_loss(network, windows, setting))


def test_training_in_reduced_precision(any_network: SparseUNETR, windows: Tensor) -> None:
    network = any_network.train()
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = mean_loss(network, windows, middle_setting(network))
        prepared = network.prepare(windows)
    assert prepared.first.stream.x.dtype == torch.bfloat16
    assert all(s.importance.dtype == torch.float32 for s in prepared.first.scores)
    assert_finite_gradients(network, loss)


def test_inference_in_reduced_precision_keeps_the_scores_in_float32(
    any_network: SparseUNETR, windows: Tensor
) -> None:
    exact = run(any_network, windows, 1.0).logits.argmax(dim=1)
    network = any_network.to_precision(torch.bfloat16)
    with torch.inference_mode():
        rounded = network.prepare(windows)
        logits = network.finish(rounded, 1.0).logits
        sparse = network.finish(rounded, middle_setting(network)).logits
    assert all(s.importance.dtype == torch.float32 for s in rounded.first.scores)
    assert logits.dtype == sparse.dtype == torch.bfloat16
    assert sparse.float().isfinite().all()
    assert (exact == logits.argmax(dim=1)).float().mean() > 0.95


@pytest.mark.parametrize("setting", [0.0, -0.1, 1.01, float("nan")])
def test_a_setting_out_of_range_is_refused(windows: Tensor, setting: float) -> None:
    with pytest.raises(ValueError, match="setting"):
        make_network(small_config())(windows, setting)


def test_a_window_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="windows are"):
        make_network(small_config())(torch.zeros(1, 1, 32, 32, 32))
