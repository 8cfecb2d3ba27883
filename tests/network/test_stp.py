"""STP against the paper (Zhou et al., IPMI 2023): formulas by hand, gradients, sizes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from napari_sparseseg.network import NetworkConfig, SparseUNETR
from napari_sparseseg.network.blocks import Block, block_macs, sincos_positions
from napari_sparseseg.network.sparsifiers import make_sparsifier
from napari_sparseseg.network.sparsifiers.stp import ScoreNetwork
from napari_sparseseg.network.sparsifiers.topk import keep_best, soft_top_k, stage_quota
from tests.network.conftest import make_network, small_config


def gelu(x: float) -> float:
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


def simple_scorer(scorer: Any) -> None:
    """Width 4, with weights that pass single numbers through every layer."""
    with torch.no_grad():
        for parameter in scorer.parameters():
            parameter.zero_()
        scorer.embed[0].weight.fill_(1.0)
        scorer.embed[1].weight.copy_(torch.eye(4))  # h = GELU(LayerNorm(x))
        scorer.rate[0].weight[0, 0] = 1.0  # the first local feature ...
        scorer.rate[0].weight[0, 2] = 2.0  # ... plus twice the first global one
        scorer.rate[2].weight[0, 0] = 1.0
        scorer.rate[4].weight[0, 0] = 1.0


def test_score_by_hand() -> None:
    scorer = ScoreNetwork(4)
    simple_scorer(scorer)
    # LayerNorm of (3, 1, 1, -1) and (1, -1, 3, 1): mean 1, variance 2
    n = 2 / math.sqrt(2 + 1e-5)
    shared = (gelu(0.0) + gelu(n)) / 2  # the mean of feature 2 over both tokens
    expected = [gelu(gelu(local + 2 * shared)) for local in (gelu(n), gelu(0.0))]
    tokens = torch.tensor([[3.0, 1.0, 1.0, -1.0], [1.0, -1.0, 3.0, 1.0]])
    assert scorer(tokens).tolist() == pytest.approx(expected, abs=1e-6)


def test_importance_is_the_log_of_the_sigmoid_of_the_score() -> None:
    config = small_config(dim=4)
    stp: Any = make_sparsifier(config)
    simple_scorer(stp.scorers[1])
    tokens = torch.tensor([[3.0, 1.0, 1.0, -1.0], [1.0, -1.0, 3.0, 1.0]])
    n = 2 / math.sqrt(2 + 1e-5)
    s = [gelu(gelu(local + gelu(0.0) + gelu(n))) for local in (gelu(n), gelu(0.0))]
    expected = [-math.log(1 + math.exp(-value)) for value in s]
    assert stp.score(1, tokens).importance.tolist() == pytest.approx(expected, abs=1e-6)


def test_quota_follows_the_released_settings() -> None:
    """BTCV prunes 90 % at each stage, BraTS 75 %, of the tokens still alive, rounded down."""
    for tokens, keep, expected in ((1728, 0.1, [172, 17, 1]), (4096, 0.25, [1024, 256, 64])):
        alive, seen = tokens, []
        for _ in range(3):
            alive = stage_quota(alive, keep**3, 3)
            seen.append(alive)
        assert seen == expected
    assert stage_quota(450, 1.0, 3) == 450
    assert stage_quota(1, 0.001, 3) == 1
    assert stage_quota(0, 0.5, 3) == 0


def test_best_tokens_are_kept_and_ties_go_in_raster_order() -> None:
    scores = torch.tensor([0.1, 0.7, 0.3, 0.7, 0.3])
    assert keep_best(scores, 2).tolist() == [False, True, False, True, False]
    assert keep_best(scores, 3).tolist() == [False, True, True, True, False]


def test_gate_is_the_mask_with_the_gradient_of_a_softmax() -> None:
    torch.manual_seed(3)
    importance = torch.tensor([0.0, -1.0, -2.0], requires_grad=True)
    keep, gate = soft_top_k(importance, 1)
    torch.manual_seed(3)
    noise = -torch.empty(3).exponential_().log()
    p = torch.softmax(importance.detach() + noise, dim=0)
    assert gate.detach().tolist() == pytest.approx(keep.float().tolist(), abs=1e-6)
    assert keep.sum() == 1
    assert keep[p.argmax()]
    gate[0].backward()
    # d p_0 / d a_j = p_0 (1[j = 0] - p_j)
    expected = [float(p[0] * (float(j == 0) - p[j])) for j in range(3)]
    assert importance.grad is not None
    assert importance.grad.tolist() == pytest.approx(expected, abs=1e-6)


def test_sampling_prefers_high_scores() -> None:
    """Gumbel top-1 draws token i with probability sigmoid(s_i) / sum: here 3 : 1."""
    torch.manual_seed(0)
    importance = torch.tensor([0.75, 0.25]).log()
    drawn = sum(int(soft_top_k(importance, 1)[0][0]) for _ in range(4000))
    assert 0.72 < drawn / 4000 < 0.78


def test_gradient_of_the_segmentation_reaches_every_scorer(windows: Tensor) -> None:
    """There is no other loss; pruned tokens feel it through the completion alone."""
    network = make_network(small_config()).train()
    output = network.finish(network.prepare(windows), 0.3)
    gates: list[Any] = [w.decision.gate for stage in output.encoded.scored for w in stage]
    for gate in gates:
        gate.retain_grad()
    labels = torch.ones(len(output.encoded.layout.cells), 4) / 4
    assert float(network.sparsifier.loss(output.encoded, labels)) == 0
    output.logits.square().mean().backward()
    for scorer in network.sparsifier.scorers:  # type: ignore[union-attr]
        last = scorer.rate[-1].weight.grad
        assert last is not None
        assert last.abs().sum() > 0
    for gate in gates:
        pruned = gate.detach() < 0.5
        assert gate.grad[pruned].any()
        assert gate.grad[~pruned].any()


def test_gradient_of_the_gates_by_hand(windows: Tensor) -> None:
    """With blocks that change nothing a token's features are its embedding times its gates.

    Kept at stage s: times ``m_1 ... m_s``, the alive mask; pruned there: ``1 - m_1 ... m_s``. A
    token kept to the end is ``x m_1 (m_1 m_2) (m_1 m_2 m_3)``.
    """
    network = make_network(small_config()).train()
    blocks: Any = network.encoder.blocks
    with torch.no_grad():
        for block in blocks:
            for linear in (block.attention.proj, block.mlp[2]):
                linear.weight.zero_()
                linear.bias.zero_()
    encoded = network.finish(network.prepare(windows), 0.3).encoded
    gates: list[Any] = [[w.decision.gate for w in stage] for stage in encoded.scored]
    for gate in sum(gates, []):
        gate.retain_grad()
    x = encoded.x.detach().sum(dim=1)
    encoded.x.sum().backward()
    for stage, scored in enumerate(encoded.scored):
        for window, gate in zip(scored, gates[stage], strict=True):
            left, value = encoded.left[window.rows], x[window.rows]
            kept_to_the_end, pruned_here = left == 0, left == stage + 1
            expected = (3 - stage) * value[kept_to_the_end]
            assert torch.allclose(gate.grad[kept_to_the_end], expected, atol=1e-4)
            assert torch.allclose(gate.grad[pruned_here], -value[pruned_here], atol=1e-4)


def test_training_shortens_the_sequence_without_changing_values(windows: Tensor) -> None:
    """Multiplying by gates of value 1 must not move features: compare with inference."""
    network = make_network(small_config())
    with torch.no_grad():
        still = network(windows, 1.0)
        moving = network.train()(windows, 1.0)
        lengths = network.finish(network.prepare(windows), 0.3).encoded.log.lengths
    assert (still - moving).abs().max() <= 1e-5
    assert sum(lengths[-1]) < sum(lengths[0])


def test_sampled_gates_do_not_move_features(windows: Tensor) -> None:
    """Gates of value 1 at every stage: inference with the tokens that training drew agrees."""
    network = make_network(small_config()).train()
    with torch.no_grad():
        drawn = network.finish(network.prepare(windows), 0.3)
        decisions = {
            (stage, len(w.rows)): w.decision
            for stage, scored in enumerate(drawn.encoded.scored)
            for w in scored
        }
        network.eval()
        network.sparsifier.decide = (  # type: ignore[method-assign]
            lambda stage, scores, setting: decisions[stage, len(scores.importance)]
        )
        replayed = network.finish(network.prepare(windows), 0.3)
    assert (drawn.logits - replayed.logits).abs().max() <= 1e-4


def test_positions_by_hand() -> None:
    """Width 12: two frequencies, 1 and 1/100, a sine and a cosine each, for every axis."""
    code = sincos_positions((2, 3, 4), 12)[1 * 12 + 2 * 4 + 3]
    expected: list[float] = []
    for place in (1, 2, 3):
        expected += [math.sin(place), math.sin(place / 100)]
        expected += [math.cos(place), math.cos(place / 100)]
    assert code.tolist() == pytest.approx(expected, abs=1e-6)


def test_block_operations_by_hand() -> None:
    """12 squares of the width per row, and two products of 3 x 3 and 2 x 2 attention."""
    assert block_macs((3, 2), dim=10) == 12 * 100 * 5 + 2 * 10 * (9 + 4)
    # a query less in the first window: one output row, and 2 x 3 instead of 3 x 3
    assert block_macs((3, 2), 10, attending=(2, 2)) == 100 * (11 * 5 + 4) + 2 * 10 * (6 + 4)


def test_attention_stays_inside_a_window() -> None:
    torch.manual_seed(0)
    block = Block(24, 2).eval()
    x = torch.randn(9, 24)
    with torch.no_grad():
        packed = block(x, (4, 5))
        alone = torch.cat([block(x[:4], (4,)), block(x[4:], (5,))])
    assert torch.allclose(packed, alone, atol=1e-6)


def test_published_size() -> None:
    """The default is the published BTCV network; parameters and operations as recomputed.

    106.3 M parameters, 16.8 GMACs a dense block, 18.9 for the completion, 55.8 for the decoder,
    131.9 in all at 90 % pruning a stage (the README's 146.6 counts strided deconvolutions
    eightfold).
    """
    with torch.device("meta"):
        network = SparseUNETR(NetworkConfig())
    parameters = sum(p.numel() for p in network.parameters())
    assert parameters / 1e6 == pytest.approx(106.3, abs=0.1)
    assert block_macs((1729,), 768) / 1e9 == pytest.approx(16.8, abs=0.05)
    decoder = network.decoder.macs(1728, 1728, 1728, 0)
    completion = network.completion.macs((1729,), 1729)
    assert completion / 1e9 == pytest.approx(18.9, abs=0.05)
    assert decoder / 1e9 == pytest.approx(55.8, abs=0.2)
    alive = [1728, 172, 17, 1]
    blocks = sum(3 * block_macs((n + 1,), 768) for n in alive)
    scoring = sum(network.sparsifier.macs(stage, n) for stage, n in enumerate(alive[:3]))
    embedding = 96**3 * 768
    total = blocks + scoring + embedding + completion + decoder
    assert total / 1e9 == pytest.approx(131.9, abs=0.4)
