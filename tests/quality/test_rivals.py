"""The networks from outside: published sizes, training, and the way through a scan."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.quality import budget
from benchmarks.quality.baselines import RivalSegmenter
from benchmarks.quality.cases import FOLDERS, Case
from benchmarks.quality.rival_training import RivalRun, data_recipe, train, window_losses
from benchmarks.quality.rivals import RIVALS, Rival, Window, window_of
from napari_sparseseg.training.checkpoint import CHECKPOINT
from napari_sparseseg.training.losses import soft_labels
from napari_sparseseg.training.source import Sample
from napari_sparseseg.volume import Volume


@pytest.mark.parametrize(
    ("name", "parameters", "gmacs"),
    [("monai-unetr", 92.8e6, 73.4), ("monai-dynunet", 31.2e6, None)],
)
def test_rivals_have_their_published_sizes(
    name: str, parameters: float, gmacs: float | None
) -> None:
    """UNETR of 14 classes has 92.8 M parameters and 73.4 GMACs a window of 96^3."""
    window = window_of("brain-mr")
    with torch.device("meta"):
        network = RIVALS[name].build(14, window).eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        scores = network(torch.zeros(1, 1, *window, device="meta"))
    assert scores.shape == (1, 14, *window)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(parameters, rel=0.005)
    if gmacs:
        assert counter.get_total_flops() / 2e9 == pytest.approx(gmacs, rel=0.005)


@pytest.mark.parametrize("name", RIVALS)
@pytest.mark.parametrize("task", FOLDERS)
def test_every_rival_can_be_trained_on_every_task(name: str, task: str) -> None:
    rival, window = RIVALS[name], window_of(task)
    with torch.device("meta"):
        scores = rival.build(3, window)(torch.zeros(1, 1, *window, device="meta"))
    assert scores.shape == (1, 3, *window)
    assert rival.optimiser(task).steps > 0


@pytest.mark.parametrize(("task", "edge"), [("brain-mr", 3), ("hippocampus-mr", 4)])
def test_the_lowest_level_of_dynunet_has_three_voxels_at_least(task: str, edge: int) -> None:
    network = RIVALS["monai-dynunet"].build(3, window_of(task))
    lowest: list[torch.Size] = []
    network.bottleneck.register_forward_hook(lambda *call: lowest.append(call[2].shape))
    with torch.inference_mode():
        network(torch.zeros(1, 1, *window_of(task)))
    assert lowest[0][2:] == (edge,) * 3


def test_the_small_window_holds_every_hippocampus() -> None:
    """The window of our own network for the task, 48 x 64 x 48, does; theirs is a cube."""
    ours = data_recipe("hippocampus-mr").network.window
    theirs = window_of("hippocampus-mr")
    assert all(a >= b for a, b in zip(theirs, ours, strict=True))


def test_the_schedule_warms_up_and_ends_at_zero() -> None:
    config = RIVALS["monai-unetr"].optimiser("headneck-ct")
    assert (
        config.warmup + config.decay == config.steps == RIVALS["monai-unetr"].steps["headneck-ct"]
    )


def test_the_losses_of_a_window_by_hand() -> None:
    """Two voxels, two classes: one right with 0.8, one half of each class with 0.5.

    Cross-entropy is the mean of -ln 0.8 and ln 2. Dice of class 1, smoothed by 1: p = .2 + .5,
    y = 0 + .5, and 2 * (.2 * 0 + .5 * .5) + 1 over .7 + .5 + 1.
    """
    logits = torch.tensor([[0.8, 0.5], [0.2, 0.5]]).log().reshape(1, 2, 2, 1, 1)
    subvoxels = torch.tensor([[0, 0], [0, 1]]).reshape(2, 2, 1, 1)

    target = soft_labels(subvoxels.flatten(1)[:, None], 2)
    dice, entropy = window_losses(logits, target, torch.ones(2))

    assert float(entropy) == pytest.approx((-math.log(0.8) + math.log(2)) / 2)
    assert float(dice) == pytest.approx(1 - 1.5 / 2.2)


class Boxes:
    """Draws a bright box in noise, the same after the same seed."""

    device = "cpu"

    def seed(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self) -> Sample:
        label = torch.zeros(8, 8, 8, dtype=torch.uint8)
        label[2:6, 2:6, 2:6] = 1
        noise = 0.1 * torch.rand(8, 8, 8, generator=self.generator)
        return Sample((label + noise)[None, None], label[None])


def pointwise(classes: int, window: Window) -> nn.Module:
    """A network that looks at one voxel."""
    return nn.Conv3d(1, classes, 1)


TINY = Rival("tiny", pointwise, 0.1, {"headneck-ct": 60})


def begin(steps: int) -> RivalRun:
    torch.manual_seed(0)
    config = replace(TINY.optimiser("headneck-ct"), steps=steps)
    return RivalRun.create(pointwise(2, (8, 8, 8)), 2, config, "cpu")


def test_training_learns(tmp_path: Path) -> None:
    train(begin(60), Boxes(), tmp_path / "whole", save_every=100)

    rows = list(csv.DictReader((tmp_path / "whole" / "log.csv").open()))
    assert [int(row["step"]) for row in rows] == [10, 20, 30, 40, 50, 60]
    assert float(rows[-1]["loss"]) < 0.5 * float(rows[0]["loss"])


def test_going_on_from_a_checkpoint_changes_nothing(tmp_path: Path) -> None:
    """Killed behind step 30 with a checkpoint at 20: the log is cut, the end is the same."""
    whole = begin(40)
    train(whole, Boxes(), tmp_path / "whole", save_every=20)
    killed = begin(40)
    with pytest.raises(RuntimeError, match="killed"):
        train(killed, Dying(after=33), tmp_path / "parts", save_every=20)
    rest = begin(40)
    rest.resume(tmp_path / "parts" / CHECKPOINT)
    train(rest, Boxes(), tmp_path / "parts", save_every=20)
    for one, other in zip(whole.average.parameters(), rest.average.parameters(), strict=True):
        assert torch.equal(one, other)
    rows = list(csv.DictReader((tmp_path / "parts" / "log.csv").open()))
    assert [int(row["step"]) for row in rows] == [10, 20, 30, 40]


class Dying(Boxes):
    """Breaks off after some draws."""

    def __init__(self, after: int) -> None:
        self.left = after

    def draw(self) -> Sample:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("killed")
        return super().draw()


@pytest.fixture
def judge(tmp_path: Path) -> RivalSegmenter:
    """A rival that calls a voxel brainstem where it has more than 50 HU."""
    network = nn.Conv3d(1, 5, 1)
    network.weight.data.zero_()
    network.bias.data = torch.tensor([0.0, -50.0, -99.0, -99.0, -99.0])
    network.weight.data[1] = 100.0  # 50 HU is 0.5
    run = RivalRun.create(network, 5, TINY.optimiser("headneck-ct"), "cpu")
    run.save(tmp_path / CHECKPOINT)
    return RivalSegmenter(TINY, data_recipe("headneck-ct"), tmp_path / CHECKPOINT)


def test_a_rival_segments_on_the_grid_of_the_scan(judge: RivalSegmenter) -> None:
    """A bright box in a turned and flipped scan comes back where it is, air around it."""
    data = np.full((60, 50, 40), -1000.0, dtype=np.float32)
    data[10:50, 10:40, 8:32] = 0.0
    data[20:30, 16:26, 12:20] = 100.0
    turned = np.array([[0, -3.0, 0, 0], [-3.0, 0, 0, 0], [0, 0, 3.0, 0], [0, 0, 0, 1.0]])
    truth = (data > 50).astype(np.uint8)
    case = Case("box", Volume(data, turned, "box"), truth)

    row = judge.row(case)

    assert row["dice"] == [1.0, None, None, None]
    assert row["hd95"] == [0.0, None, None, None]
    # 5 * 96^3 multiplications for the one window that the scan fits into
    assert row["gmacs"]["run"] == round(5 * 96**3 / 1e9, 2)


def test_windows_are_counted_as_they_run(judge: RivalSegmenter) -> None:
    """100 voxels along one axis take two windows of 96 that overlap."""
    data = np.zeros((100, 90, 90), dtype=np.float32)
    data[50, 40, 40] = -1000.0
    judge.windows = 0
    judge.segment(Volume(data, np.diag([3.0, 3.0, 3.0, 1.0]), "wide"))
    assert judge.windows == 2


def test_a_budget_counts_the_starts(tmp_path: Path) -> None:
    for name, steps, seconds in (("start", 900, 600), ("dense", 200, 120)):
        log = tmp_path / f"hippocampus-mr-{name}.csv"
        log.write_text(f"step,seconds\n{steps - 10},{seconds - 9}\n{steps},{seconds}\n")
    found = budget.measure("hippocampus-mr", tmp_path, None, logs=tmp_path)
    assert found["hippocampus-mr-dense"] == {"steps": 1100, "minutes": 12.0}
