"""DToP against the paper (Tang et al., ICCV 2023): grades, exits, canvas, losses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from napari_sparseseg.network import DecoderConfig, SparseUNETR
from napari_sparseseg.network.decoding import Decoded
from napari_sparseseg.network.fields import WholeField
from napari_sparseseg.network.sparsifiers import Decision, Scores, dtop, make_sparsifier
from napari_sparseseg.network.sparsifiers.dtop import CONTEXT, EarlyExit, Grades, GradingHead
from tests.network.conftest import (
    layout_of,
    make_encoded,
    make_network,
    scored,
    small_completion,
    small_config,
)


def exit_network(**changes: object) -> SparseUNETR:
    config = {"sparsifier": "dtop", "completion": small_completion("preserve")} | changes
    return make_network(small_config(**config))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def layer_norm(x: list[float]) -> list[float]:
    mean = sum(x) / len(x)
    variance = sum((v - mean) ** 2 for v in x) / len(x)
    return [(v - mean) / math.sqrt(variance + 1e-5) for v in x]


def test_mask_and_presence_by_hand() -> None:
    """Two classes, two heads of width 2; the layers pass the class queries through their norms.

    Mask logit: mean over the heads of ``q_c . k_i / sqrt(2)``, of the last layer.
    """
    head: Any = GradingHead(dim=8, inner=4, classes=2, heads=2).eval()
    queries = [[2.0, 0.0, -1.0, -1.0], [0.0, 1.0, 0.0, -1.0]]
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        head.embed[0].weight[:, :4] = torch.eye(4)
        head.embed[1].weight.fill_(1.0)
        head.queries.copy_(torch.tensor(queries))
        for layer in head.layers:
            for norm in layer.norms:
                norm.weight.fill_(1.0)
            layer.query.weight.copy_(torch.eye(4))
            layer.key.weight.copy_(3 * torch.eye(4))
        head.layers[0].key.weight.zero_()  # only the last layer's products count
        head.present.weight[0, 1] = 2.0
        head.present.bias[1] = 0.5
        tokens = torch.tensor([[3.0, 1, 1, -1, 9, 9, 9, 9], [1.0, -1, 3, 1, 9, 9, 9, 9]])
        masks, present = head(tokens)
    k = [layer_norm([3, 1, 1, -1]), layer_norm([1, -1, 3, 1])]
    for c, query in enumerate(queries):
        for _ in range(7):  # three norms in each of two layers, and one before the last products
            query = layer_norm(query)
        for i in range(2):
            first = 3 * (query[0] * k[i][0] + query[1] * k[i][1]) / math.sqrt(2)
            second = 3 * (query[2] * k[i][2] + query[3] * k[i][3]) / math.sqrt(2)
            assert masks[c, i].item() == pytest.approx((first + second) / 2, abs=1e-4)
        for _ in range(2):
            query = layer_norm(query)
        assert present[c].tolist() == pytest.approx([2 * query[1], 0.5], abs=1e-4)


def test_the_head_is_three_post_norm_layers() -> None:
    """Against the formulas with random weights: among queries, to tokens, feed-forward."""
    torch.manual_seed(0)
    head: Any = GradingHead(dim=12, inner=6, classes=3, heads=2).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    tokens = torch.randn(5, 12)

    def attention(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        mixed, products = [], []
        for h in (slice(0, 3), slice(3, 6)):
            products.append(q[:, h] @ k[:, h].T / math.sqrt(3))
            weights = products[-1].exp() / products[-1].exp().sum(dim=1, keepdim=True)
            mixed.append(weights @ v[:, h])
        return torch.cat(mixed, dim=1), sum(products) / 2  # type: ignore[return-value]

    with torch.no_grad():
        masks, present = head(tokens)
        q, x = head.queries, head.embed[1](tokens @ head.embed[0].weight.T + head.embed[0].bias)
        for layer in head.layers:
            a, (wq, wk, wv) = layer.among, layer.among.in_proj_weight.chunk(3)
            bq, bk, bv = a.in_proj_bias.chunk(3)
            beside, _ = attention(q @ wq.T + bq, q @ wk.T + bk, q @ wv.T + bv)
            q = layer.norms[0](q + a.out_proj(beside))
            seen, mask = attention(layer.query(q), layer.key(x), layer.value(x))
            q = layer.norms[1](q + layer.out(seen))
            inner = (q @ layer.mlp[0].weight.T + layer.mlp[0].bias).clamp_min(0)
            q = layer.norms[2](q + layer.mlp[2](inner))
    assert len(head.layers) == 3
    assert torch.allclose(masks, mask, atol=1e-4)
    assert torch.allclose(present, head.present(q), atol=1e-4)


def test_heads_are_half_as_wide_as_the_tokens_unless_said_otherwise() -> None:
    published: Any = exit_network().sparsifier
    assert published.graders[0].queries.shape == (4, 12)
    rule: Any = exit_network(options={"width": 6}).sparsifier
    assert all(head.queries.shape == (4, 6) for head in rule.graders)
    tokens = torch.randn(17, 24)
    for heads in (published, rule):
        heads.requires_grad_(False)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            heads.score(0, tokens)
        assert heads.macs(0, 17) == counter.get_total_flops() // 2
    assert rule.macs(0, 17) < published.macs(0, 17)


def test_confidence_is_presence_times_mask() -> None:
    """Two classes: P = (softmax of (0, ln 3))_0 = 1/4 and of (ln 4, 0): 4/5."""
    rule: Any = make_sparsifier(small_config(sparsifier="dtop", classes=2))
    masks = torch.tensor([[3.0, 2.0], [-2.0, -0.1]])
    present = torch.tensor([[0.0, math.log(3)], [math.log(4), 0.0]])
    rule.graders[1].forward = lambda tokens: (masks, present)
    scores = rule.score(1, torch.zeros(2, 24))
    table = [
        [0.25 * sigmoid(3.0), 0.25 * sigmoid(2.0)],
        [0.8 * sigmoid(-2.0), 0.8 * sigmoid(-0.1)],
    ]
    assert scores.details.label.tolist() == [0, 1]
    assert scores.importance.tolist() == pytest.approx([table[0][0], table[1][1]], abs=1e-6)


def decide(confidence: list[float], label: list[int], threshold: float) -> list[bool]:
    rule = make_sparsifier(small_config(sparsifier="dtop"))
    grades = Grades(torch.empty(0), torch.empty(0), torch.tensor(label))
    return rule.decide(0, Scores(torch.tensor(confidence), grades), threshold).keep.tolist()


def test_confident_tokens_exit_but_for_five_of_each_class() -> None:
    assert CONTEXT == 5
    # class 1: seven above 0.9, of which the best five stay; class 2: two, which both stay
    confidence = [0.95, 0.99, 0.91, 0.97, 0.96, 0.98, 0.94, 0.5, 0.92, 0.93, 0.2]
    label = [1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3]
    keep = [True, True, False, True, True, True, False, True, True, True, True]
    assert decide(confidence, label, 0.9) == keep


def test_a_confidence_at_the_threshold_does_not_exit() -> None:
    confidence = [0.5, 0.75, *[0.875] * 5]
    assert decide(confidence, [1] * 7, 0.75) == [True] * 7
    assert decide(confidence, [1] * 7, 0.7)[:2] == [True, False]


def test_a_threshold_of_one_lets_none_exit() -> None:
    assert decide([1.0] * 20, [1] * 20, 1.0) == [True] * 20


def patches(values: Tensor) -> Tensor:
    """``(n, classes, x, y, z)`` to ``(n * cells, classes, 512)``."""
    n, c, x, y, z = values.shape
    blocks = values.view(n, c, x // 8, 8, y // 8, 8, z // 8, 8)
    return blocks.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(-1, c, 512)


@pytest.mark.parametrize("norm", ["instance", "channel"])
def test_an_exited_patch_is_its_class_in_every_voxel(windows: Tensor, norm: str) -> None:
    network = exit_network(decoder=DecoderConfig(4, 2, norm))  # type: ignore[arg-type]
    with torch.inference_mode():
        output = network.finish(network.prepare(windows), 0.3)
    encoded = output.encoded
    layout = encoded.layout
    label = encoded.label[layout.rows]
    exited = label >= 0
    assert torch.equal(exited, encoded.left[layout.rows] > 0)
    answer = patches(output.logits)[layout.cells].argmax(dim=1)
    assert (answer[exited] == label[exited, None]).all()
    assert len(label[exited].unique()) > 1
    assert (answer[~exited] != answer[~exited][:, :1]).any()


def test_the_label_of_an_exit_is_that_of_its_stage(windows: Tensor) -> None:
    network = exit_network()
    with torch.inference_mode():
        encoded = network.finish(network.prepare(windows), 0.3).encoded
    stages_seen = set()
    for stage, windows_scored in enumerate(encoded.scored):
        for window in windows_scored:
            gone = ~window.decision.keep
            assert window.decision.label is not None
            assert torch.equal(encoded.label[window.rows[gone]], window.decision.label[gone])
            assert (encoded.left[window.rows[gone]] == stage + 1).all()
            stages_seen |= {stage} if gone.any() else set()
    assert len(stages_seen) > 1
    assert (encoded.label[encoded.left == 0] == -1).all()


def test_an_exit_changes_nothing_but_its_patch(
    windows: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With other classes for the same exits, the open patches stay bit-identical."""
    network = exit_network()
    own = EarlyExit.decide

    def relabelled(self: EarlyExit, stage: int, scores: Scores, setting: float) -> Decision:
        decision = own(self, stage, scores, setting)
        assert decision.label is not None
        return Decision(decision.keep, label=(decision.label + 1) % 4)

    with torch.inference_mode():
        before = network.finish(network.prepare(windows), 0.3)
        monkeypatch.setattr(EarlyExit, "decide", relabelled)
        after = network.finish(network.prepare(windows), 0.3)
    exited = before.encoded.label[before.encoded.layout.rows] >= 0
    changed = torch.zeros(2 * 96, dtype=torch.bool)
    changed[before.encoded.layout.cells[exited]] = True
    differs = (patches(before.logits) != patches(after.logits)).any(dim=2).any(dim=1)
    assert torch.equal(differs, changed)


@pytest.mark.parametrize("setting", [0.1, 0.3, 0.6])
def test_open_patches_are_decoded_as_if_the_whole_window_were(
    windows: Tensor, setting: float
) -> None:
    """That others have exited takes nothing from a patch that sees the whole window."""
    network = make_network(small_config(sparsifier="dtop"))
    with torch.inference_mode():
        prepared = network.prepare(windows)
        output = network.finish(prepared, setting)
        maps = (output.encoded.layout.to_map(output.completed, network.air_token),) * 4
        field = WholeField(torch.ones(2, 4, 6, 4, dtype=torch.bool), alone=False)
        coarse = network.decoder.coarse(maps, field)
        whole = network.decoder.fine(coarse, maps, prepared.windows, None, field)
    layout = output.encoded.layout
    is_open = layout.cells[output.encoded.label[layout.rows] < 0]
    assert len(is_open)
    difference = patches(output.logits)[is_open] - whole[is_open].transpose(1, 2)
    assert difference.abs().max() <= 1e-4


def test_a_window_with_no_open_token_runs_no_block_and_no_decoder_level(
    windows: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dtop, "CONTEXT", 0)
    network = exit_network()
    ran: list[str] = []
    for name, module in network.named_modules():
        if name.startswith(("encoder.blocks.", "decoder.")):
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    with torch.inference_mode():
        output = network.finish(network.prepare(windows), 1e-9)
    assert {name[:16] for name in ran} == {"encoder.blocks.0"}
    assert output.encoded.log.lengths[1:] == [(0, 0)] * 4
    assert output.decoded == Decoded(0, 0, 0)
    layout = output.encoded.layout
    answer = patches(output.logits)[layout.cells].argmax(dim=1)
    assert (answer == output.encoded.label[layout.rows, None]).all()
    assert network.macs(output).decoder == 0


def test_one_window_may_be_done_before_the_other(
    windows: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dtop, "CONTEXT", 0)
    network = exit_network()
    with torch.inference_mode():
        first = network.prepare(windows).first.scores
        # a threshold under every confidence of one window, but not of the other
        least = [float(s.importance.min()) for s in first]
        done = least.index(max(least))
        setting = sum(least) / 2
        output = network.finish(network.prepare(windows), setting)
        alone = network(windows[1 - done, None], setting)
    assert output.encoded.log.lengths[1][done] == 0
    assert output.encoded.log.lengths[1][1 - done] > 0
    assert (output.logits[1 - done] - alone[0]).abs().max() <= 1e-4


def token_loss_by_hand(masks: list[list[float]], target: list[list[int]]) -> tuple[float, float]:
    """Focal loss (alpha 1/4, gamma 2) and Dice smoothed by 1, means over the masks."""
    focal, dice, count = 0.0, 0.0, 0
    for row, truth in zip(masks, target, strict=True):
        overlap = total = 0.0
        for m, t in zip(row, truth, strict=True):
            p = sigmoid(m)
            right, alpha = (p, 0.25) if t else (1 - p, 0.75)
            focal -= alpha * (1 - right) ** 2 * math.log(right)
            overlap, total, count = overlap + p * t, total + p + t, count + 1
        dice += 1 - (2 * overlap + 1) / (total + 1)
    return focal / count, dice / len(masks)


def graded(masks: list[list[float]], present: list[list[float]]) -> Scores:
    m = torch.tensor(masks)
    return Scores(m.amax(dim=0), Grades(m, torch.tensor(present), m.argmax(dim=0)))


MASKS = [[1.0, -0.5, 0.2], [-1.0, 2.0, 0.3], [0.4, 0.1, -3.0], [0.0, 0.0, 0.0]]
PRESENT = [[1.0, 0.0], [0.5, 0.2], [-1.0, 1.0], [0.0, 2.0]]
# tokens 0 and 2 are background, token 1 is a mixture; no token is class 1, 2 or 3 alone
ONE_CLASS = torch.tensor([[1.0, 0, 0, 0], [0, 0.5, 0.5, 0], [1.0, 0, 0, 0]])
# token 1 is class 1
TWO_CLASSES = torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 0.3, 0.7]])


def cross_entropy_by_hand(here: tuple[int, ...]) -> float:
    total = weight = 0.0
    for c, (yes, no) in enumerate(PRESENT):
        w = 1.0 if c in here else 0.1
        picked, other = (yes, no) if c in here else (no, yes)
        total += w * math.log(1 + math.exp(other - picked))
        weight += w
    return total / weight


def test_loss_by_hand() -> None:
    rule = make_sparsifier(small_config(sparsifier="dtop"))
    layout = layout_of(3)
    encoded = make_encoded(layout, scored=(scored(layout, [graded(MASKS, PRESENT)]),))
    focal, dice = token_loss_by_hand(MASKS[:1], [[1, 0, 1]])
    expected = cross_entropy_by_hand((0,)) + 20 * focal + dice
    assert rule.loss(encoded, ONE_CLASS).item() == pytest.approx(expected, abs=1e-5)
    focal, dice = token_loss_by_hand(MASKS[:2], [[1, 0, 0], [0, 1, 0]])
    expected = cross_entropy_by_hand((0, 1)) + 20 * focal + dice
    assert rule.loss(encoded, TWO_CLASSES).item() == pytest.approx(expected, abs=1e-5)


def test_loss_is_summed_over_the_heads_and_averaged_over_the_windows() -> None:
    rule = make_sparsifier(small_config(sparsifier="dtop"))
    layout = layout_of(3, 3)
    judged = graded(MASKS, PRESENT)
    one = scored(layout, [judged, judged])
    mix = torch.cat([ONE_CLASS, TWO_CLASSES])
    once = rule.loss(make_encoded(layout, scored=(one,)), mix)
    twice = rule.loss(make_encoded(layout, scored=(one, one)), mix)
    parts = []
    for labels in (ONE_CLASS, TWO_CLASSES):
        alone = layout_of(3)
        encoded = make_encoded(alone, scored=(scored(alone, [judged]),))
        parts.append(rule.loss(encoded, labels).item())
    assert once.item() == pytest.approx(sum(parts) / 2, abs=1e-5)
    assert twice.item() == pytest.approx(2 * once.item(), abs=1e-5)


def test_a_window_without_whole_patches_has_no_loss() -> None:
    rule = make_sparsifier(small_config(sparsifier="dtop"))
    layout = layout_of(3)
    encoded = make_encoded(layout, scored=(scored(layout, [graded(MASKS, PRESENT)]),))
    assert rule.loss(encoded, torch.full((3, 4), 0.25)).item() == 0


def test_the_loss_alone_reaches_every_head(windows: Tensor) -> None:
    """Exits are decided without gradient; the heads learn from their labels."""
    network = exit_network().train()
    output = network.finish(network.prepare(windows), 0.6)
    labels = torch.arange(len(output.encoded.layout.cells)) % 4
    mix = torch.nn.functional.one_hot(labels, 4).float()
    output.logits.square().mean().backward(retain_graph=True)
    heads: Any = network.sparsifier.graders
    assert all(p.grad is None for head in heads for p in head.parameters())
    network.sparsifier.loss(output.encoded, mix).backward()
    for head in heads:
        assert head.queries.grad is not None and head.queries.grad.any()
        assert head.present.weight.grad.any()
        assert head.layers[-1].key.weight.grad.any()


def test_exits_are_in_force_while_training(windows: Tensor) -> None:
    network = exit_network().train()
    with torch.no_grad():
        output = network.finish(network.prepare(windows), 0.3)
    layout, label = output.encoded.layout, output.encoded.label
    exited = label[layout.rows] >= 0
    assert exited.any()
    answer = patches(output.logits)[layout.cells].argmax(dim=1)
    assert (answer[exited] == label[layout.rows][exited, None]).all()
    assert sum(output.encoded.log.lengths[-1]) < sum(output.encoded.log.lengths[0])
