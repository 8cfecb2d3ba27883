"""Confidence, exits, and the voxels that both look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.quality import calibration, exits
from benchmarks.quality.calibration import summary
from benchmarks.quality.cases import Case
from benchmarks.quality.exits import exits_of
from benchmarks.quality.voxels import OUTSIDE, Voxels
from napari_sparseseg.canonical import ModelSpace
from napari_sparseseg.scores import PatchScores
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.training.scans import classes_in
from napari_sparseseg.volume import Volume
from tests.quality.tiny import case_set, make_model, make_scan

# The voxels of the shown tokens


def test_truth_takes_the_class_with_the_largest_share_of_a_model_voxel() -> None:
    """Two model voxels of 2 mm: five of eight of class 2, and three, three and two of a kind."""
    truth = np.zeros((4, 2, 2), dtype=np.uint8)
    truth[:2].flat = [2, 2, 0, 2, 1, 2, 2, 1]
    truth[2:].flat = [1, 0, 1, 1, 2, 2, 0, 1]
    space = ModelSpace.of(Volume(truth, np.eye(4)), 2.0)

    assert classes_in(space, truth).tolist() == [[[2]], [[1]]]


def test_truth_is_cut_as_the_patches_are() -> None:
    """Patches of 2 begin one voxel before the scan of 3 x 2 x 2; the second is not shown."""
    truth = np.arange(12, dtype=np.uint8).reshape(3, 2, 2) % 5
    values = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]).repeat(4, 1)[None]
    scores = PatchScores(torch.tensor([[[0]], [[-1]]]), values, 2, (1, 0, 0))
    voxels = Voxels.of(scores, ModelSpace.of(Volume(truth, np.eye(4)), 1.0), truth)

    assert voxels.shown.tolist() == [[[True]], [[False]]]
    assert voxels.truth.tolist() == [[OUTSIDE] * 4 + [0, 1, 2, 3]]
    assert voxels.found.tolist() == [[0, 2] * 4]
    assert voxels.confidence[0, :2].tolist() == pytest.approx([0.5, 0.7])


# Calibration


def test_figures_of_calibration_worked_by_hand() -> None:
    """Ten voxels in three bins: 1 of 2, 0 of 1, and 6 of 7 are right."""
    confidence = np.array([0.525, 0.925, 0.925, 0.625, 0.925, 0.925, 0.925, 0.925, 0.525, 0.925])
    right = np.array([False, True, True, False, True, True, False, True, True, True])
    found = summary(confidence, right)

    assert [(b["low"], b["high"], b["voxels"]) for b in found["bins"]] == [
        (0.5, 0.55, 2),
        (0.6, 0.65, 1),
        (0.9, 0.95, 7),
    ]
    assert [b["accuracy"] for b in found["bins"]] == pytest.approx([1 / 2, 0, 6 / 7])
    assert [b["confidence"] for b in found["bins"]] == pytest.approx([0.525, 0.625, 0.925])
    assert found["ece"] == pytest.approx((2 * 0.025 + 0.625 + (7 * 0.925 - 6)) / 10)
    # the least sure of the ten is the first, one of the three that are wrong
    assert found["errors"] == {
        "voxels": 10,
        "wrong": 3,
        "wrong_among_least_confident_10_percent": pytest.approx(1 / 3),
    }


def test_doubt_that_knows_nothing_of_errors_finds_a_tenth_of_them() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, 200_000)
    found = summary(confidence, rng.random(200_000) < confidence)
    blind = summary(rng.permutation(confidence), rng.random(200_000) < 0.65)

    assert found["ece"] < 0.005
    assert found["errors"]["wrong_among_least_confident_10_percent"] > 0.15
    assert blind["errors"]["wrong_among_least_confident_10_percent"] == pytest.approx(0.1, abs=0.01)


def test_certainty_is_in_the_last_bin_and_nothing_wrong_has_no_share() -> None:
    found = summary(np.array([1.0, 1.0]), np.array([True, True]))

    assert [(b["low"], b["high"], b["accuracy"]) for b in found["bins"]] == [(0.95, 1.0, 1.0)]
    assert found["ece"] == 0
    assert found["errors"]["wrong_among_least_confident_10_percent"] is None


def test_a_model_is_right_about_its_own_labels_and_wrong_about_others(tmp_path: Path) -> None:
    """At 1 mm the model grid is the scan's own."""
    info = make_model(tmp_path, "stp")
    scan = make_scan()
    labels = Segmenter(info).segment(scan).labels.data
    own, others = (
        calibration.measure(
            "", [info], tmp_path, {"validation": case_set(Case("one", scan, truth))}
        )[info.name]
        for truth in (labels, (labels + 1) % 3)
    )

    assert (own["set"], own["setting"]) == ("validation", 0.5)
    assert own["errors"]["wrong"] == 0
    assert others["errors"]["wrong"] == others["errors"]["voxels"] == own["errors"]["voxels"] > 1000
    mean = np.average(
        [b["confidence"] for b in own["bins"]], weights=[b["voxels"] for b in own["bins"]]
    )
    assert own["ece"] == pytest.approx(1 - mean)
    assert others["ece"] == pytest.approx(mean)


def test_background_beyond_doubt_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = make_model(tmp_path, "dense")
    scan = make_scan()
    with Segmenter(info).open(scan) as session:
        shown = int((~session.run().trace.air).sum())
    labels = Segmenter(info).segment(scan).labels.data
    sets = {"validation": case_set(Case("one", scan, np.zeros_like(labels)))}
    counts = []
    for certain in (1.0, 0.0):  # nothing is so sure, every background is
        monkeypatch.setattr(calibration, "CERTAIN", certain)
        counts.append(calibration.measure("", [info], tmp_path, sets)[info.name]["errors"])

    every, foreground = counts
    assert every["voxels"] <= shown * 8**3
    assert foreground["voxels"] == foreground["wrong"] == every["wrong"] < every["voxels"]


# Exits


def test_exits_are_counted_and_compared_on_the_grid(tmp_path: Path) -> None:
    """At 1 mm an exited token's voxels can be looked up in the label map itself."""
    info = make_model(tmp_path, "dtop")
    scan = make_scan()
    rng = np.random.default_rng(0)
    with Segmenter(info).open(scan) as session:
        answer = session.run(0.4)
        labels = answer.labels.data
        truth = np.where(rng.random(labels.shape) < 0.3, (labels + 1) % 3, labels)
        found = exits_of(session, Case("one", scan, truth), 0.4)
        lead = session.lead

    trace = answer.trace
    exited = np.argwhere((trace.left_stage > 0) & ~trace.air)
    voxels = right = 0
    for token in exited:
        box = tuple(
            slice(max(0, 8 * t - b), 8 * t - b + 8) for t, b in zip(token, lead, strict=True)
        )
        voxels += labels[box].size
        right += int((labels[box] == truth[box]).sum())
    assert 0 < found.exited == len(exited) < found.tissue == int((~trace.air).sum())
    assert (found.voxels, found.right) == (voxels, right)
    assert 0 < right < voxels


def test_rows_of_exits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exits, "THRESHOLDS", (0.4, 1.0))
    infos = [make_model(tmp_path, method) for method in ("dtop", "dense", "stp")]
    scan = make_scan()
    with Segmenter(infos[0]).open(scan) as session:
        truth = session.run(1.0).labels.data
    sets = {"validation": case_set(Case("one", scan, truth), Case("two", scan, truth))}
    found = exits.measure("", infos, tmp_path, sets)

    assert list(found) == [infos[0].name]
    some, none = found[infos[0].name]
    assert (some["threshold"], none["threshold"]) == (0.4, 1.0)
    assert 0 < some["exited"] < 1
    assert 0 < some["voxels_right"] < 1
    assert (none["exited"], none["voxels_right"]) == (0, None)
    assert some["dense_dice"] == none["dense_dice"] == none["dice"] == 1
    assert 0 < some["dice"] < 1
