"""APFormer against the paper (Lin et al., TMI 2023): positions, both gates, both losses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from napari_sparseseg.network import SparseUNETR
from napari_sparseseg.network.blocks import block_macs
from napari_sparseseg.network.sparsifiers import Scores, make_control, make_sparsifier
from napari_sparseseg.network.sparsifiers.apformer import (
    RelativePositions,
    keep_dependencies,
    self_regularisation,
)
from napari_sparseseg.network.sparsifiers.base import AttentionNote, AttentionPlace
from tests.network.conftest import (
    layout_of,
    make_encoded,
    make_network,
    scored,
    small_completion,
    small_config,
)


def muting_network(**options: bool) -> SparseUNETR:
    return make_network(
        small_config(
            sparsifier="apformer", completion=small_completion("preserve"), options=options
        )
    )


def test_relative_positions_by_hand() -> None:
    """Tokens at (0, 1, 2) and (1, 0, 2) of a 2 x 3 x 4 grid, led by a class token."""
    module = RelativePositions((2, 3, 4), heads=2)
    # offsets reach from (-1, -2, -3) to (1, 2, 3): 3 * 5 * 7 rows of the table
    assert module.table.shape == (105, 2)
    assert module.sigma.tolist() == pytest.approx([0.1, 0.2])
    with torch.no_grad():
        module.sigma.copy_(torch.tensor([0.5, 2.0]))
        module.table.copy_(torch.arange(210.0).view(105, 2) / 10)
        bias = module(torch.tensor([-1, 0 * 12 + 1 * 4 + 2, 1 * 12 + 0 * 4 + 2]))
    assert bias.shape == (2, 3, 3)
    squared = (1 / 2) ** 2 + (1 / 3) ** 2 + 0  # in units of the grid's edges
    # offset (-1, 1, 0) from token 0 to 1, back (1, -1, 0), and none to itself
    rows = {(1, 2): (0 * 5 + 3) * 7 + 3, (2, 1): (2 * 5 + 1) * 7 + 3}
    rows |= {(1, 1): (1 * 5 + 2) * 7 + 3, (2, 2): (1 * 5 + 2) * 7 + 3}
    for (i, j), row in rows.items():
        for head, sigma in enumerate((0.5, 2.0)):
            prior = math.exp(-(squared if i != j else 0) / (2 * sigma**2 + 1e-6))
            expected = (2 * row + head) / 10 + 0.01 * prior
            assert bias[head, i, j].item() == pytest.approx(expected, abs=1e-5)


def test_a_class_token_has_no_position() -> None:
    module = RelativePositions((2, 3, 4), heads=2)
    with torch.no_grad():
        module.table.normal_()
        bias = module(torch.tensor([-1, 0, 7, 23]))
    assert not bias[:, 0].any()
    assert not bias[:, :, 0].any()
    assert bias[:, 1:, 1:].all()


def test_an_untrained_table_leaves_the_gaussian_prior() -> None:
    module = RelativePositions((4, 6, 4), heads=3)
    with torch.no_grad():
        bias = module(torch.arange(96))
    assert bias.amax().item() == pytest.approx(0.01)
    assert torch.allclose(bias, bias.transpose(1, 2))
    near, far = 1, 95
    assert bias[0, 0, near] > bias[0, 0, far]
    assert bias[2, 0, near] > bias[0, 0, near]  # wider heads see further


def test_self_regularisation_of_a_symmetric_focused_attention_is_its_floor() -> None:
    """No asymmetry counts as 0.1; a query with no entropy costs nothing."""
    assert self_regularisation(torch.eye(3)[None]).item() == pytest.approx(0.8 * 0.1, abs=1e-6)


def test_self_regularisation_by_hand() -> None:
    """Two heads of 2 x 2: one asymmetric and focused, one uniform."""
    attention = torch.tensor([[[0.9, 0.1], [0.6, 0.4]], [[0.5, 0.5], [0.5, 0.5]]])
    # n (A - A^T) off the diagonal: 2 (0.6 - 0.1) = 1, which smooth L1 halves; head two has none
    asymmetry = (0.5 + 0.5) / 8
    entropies = [
        -(0.9 * math.log2(0.9) + 0.1 * math.log2(0.1)),
        -(0.6 * math.log2(0.6) + 0.4 * math.log2(0.4)),
    ]
    focus = (max(0, min(entropies) - 0.9) + max(0, 1 - 0.9)) / 2 / 0.1
    expected = 0.8 * asymmetry + 0.2 * focus
    assert self_regularisation(attention).item() == pytest.approx(expected, abs=1e-6)


def test_asymmetry_by_hand() -> None:
    """3 x 3: differences n (A - A^T) of 0.6, 1.5 and 1.5 under smooth L1; entropy by log2 3."""
    rows = [[0.2, 0.5, 0.3], [0.3, 0.1, 0.6], [0.8, 0.1, 0.1]]
    asymmetry = 2 * (0.5 * 0.6**2 + (1.5 - 0.5) + (1.5 - 0.5)) / 9
    least = min(-sum(p * math.log2(p) for p in row) / math.log2(3) for row in rows)
    assert least < 0.9  # the last row is focused, which costs nothing
    loss = self_regularisation(torch.tensor([rows])).item()
    assert loss == pytest.approx(0.8 * asymmetry, abs=1e-6)


def test_dependencies_by_hand() -> None:
    """theta = min + level sigmoid(-2) (max - min)."""
    attention = torch.tensor([[[0.5, 0.3, 0.15, 0.05], [0.25, 0.25, 0.25, 0.25]]])
    gamma = 1 / (1 + math.exp(2))
    assert gamma == pytest.approx(0.119, abs=1e-3)
    # levels 0.5 and 0: theta_0 = 0.05 + 0.5 * 0.119 * 0.45 = 0.077, theta_1 = 0.25
    sparse, kept = keep_dependencies(attention, torch.tensor([[[0.5], [0.0]]]))
    assert kept[0, 0].tolist() == [True, True, True, False]
    total = 0.95 + 1e-6
    assert sparse[0, 0].tolist() == pytest.approx([0.5 / total, 0.3 / total, 0.15 / total, 0])
    assert not kept[0, 1].any()  # nothing is above its own minimum
    assert sparse[0, 1].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("level", "kept"), [(0.0, 4), (0.3, 3), (0.9, 2)])
def test_a_higher_level_drops_more(level: float, kept: int) -> None:
    """Attention 0, 0.02, 0.08, 0.3, 0.6: thresholds 0, 0.021 and 0.064."""
    attention = torch.tensor([[[0.0, 0.02, 0.05, 0.33, 0.6]]])
    assert int(keep_dependencies(attention, torch.tensor([[[level]]]))[1].sum()) == kept


def test_the_query_gate_by_hand() -> None:
    """P(background) = sigmoid of the logits' difference: 0.27, 0.73, 0.9; pruned from t on."""
    rule: Any = make_sparsifier(small_config(sparsifier="apformer"))
    logits = torch.tensor([[0.0, 1.0], [1.0, 0.0], [math.log(9), 0.0]])
    rule.gate.forward = lambda tokens: logits
    scores = rule.score(0, torch.zeros(3, 24))
    foreground = [math.e / (1 + math.e), 1 / (1 + math.e), 0.1]
    assert scores.importance.tolist() == pytest.approx(foreground, abs=1e-6)
    assert rule.decide(0, scores, 0.95).keep.tolist() == [True, True, True]
    assert rule.decide(0, scores, 0.8).keep.tolist() == [True, True, False]
    assert rule.decide(0, scores, 0.5).keep.tolist() == [True, False, False]
    assert rule.decide(0, scores, 0.1).keep.tolist() == [False, False, False]
    sure = Scores(torch.zeros(2))
    assert rule.decide(0, sure, 1.0).keep.all()  # 1 prunes none, whatever the probability


def attend(
    rule: Any, attending: Tensor | None, setting: float, block: int = 4
) -> tuple[Tensor, Tensor, Tensor, list[AttentionNote]]:
    """Let 11 tokens and a class token attend to one-hot values: the result is the attention.

    Also return the full attention by the formula, what its thresholds leave of it, and the notes.
    """
    torch.manual_seed(1)
    q, k = 2 * torch.randn(2, 2, 12, 12)
    v = torch.eye(12).expand(2, 12, 12)
    positions = torch.tensor([-1, 0, 3, 4, 5, 17, 40, 41, 60, 77, 90, 95])
    notes: list[AttentionNote] = []
    place = AttentionPlace(block, 0, positions, attending, setting, notes)
    with torch.no_grad():
        out = rule.attention(place)(q, k, v)
        bias = rule.positions[block](positions)
    full = (torch.einsum("hid,hjd->hij", q, k) / math.sqrt(12) + bias).softmax(dim=2)
    level = 1 / (1 + (-q @ rule.levels[block].weight.detach().T).exp())
    least, most = full.amin(dim=2, keepdim=True), full.amax(dim=2, keepdim=True)
    theta = least + level / (1 + math.exp(2)) * (most - least)
    return out, full, torch.where(full > theta, full, 0.0), notes


def adaptive_attention() -> Any:
    return muting_network().sparsifier


def test_pruned_queries_and_dependencies_follow_the_formula() -> None:
    rule = adaptive_attention()
    attending = torch.arange(12) % 3 != 1
    out, _, sparse, _ = attend(rule, attending, 0.5)
    expected = sparse / (sparse.sum(dim=2, keepdim=True) + 1e-6)
    assert torch.allclose(out[:, attending], expected[:, attending], atol=1e-5)
    assert not out[:, ~attending].any()  # rows of the attention; keys and values stay
    assert out[:, attending][:, :, ~attending].any()
    assert (out[:, attending] == 0).any()


def test_the_record_of_dependencies_is_the_attention_that_was_used() -> None:
    rule = adaptive_attention()
    attending = torch.arange(12) % 3 != 1
    out, _, _, notes = attend(rule, attending, 0.5)
    (note,) = notes
    assert (note.block, note.window) == (4, 0)
    assert note.kept is not None
    assert torch.equal(note.kept.long(), (out > 0).sum(dim=0))
    assert not note.kept[~attending].any()
    assert {0, 1, 2} == set(note.kept[attending].unique().tolist())


def test_only_the_last_block_is_recorded_and_nothing_without_gates() -> None:
    rule = adaptive_attention()
    assert attend(rule, torch.ones(12, dtype=torch.bool), 0.5, block=3)[3] == []
    assert attend(rule, torch.ones(12, dtype=torch.bool), 1.0)[3] == []
    assert attend(rule, None, 0.5)[3] == []


@pytest.mark.parametrize("gates", ["open", "not yet decided"])
def test_with_the_gates_off_only_the_positions_are_added(gates: str) -> None:
    rule = adaptive_attention()
    everyone = torch.ones(12, dtype=torch.bool)
    out, full, _, _ = attend(rule, *((everyone, 1.0) if gates == "open" else (None, 0.5)))
    assert torch.allclose(out, full, atol=1e-5)


def test_a_muted_token_gets_exactly_zero_from_attention(windows: Tensor) -> None:
    """And goes through the MLP all the same; the others gather something."""
    network = muting_network()
    gathered: list[Tensor] = []
    blocks: Any = network.encoder.blocks
    for block in blocks:
        block.attention.register_forward_hook(lambda *call: gathered.append(call[2]))
    with torch.inference_mode():
        output = network.finish(network.prepare(windows), 0.4)
        record = network.trace(output.encoded)
    layout = output.encoded.layout
    muted = torch.stack([r.left_stage == 1 for r in record]).flatten()[layout.cells]
    assert 0 < muted.sum() < len(muted)
    assert len(gathered) == 5
    for number, out in enumerate(gathered):
        silent = ~out[layout.rows].any(dim=1)
        assert torch.equal(silent, muted if number else torch.zeros_like(muted))
    hidden = (*output.encoded.hidden, output.encoded.x)
    for before, after in zip(hidden, hidden[1:], strict=False):
        assert (before != after).any(dim=1)[layout.rows].all()


def test_a_muted_token_that_rests_stays_as_it_is(windows: Tensor) -> None:
    """With the option it skips the MLP too; who attends is changed by every block."""
    network = muting_network(rest=True)
    with torch.inference_mode():
        output = network.finish(network.prepare(windows), 0.4)
    encoded = output.encoded
    keep = torch.cat([w.decision.keep for w in encoded.scored[0]])
    hidden = (*encoded.hidden, encoded.x)
    for before, after in zip(hidden, hidden[1:], strict=False):
        assert torch.equal((before != after).any(dim=1)[encoded.layout.rows], keep)


def test_resting_saves_the_mlp_by_hand() -> None:
    """10 rows of width 6, 4 of them attending, MLP factor 4; width squared is 36.

    Keys, values and queries of all: 3 * 36 * 10; output layer 36 * 4; MLP 8 * 36 of all 10 or of
    the 4; both products 2 * 6 * 10 * 4.
    """
    common = 3 * 36 * 10 + 36 * 4 + 2 * 6 * 10 * 4
    assert block_macs((10,), 6, 4, (4,)) == common + 8 * 36 * 10
    assert block_macs((10,), 6, 4, (4,), others_rest=True) == common + 8 * 36 * 4


def test_random_queries_rest_where_those_of_the_rule_do() -> None:
    for rest in (False, True):
        network = muting_network(rest=rest)
        assert make_control("random", network.sparsifier, seed=1).muted_rest is rest


@pytest.mark.parametrize("rest", [False, True])
def test_muted_tokens_are_still_attended_to(windows: Tensor, rest: bool) -> None:
    """Keys and values are never pruned: what a muted token holds reaches the others."""
    network = muting_network(rest=rest)
    with torch.inference_mode():
        prepared = network.prepare(windows)
        before = network.finish(prepared, 0.4).encoded
        keep = torch.cat([w.decision.keep for w in before.scored[0]])
        muted = before.layout.rows[~keep]
        prepared.first.stream.x[muted[0]] += 1.0
        after = network.finish(prepared, 0.4).encoded
    moved = (before.x != after.x).any(dim=1)
    assert moved[before.layout.rows[keep]].any()
    assert moved[muted].tolist() == [True] + [False] * (len(muted) - 1)


def test_the_trace_shows_the_kept_dependencies_of_its_tokens(windows: Tensor) -> None:
    network = muting_network()
    with torch.inference_mode():
        output = network.finish(network.prepare(windows), 0.4)
        records = network.trace(output.encoded)
        dense = network.trace(network.finish(network.prepare(windows), 1.0).encoded)
    for record, count in zip(records, output.encoded.layout.counts, strict=True):
        assert record.kept is not None
        assert record.kept.shape == (count, count)
        assert len(record.tokens) == count
        attended = record.ran[-1].flatten()[record.tokens]
        assert torch.equal(record.kept.any(dim=1), attended)
        assert record.kept.max() <= network.config.heads
        assert torch.equal(record.tokens, (~record.air).flatten().nonzero()[:, 0])
    assert all(record.kept is None for record in dense)


def test_loss_by_hand() -> None:
    """0.1 / 0.8 of each term: the mean penalty, and Dice + cross-entropy of the query gate."""
    rule = make_sparsifier(small_config(sparsifier="apformer"))
    layout = layout_of(3)
    logits = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, -1.0]])
    mix = torch.tensor([[511 / 512, 1 / 512, 0, 0], [1.0, 0, 0, 0], [0.2, 0, 0.8, 0]])
    foreground = [1, 0, 1]  # any voxel counts
    notes = tuple(AttentionNote(b, 0, penalty=torch.tensor(p)) for b, p in ((0, 0.2), (1, 0.6)))
    judged = Scores(logits.softmax(dim=1)[:, 1], logits)
    encoded = make_encoded(layout, scored=(scored(layout, [judged]),), notes=notes)
    p = [1 / (1 + math.exp(b - f)) for b, f in logits.tolist()]
    overlap = sum(a * f for a, f in zip(p, foreground, strict=True))
    dice = 1 - (2 * overlap + 1e-5) / (sum(p) + sum(foreground) + 1e-5)
    entropy = -sum(math.log(a if f else 1 - a) for a, f in zip(p, foreground, strict=True)) / 3
    expected = 0.1 / 0.8 * (0.4 + dice + entropy)
    assert rule.loss(encoded, mix).item() == pytest.approx(expected, abs=1e-5)


def test_the_penalty_looks_at_attention_without_positions(windows: Tensor) -> None:
    """One for each block and window, whatever the tables hold, dense steps included."""
    network = muting_network().train()
    queries: list[Tensor] = []
    first: Any = network.encoder.blocks[0]
    first.attention.qkv.register_forward_hook(lambda *call: queries.append(call[2]))
    for setting in (1.0, 0.4):
        notes = network.finish(network.prepare(windows), setting).encoded.notes
        assert [(n.block, n.window) for n in notes] == [(b, w) for b in range(5) for w in (0, 1)]
        q, k, _ = queries.pop()[:65].view(65, 3, 2, 12).permute(1, 2, 0, 3)
        plain = (q @ k.transpose(1, 2) / math.sqrt(12)).softmax(dim=2)
        assert notes[0].penalty is not None
        assert notes[0].penalty.item() == pytest.approx(self_regularisation(plain).item(), abs=1e-5)


def test_gradients(windows: Tensor) -> None:
    """The gate learns by the loss, positions by the segmentation, queries by both.

    The levels get none: a dependency is kept by a comparison, as released.
    """
    network = muting_network().train()
    rule: Any = network.sparsifier
    blocks: Any = network.encoder.blocks
    output = network.finish(network.prepare(windows), 0.4)
    labels = torch.arange(len(output.encoded.layout.cells)) % 4
    mix = nn.functional.one_hot(labels, 4).float()
    output.logits.square().mean().backward(retain_graph=True)
    linear = rule.gate[1]
    assert linear.weight.grad is None
    for positions in rule.positions:
        for parameter in (positions.table, positions.sigma):
            assert parameter.grad is not None
            assert parameter.grad.any()
    network.zero_grad()
    rule.loss(output.encoded, mix).backward()
    assert linear.weight.grad is not None
    assert linear.weight.grad.any()
    assert all(block.attention.qkv.weight.grad.any() for block in blocks)
    assert all(level.weight.grad is None for level in rule.levels)
