"""The memory budget, and what is free: of the computer, of a control group, of a card."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from checks import assert_sentence
from shortage import CARD, card_of

from napari_sparseseg.errors import InputError
from napari_sparseseg.memory import (
    GB,
    SHARE,
    MemoryBudget,
    check_room_for_engine,
    free_memory,
    group_rooms,
    refusal,
)
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.weights import ModelInfo


@pytest.mark.parametrize("gigabytes", [0, -1, math.nan, math.inf, -math.inf])
def test_a_budget_that_is_no_positive_number_is_refused(
    gigabytes: float, tiny_models: dict[str, ModelInfo]
) -> None:
    for use in (MemoryBudget, lambda gb: Segmenter(tiny_models["tiny-stp"], memory_gb=gb)):
        with pytest.raises(InputError, match="memory budget") as caught:
            use(gigabytes)
        assert_sentence(caught.value)


def test_a_segmenter_tells_its_budget(tiny_models: dict[str, ModelInfo]) -> None:
    assert Segmenter(tiny_models["tiny-stp"], "cpu", memory_gb=1.5).memory_gb == 1.5
    assert Segmenter(tiny_models["tiny-stp"], "cpu").memory_gb is None


def test_a_share_of_what_is_free_may_be_taken_or_the_budget_or_what_is_there() -> None:
    free = 10 * GB
    with card_of(free):
        assert MemoryBudget().allowed(CARD) == int(SHARE * free) < free
        assert MemoryBudget(4).allowed(CARD) == 4 * GB
        assert MemoryBudget(9.5).allowed(CARD) == int(9.5 * GB)
        assert MemoryBudget(16).allowed(CARD) == free


def test_the_computer_has_no_more_to_give_than_the_system_says() -> None:
    assert 0 < free_memory() <= psutil.virtual_memory().total
    assert MemoryBudget(1e-3).allowed("cpu") == int(1e-3 * GB)


def test_what_torch_keeps_of_a_card_for_later_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with card_of(5 * GB):
        monkeypatch.setattr("torch.cuda.memory_reserved", lambda device: 3 * GB)
        monkeypatch.setattr("torch.cuda.memory_allocated", lambda device: 1 * GB)
        assert free_memory(CARD) == 7 * GB


def test_the_engine_is_not_loaded_where_there_is_no_room_for_it() -> None:
    code = """
import sys
from napari_sparseseg import memory
memory.group_rooms = lambda: iter([int(float(sys.argv[1]) * memory.GB)])
try:
    memory.check_room_for_engine()
except memory.OutOfMemory as error:
    print(error)
print("torch" in sys.modules)
"""
    told = [
        subprocess.run(
            [sys.executable, "-c", code, room], capture_output=True, text=True, check=True
        ).stdout
        for room in ("0.69", "0.71")
    ]
    refused = "The engine takes about 0.7 GB of memory and 0.69 GB is free; close other programs."
    assert told == [f"{refused}\nFalse\n", "False\n"]


def test_an_engine_that_is_loaded_needs_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_sparseseg.memory.group_rooms", lambda: iter([0]))
    check_room_for_engine()
    assert free_memory() == 0


# Control groups


def make_group(folder: Path, **files: str) -> None:
    """Make a control group with files of these contents."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


@pytest.fixture
def listing(tmp_path: Path) -> Path:
    return tmp_path / "cgroup"


def test_a_group_leaves_what_it_does_not_use_and_what_it_can_drop(
    tmp_path: Path, listing: Path
) -> None:
    listing.write_text("0::/batch/job\n")
    stat = "anon 700\ninactive_file 50\nactive_file 20"
    make_group(tmp_path / "batch/job", memory__max="1000", memory__current="800", memory__stat=stat)

    assert list(group_rooms(listing, tmp_path)) == [250]


def test_the_groups_around_a_group_count_too(tmp_path: Path, listing: Path) -> None:
    listing.write_text("0::/batch/job\n")
    make_group(tmp_path, memory__max="900", memory__current="800")
    make_group(tmp_path / "batch", memory__max="max", memory__current="800")
    make_group(tmp_path / "batch/job", memory__max="1000", memory__current="100")

    assert list(group_rooms(listing, tmp_path)) == [900, 100]


def test_groups_of_the_first_version_are_understood(tmp_path: Path, listing: Path) -> None:
    listing.write_text("9:cpu,cpuacct:/other\n7:memory:/docker/1a\n0::/\n")
    make_group(
        tmp_path / "memory/docker/1a",
        memory__limit_in_bytes="5000",
        memory__usage_in_bytes="4000",
        memory__stat="inactive_file 1\ntotal_inactive_file 500",
    )

    assert list(group_rooms(listing, tmp_path)) == [1500]


def test_a_system_without_groups_has_no_limit(tmp_path: Path, listing: Path) -> None:
    assert list(group_rooms(listing, tmp_path)) == []
    listing.write_text("0::/gone\n")
    assert list(group_rooms(listing, tmp_path)) == []


def test_a_group_with_too_little_is_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_sparseseg.memory.group_rooms", lambda: iter([GB, 3000]))
    assert free_memory() == 3000
    monkeypatch.setattr("napari_sparseseg.memory.group_rooms", lambda: iter([-5]))
    assert free_memory() == 0


# The refusal


def test_a_refusal_says_how_much_is_needed_how_much_there_is_and_what_to_do() -> None:
    message = str(refusal(3 * GB, GB // 4, MemoryBudget()))
    assert "3.0 GB" in message and "0.25 GB" in message and "crop" in message
    assert "budget" not in message
    assert "larger memory budget" in str(refusal(3 * GB, GB, MemoryBudget(1)))
    for budget in (MemoryBudget(), MemoryBudget(1)):
        error = refusal(3 * GB, 0, budget)
        assert_sentence(error)
        assert ";" in str(error) and ". " not in str(error)
