"""What of training on several processes can be seen from one: what is refused, and the draws."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from napari_sparseseg import devices
from napari_sparseseg.errors import DeviceError, InputError
from napari_sparseseg.training.distributed import ALONE, Group, joined
from napari_sparseseg.training.loop import train
from napari_sparseseg.training.run import Run
from tests.training.conftest import scan_recipe
from tests.training.test_distributed import FIRST_OF_FOUR


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend to be the first of four processes on a machine with two GPUs."""
    for name, value in FIRST_OF_FOUR.items():
        monkeypatch.setenv(name, value)
    gpus = [("cuda:0", "one"), ("cuda:1", "two"), ("cpu", "CPU")]
    monkeypatch.setattr(devices, "available_devices", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.usefixtures("launched")
@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("auto", "4 processes need 4 GPUs and this machine has 2; start fewer processes or"),
        ("cuda", "4 processes need 4 GPUs"),
        ("cuda:1", "4 processes cannot share cuda:1; give --device cuda, which gives each"),
        ("cuda:7", "The device 'cuda:7' is not available here"),
    ],
)
def test_too_few_gpus_are_refused(device: str, message: str) -> None:
    with pytest.raises(DeviceError) as caught, joined(device):
        raise AssertionError("joined")
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith(".")


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")  # of some other launcher
    with joined("cpu") as (group, device):
        assert (group, device) == (ALONE, "cpu")
        assert group.leads


@dataclass(frozen=True)
class Ahead(Group):
    """A process beside another one that stands at step 7."""

    def largest(self, value: int) -> int:
        return max(value, 7)


def test_processes_that_found_different_checkpoints_are_refused(
    data_set: Path, tmp_path: Path
) -> None:
    plan = scan_recipe()
    run, source = Run.create(plan, "cpu"), plan.data.open(data_set)
    with pytest.raises(InputError, match="different checkpoints; give --out on a disk"):
        train(run, source, tmp_path / "out", save_every=1, minutes=1, group=Ahead())
    assert not (tmp_path / "out").exists()


class SeenError(Exception):
    """Ends a step as soon as it is known which tokens take part."""


def test_air_takes_part_in_the_same_steps_in_all_processes(
    data_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that had to wait for the air of another one would waste its time."""
    plan = scan_recipe(steps=12, air_share=0.5)
    run, source = Run.create(plan, "cpu"), plan.data.open(data_set)
    seen: list[tuple[bool, float]] = []

    def prepare(windows: Tensor, air: Tensor) -> None:
        seen.append((bool(air.any()), float(torch.rand(()))))
        raise SeenError

    everything = torch.ones(1, 4, 6, 4, dtype=torch.bool)  # whatever the window shows
    monkeypatch.setattr(run.learner.network, "find_air", lambda windows: everything)
    monkeypatch.setattr(run.learner.network, "prepare", prepare)
    for run.step in range(12):
        for rank in (0, 1):
            with pytest.raises(SeenError):
                group = Group(rank)
                train(run, source, tmp_path, save_every=1, minutes=1, group=group)

    first, second = seen[::2], seen[1::2]
    assert [left_out for left_out, _ in first] == [left_out for left_out, _ in second]
    assert len({left_out for left_out, _ in first}) == 2
    assert all(one != other for (_, one), (_, other) in zip(first, second, strict=True))
