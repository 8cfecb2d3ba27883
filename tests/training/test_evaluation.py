"""Evaluation: Dice, contenders, calibration of thresholds, paired figures."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_sparseseg.files import read_volume
from napari_sparseseg.methods import METHODS
from napari_sparseseg.network import SparseUNETR
from napari_sparseseg.training import evaluate_scans
from napari_sparseseg.training.calibrate import calibrate
from napari_sparseseg.training.evaluate import evaluate_maps, majority
from napari_sparseseg.training.evaluate_scans import evaluate_model, paired, summary
from napari_sparseseg.training.evaluation import (
    RANDOM_SEEDS,
    Contender,
    Outcome,
    contenders,
    dice_per_class,
    has_keep_ratio,
    kept_share,
    run_session,
)
from napari_sparseseg.training.scans import read_split
from napari_sparseseg.training.synthesis import Synthesiser
from napari_sparseseg.weights import ModelInfo, save_model
from tests.training.conftest import scan_recipe, small_recipe

CLASSES = ("background", "anterior hippocampus", "posterior hippocampus")


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ModelInfo]:
    """Give a function that writes an untrained model, strong enough for a varied answer."""
    folder = tmp_path_factory.mktemp("models")

    def make(method: str, completion: str = "preserve") -> ModelInfo:
        plan = scan_recipe(method, completion=completion)
        torch.manual_seed(0)
        network = SparseUNETR(plan.network)
        for parameter in network.parameters():
            parameter.data += 0.15 * torch.randn_like(parameter)
        info = ModelInfo(
            name=plan.name,
            title=f"Small {method}",
            method=method,
            modality="made-up scans",
            spacing=1.0,
            classes=plan.task.classes,
            colors=plan.task.colors,
            default_setting=1.0,
            network=plan.network.to_dict(),
            license=plan.task.license,
            path=folder / f"{plan.name}.safetensors",
        )
        save_model(network.state_dict(), info)
        return info

    return make


def test_dice_by_hand() -> None:
    truth = np.array([[[0, 1, 1, 2]]])
    predicted = np.array([[[1, 1, 0, 2]]])
    dice = dice_per_class(predicted, truth, 4)
    assert dice[:2] == pytest.approx([0.5, 1.0])
    assert math.isnan(dice[2])


def test_most_subvoxels_decide() -> None:
    subvoxels = torch.tensor([[0, 2], [1, 2], [1, 1]]).view(3, 2, 1, 1)
    assert majority(subvoxels, 3).flatten().tolist() == [1, 2]


def test_maps_are_evaluated_at_a_setting(source: Synthesiser) -> None:
    network = SparseUNETR(small_recipe().network).eval()
    dice = evaluate_maps(network, [source.draw()], 0.5)
    assert dice.shape == (1, 17)


@pytest.mark.parametrize("method", ["dense", "stp", "dtop", "svit", "apformer", "edge"])
def test_every_model_meets_the_controls(make_model: Callable[..., ModelInfo], method: str) -> None:
    info = make_model("dense")
    info = replace(info, method=method)
    met = list(contenders(info))
    names = [contender.sparsifier for contender in met]
    assert names[0] == method
    assert {"truncated", "none"} <= set(names)
    seeds = tuple(c.seed for c in met if c.sparsifier == "random")
    assert seeds == (() if method == "dense" else RANDOM_SEEDS)


def test_a_model_trained_as_a_control_meets_nobody(make_model: Callable[..., ModelInfo]) -> None:
    assert list(contenders(make_model("truncated"))) == [Contender("truncated")]


def test_settings_of_contenders(make_model: Callable[..., ModelInfo]) -> None:
    """Random pruning has nothing to draw at 1; controls without a setting run once."""
    info = replace(make_model("dense"), method="stp")
    wanted = (1.0, 0.5)
    assert Contender("stp").settings(info, wanted) == [1.0, 0.5]
    assert Contender("random", 2).settings(info, wanted) == [0.5]
    assert Contender("none").settings(info, wanted) == [1.0]


def test_which_settings_are_ratios() -> None:
    ratios = {name for name in METHODS if has_keep_ratio(name)}
    assert ratios == {"stp", "edge", "svit", "random"}


def test_kept_share_leaves_out_air() -> None:
    assert kept_share({"total": 10, "air": 6, "kept": 1, "pruned": 3, "exited": 0}) == 0.25


def test_bisection_finds_the_nearest_share() -> None:
    asked = []

    def share(setting: float) -> float:
        asked.append(setting)
        return round(setting**2, 2)  # steps, as with few tokens

    found = calibrate(share, low=0.1, ratio=0.5)
    assert found.reached
    assert found.share == 0.5
    assert found.setting == pytest.approx(math.sqrt(0.5), abs=0.01)
    assert len(asked) < 20


def test_a_share_below_the_lowest_setting_is_not_reached() -> None:
    found = calibrate(lambda setting: 0.4 + 0.6 * setting, low=0.5, ratio=0.3)
    assert not found.reached
    assert (found.setting, found.share) == (0.5, 0.7)


def test_a_share_inside_a_jump_is_not_reached() -> None:
    """As when the confidence of most tokens is the same to the last digit."""
    found = calibrate(lambda setting: 0.2 if setting < 0.9 else 0.95, low=0.5, ratio=0.5)
    assert not found.reached
    assert found.share == 0.2


def outcome(*dice: float, kept: int = 5) -> Outcome:
    tokens = {"total": 20, "air": 10, "kept": kept, "pruned": 10 - kept, "exited": 0}
    return Outcome(list(dice), tokens, kept / 10, {"run": 0.2 + kept, "dense": 11.0})


def test_summary_by_hand() -> None:
    """Two seeds of two scans: seeds are averaged first, then the spread over scans is taken."""
    runs = [
        [outcome(0.8, 0.6), outcome(0.6, 0.4, kept=7)],
        [outcome(0.9, 0.7), outcome(0.7, 0.5, kept=7)],
    ]
    figures = summary(runs, CLASSES)
    assert figures["dice"]["anterior hippocampus"] == {
        "mean": 0.75,
        "sd": round(float(np.std([0.85, 0.65], ddof=1)), 4),
    }
    assert figures["dice"]["mean"]["mean"] == 0.65
    assert figures["tokens"]["kept"] == 6.0
    assert figures["kept_share"] == 0.6
    assert figures["gmacs"] == {"run": 6.2, "dense": 11.0}


def test_paired_comparison() -> None:
    better = [[outcome(0.80 + 0.001 * n, 0.8) for n in range(8)]]
    worse = [[outcome(0.70, 0.8) for _ in range(8)]]
    won, lost, even = paired(better, worse), paired(worse, better), paired(worse, worse)
    assert won["beaten"]
    assert won["gain"] == pytest.approx(0.0518, abs=1e-4)
    assert won["p"] == pytest.approx(2 / 2**8, rel=0.02)  # all eight of one sign
    assert (lost["beaten"], lost["gain"]) == (False, -won["gain"])
    assert (even["beaten"], even["gain"], even["p"]) == (False, 0.0, 1.0)


@pytest.mark.parametrize("method", ["stp", "svit", "dtop", "apformer"])
def test_a_model_is_evaluated_as_users_run_it(
    make_model: Callable[..., ModelInfo],
    data_set: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    monkeypatch.setattr(evaluate_scans, "RATIOS", (1.0, 0.5))
    monkeypatch.setattr("napari_sparseseg.training.evaluation.RANDOM_SEEDS", (1, 2))
    info = make_model(method, "assembly" if method == "stp" else "preserve")
    test = read_split(data_set, "test")
    figures = evaluate_model(info, read_split(data_set, "val"), test)
    assert json.loads(json.dumps(figures)) == figures
    dense, half = figures["rows"]
    assert dense["ratio"] == dense["setting"] == dense["kept_share"] == 1.0
    assert dense["random"] is None
    assert set(figures["controls"]) == {"truncated", "none"}
    assert figures["controls"]["none"]["gmacs"]["run"] < dense["gmacs"]["run"]
    # the same scans through the engine by hand
    segmenter = Contender(method).open(info)
    dice, share = [], []
    for case in test:
        truth = read_volume(case.label).data.astype(int)
        with segmenter.open(read_volume(case.image)) as session:
            answer = run_session(session, truth, 1.0)
        dice.append(answer.dice)
        share.append(kept_share(answer.tokens))
    assert dense["dice"]["anterior hippocampus"]["mean"] == pytest.approx(
        np.mean(dice, axis=0)[0], abs=1e-4
    )
    assert np.mean(share) == 1.0
    if half["reached"]:
        assert half["random"]["block_share"] == half["block_share"]
    else:
        assert method in ("dtop", "apformer")
        assert set(half) == {"ratio", "setting", "validation_share", "reached"}
