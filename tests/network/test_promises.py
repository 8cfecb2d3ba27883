"""The promises of the design that the network has to keep."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from napari_sparseseg.network import SparseUNETR
from napari_sparseseg.network.sparsifiers import make_sparsifier
from napari_sparseseg.network.sparsifiers.topk import keep_best, stage_quota
from tests.network.conftest import make_network, small_config


def dense_twin(network: SparseUNETR) -> SparseUNETR:
    twin = SparseUNETR(replace(network.config, sparsifier="dense")).eval()
    shared = {k: v for k, v in network.state_dict().items() if not k.startswith("sparsifier.")}
    twin.load_state_dict(shared)
    return twin


def test_keep_ratio_one_is_the_dense_twin(network: SparseUNETR, windows: Tensor) -> None:
    with torch.inference_mode():
        sparse, dense = network(windows, 1.0), dense_twin(network)(windows, 0.1)
    assert (sparse - dense).abs().max() <= 1e-4
    assert dense.std() > 0.1


def test_pruning_changes_the_answer(network: SparseUNETR, windows: Tensor) -> None:
    with torch.inference_mode():
        full, pruned = network(windows, 1.0), network(windows, 0.1)
    assert (full - pruned).abs().max() > 1e-2


@pytest.mark.parametrize("keep_ratio", [1.0, 0.5, 0.1, 0.001])
def test_the_trace_tells_the_rows_that_each_block_was_given(
    network: SparseUNETR, windows: Tensor, keep_ratio: float
) -> None:
    """Promise 2: follow every row through the blocks by a tag in its residual stream."""
    given_rows: list[int] = []

    def count(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        given_rows.append(len(args[0]))

    hooks = [block.register_forward_pre_hook(count) for block in network.encoder.blocks]
    with torch.inference_mode():
        output = network.finish(network.prepare(windows), keep_ratio)
    for hook in hooks:
        hook.remove()
    records = network.trace(output.encoded)
    for number, rows in enumerate(given_rows):
        ran = sum(int((r.depth > number).sum()) for r in records)
        assert ran == rows - len(windows)  # one class token a window
    for record in records:
        assert torch.equal(record.depth == 0, record.air)
        stage_depth = torch.tensor([5, 1, 2, 4])  # blocks before stages 1, 2, 3; all five
        expected = stage_depth[record.pruned_stage.long()]
        assert torch.equal(record.depth[~record.air], expected[~record.air].to(torch.uint8))


def test_the_trace_names_the_very_tokens_that_ran(windows: Tensor) -> None:
    """Promise 2: a token that the trace calls pruned at stage 1 cannot feel the last block."""
    network = make_network(small_config())
    with torch.inference_mode():
        prepared = network.prepare(windows)
        before = network.finish(prepared, 0.3)
        record = network.trace(before.encoded)
        for parameter in network.encoder.blocks[-1].parameters():
            parameter.mul_(-1.0)
        after = network.finish(prepared, 0.3)
    moved = torch.zeros(before.encoded.layout.size, dtype=torch.bool)
    for old, new in zip(before.encoded.groups, after.encoded.groups, strict=True):
        moved[old.rows] = (old.x != new.x).any(dim=1)
    cells = before.encoded.layout.cells
    kept = torch.stack([r.depth == 5 for r in record]).flatten()[cells]
    assert torch.equal(moved[before.encoded.layout.rows], kept)


@pytest.mark.parametrize("keep_ratio", [1.0, 0.3])
def test_operations_are_those_that_torch_counts(
    network: SparseUNETR, windows: Tensor, keep_ratio: float
) -> None:
    with (
        torch.inference_mode(),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        output = network.finish(network.prepare(windows), keep_ratio)
    assert network.macs(output.encoded).total == counter.get_total_flops() // 2
    dense = network.dense_macs(output.encoded)
    assert dense.decoder == network.macs(output.encoded).decoder
    assert (dense.encoder > network.macs(output.encoded).encoder) == (keep_ratio < 1)


def test_observing_changes_nothing(network: SparseUNETR, windows: Tensor) -> None:
    """Promise 3: reading the trace between two runs leaves the logits bit-identical."""
    with torch.inference_mode():
        prepared = network.prepare(windows)
        unobserved = network.finish(prepared, 0.3).logits
        output = network.finish(prepared, 0.3)
        network.trace(output.encoded)
        again = network.finish(prepared, 0.3).logits
    assert torch.equal(unobserved, output.logits)
    assert torch.equal(unobserved, again)


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


def test_kept_tokens_of_the_network_are_nested(network: SparseUNETR, windows: Tensor) -> None:
    with torch.inference_mode():
        prepared = network.prepare(windows)
        went_on = []
        for ratio in (0.1, 0.3, 0.5, 0.9):
            records = network.trace(network.finish(prepared, ratio).encoded)
            went_on.append(torch.stack([(r.pruned_stage != 1) & ~r.air for r in records]))
    for low, high in zip(went_on, went_on[1:], strict=False):
        assert not (low & ~high).any()
        assert low.sum() < high.sum()


def test_a_window_does_not_depend_on_its_batch(network: SparseUNETR, windows: Tensor) -> None:
    """Promise 6."""
    with torch.inference_mode():
        together = network(windows, 0.3)
        alone = torch.cat([network(w[None], 0.3) for w in windows])
        reversed_order = network(windows.flip(0), 0.3).flip(0)
    assert (together - alone).abs().max() <= 1e-4
    assert (together - reversed_order).abs().max() <= 1e-4


@pytest.mark.parametrize("name", ["random", "stp"])
def test_controls_prune_as_many_tokens(windows: Tensor, name: str) -> None:
    network = make_network(small_config())
    with torch.inference_mode():
        prepared = network.prepare(windows)
        own = network.finish(prepared, 0.3).encoded.log.lengths
        network.sparsifier = make_sparsifier(name, 24, 3).eval()
        other = network.finish(network.prepare(windows), 0.3).encoded.log.lengths
    assert own == other


def test_air_never_enters_and_is_background(network: SparseUNETR, windows: Tensor) -> None:
    with torch.inference_mode():
        output = network.finish(network.prepare(windows), 1.0)
    record = network.trace(output.encoded)[1]
    air = record.air.repeat_interleave(8, 0).repeat_interleave(8, 1).repeat_interleave(8, 2)
    assert air.any()
    assert (output.logits[1].argmax(dim=0)[air] == 0).all()
    assert torch.isnan(record.importance[:, record.air]).all()


def test_a_window_of_air_has_no_tokens(network: SparseUNETR) -> None:
    with torch.inference_mode():
        output = network.finish(network.prepare(torch.zeros(1, 1, 32, 48, 32)), 0.3)
    assert output.encoded.layout.counts == (0,)
    assert (output.logits.argmax(dim=1) == 0).all()


@pytest.mark.parametrize("keep_ratio", [0.0, -0.1, 1.01, float("nan")])
def test_a_keep_ratio_out_of_range_is_refused(
    network: SparseUNETR, windows: Tensor, keep_ratio: float
) -> None:
    with pytest.raises(ValueError, match="keep ratio"):
        network(windows, keep_ratio)


def test_a_window_of_another_size_is_refused(network: SparseUNETR) -> None:
    with pytest.raises(ValueError, match="windows are"):
        network(torch.zeros(1, 1, 32, 32, 32))
