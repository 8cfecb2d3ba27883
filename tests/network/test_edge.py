"""The edge-supervised score (Guo et al., MICCAI 2025): label and loss by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from napari_sparseseg.network.sparsifiers import Scores, make_sparsifier
from tests.network.conftest import layout_of, make_encoded, make_network, scored, small_config


def softplus(x: float) -> float:
    return math.log(1 + math.exp(x))


def edge_loss(scores: list[list[float]], mix: Tensor) -> Tensor:
    """The loss of one window whose tokens got these scores, stage by stage."""
    layout = layout_of(len(mix))
    stages = []
    for values in scores:
        s = torch.tensor(values, requires_grad=True)
        judged = Scores(torch.nn.functional.logsigmoid(s), s)
        stages.append(scored(layout, [judged]))
    encoded = make_encoded(layout, scored=tuple(stages))
    return make_sparsifier(small_config(sparsifier="edge")).loss(encoded, mix)


def test_loss_by_hand() -> None:
    """Token 0 is half background, half class 2; tokens 1 and 2 are one class each."""
    mix = torch.tensor([[0.5, 0, 0.5, 0], [1.0, 0, 0, 0], [0, 0, 0, 1.0]])
    # binary cross-entropy of sigmoid(s): softplus(-s) for an edge, softplus(s) for none
    expected = (softplus(-2.0) + softplus(-1.0) + softplus(0.5)) / 3
    assert edge_loss([[2.0, -1.0, 0.5]], mix).item() == pytest.approx(expected, abs=1e-6)


def test_a_single_voxel_of_another_class_makes_an_edge() -> None:
    almost = torch.tensor([[511 / 512, 1 / 512, 0, 0]])
    assert edge_loss([[3.0]], almost).item() == pytest.approx(softplus(-3.0), abs=1e-6)


def test_rounding_of_soft_labels_makes_no_edge() -> None:
    almost = torch.tensor([[1 - 1e-5, 1e-5, 0, 0]])
    assert edge_loss([[3.0]], almost).item() == pytest.approx(softplus(3.0), abs=1e-6)


def test_loss_is_the_mean_over_the_stages() -> None:
    mix = torch.tensor([[0.5, 0.5, 0, 0]])
    expected = (softplus(-1.0) + softplus(2.0)) / 2
    assert edge_loss([[1.0], [-2.0]], mix).item() == pytest.approx(expected, abs=1e-6)


def test_loss_corrects_tokens_scored_with_certainty() -> None:
    """The gradient of the cross-entropy is p - y, also where p is 1 by rounding."""
    layout = layout_of(3)
    s = torch.tensor([-20.0, 20.0, 20.0], requires_grad=True)
    judged = Scores(torch.nn.functional.logsigmoid(s), s)
    mix = torch.tensor([[0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0], [1.0, 0, 0, 0]])
    encoded = make_encoded(layout, scored=(scored(layout, [judged]),))
    make_sparsifier(small_config(sparsifier="edge")).loss(encoded, mix).backward()
    assert s.grad is not None
    assert (3 * s.grad).tolist() == pytest.approx([-1, 0, 1], abs=1e-4)


def test_the_loss_alone_reaches_every_scorer(windows: Tensor) -> None:
    """As published no gradient of the segmentation passes through the choice of tokens."""
    network = make_network(small_config(sparsifier="edge")).train()
    output = network.finish(network.prepare(windows), 0.3)
    labels = torch.arange(len(output.encoded.layout.cells)) % 2
    mix = torch.stack([labels / 2, 1 - labels / 2], dim=1)
    output.logits.square().mean().backward(retain_graph=True)
    weights = [s.rate[-1].weight for s in network.sparsifier.scorers]  # type: ignore[union-attr]
    assert all(w.grad is None or not w.grad.any() for w in weights)
    network.sparsifier.loss(output.encoded, mix).backward()
    assert all(w.grad is not None and w.grad.any() for w in weights)


def test_later_stages_learn_from_the_tokens_still_there(windows: Tensor) -> None:
    """Labels of tokens that a stage did not score must not matter to it."""
    network = make_network(small_config(sparsifier="edge"))
    with torch.no_grad():
        encoded = network.finish(network.prepare(windows), 0.3).encoded
        mix = torch.full((len(encoded.layout.cells), 4), 0.25)
        before = network.sparsifier.loss(encoded, mix)
        first = torch.cat([w.rows for w in encoded.scored[0]])
        last = torch.cat([w.rows for w in encoded.scored[-1]])
        only_first = ~torch.isin(encoded.layout.rows, last)
        assert only_first.any()
        mix[only_first] = torch.tensor([1.0, 0, 0, 0])
        after = network.sparsifier.loss(encoded, mix)
        # every stage that scored such a token sees its label turn from edge to none
        expected = torch.zeros(())
        for stage in encoded.scored:
            rows = torch.cat([w.rows for w in stage])
            s = torch.cat([w.scores.details for w in stage])
            turned = ~torch.isin(rows, last)
            expected += s[turned].sum() / len(rows) / 3
    assert len(first) == len(mix)
    assert (after - before).item() == pytest.approx(expected.item(), abs=1e-5)


def test_training_keeps_the_best_without_noise(windows: Tensor) -> None:
    network = make_network(small_config(sparsifier="edge"))
    with torch.no_grad():
        still = network.finish(network.prepare(windows), 0.3).encoded
        network.train()
        moving = network.finish(network.prepare(windows), 0.3).encoded
    assert torch.equal(still.left, moving.left)
