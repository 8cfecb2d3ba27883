"""Processors and precision: what is asked for is what is used, or a sentence says why not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sparseseg.devices import (
    PRECISIONS,
    PeakMemory,
    available_devices,
    resolve_device,
    resolve_precision,
)
from napari_sparseseg.errors import DeviceError
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.weights import ModelInfo


def test_the_list_ends_with_the_cpu_and_has_every_graphics_card_with_its_memory() -> None:
    *cards, (last, text) = available_devices()

    assert last == "cpu" and text.startswith("CPU (")
    assert [identifier for identifier, _ in cards] == [
        f"cuda:{n}" for n in range(torch.cuda.device_count())
    ]
    assert all("GiB" in text for _, text in cards)


def test_auto_is_the_first_of_the_list() -> None:
    assert resolve_device("auto") == available_devices()[0][0]
    assert resolve_device("cpu") == "cpu"


def test_graphics_cards_are_found_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Facts:
        name, total_memory = "Card", 24 * 2**30

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: Facts)

    assert available_devices()[:2] == [("cuda:0", "Card (24 GiB)"), ("cuda:1", "Card (24 GiB)")]
    wanted = {"auto": "cuda:0", "cuda": "cuda:0", "cuda:1": "cuda:1", "cpu": "cpu"}
    assert {name: resolve_device(name) for name in wanted} == wanted
    with pytest.raises(DeviceError, match="cuda:2"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("name", ["", "gpu", "CPU", "cuda:99", "cuda:-1", "cuda:x", "mps", "cpu:0"])
def test_an_unknown_device_is_refused_with_those_that_there_are(
    name: str, tiny_models: dict[str, ModelInfo]
) -> None:
    for use in (resolve_device, lambda name: Segmenter(tiny_models["tiny-stp"], device=name)):
        with pytest.raises(DeviceError, match=f"'{name}'.*cpu") as caught:
            use(name)
        assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_precision_is_what_was_asked_for() -> None:
    assert resolve_precision("float32", "cpu") == torch.float32
    assert resolve_precision("bfloat16", "cpu") == torch.bfloat16


def test_automatic_precision_does_not_change_within_a_session() -> None:
    first = resolve_precision("auto", "cpu")

    assert first in (torch.float32, torch.bfloat16)
    assert all(resolve_precision("auto", "cpu") == first for _ in range(3))


@pytest.mark.parametrize("name", ["", "float16", "FLOAT32", "64"])
def test_an_unknown_precision_is_refused_with_those_that_there_are(name: str) -> None:
    with pytest.raises(DeviceError, match=", ".join(PRECISIONS)) as caught:
        resolve_precision(name, "cpu")
    assert str(caught.value).endswith(".")


def test_peak_memory_grows_with_what_is_used_and_stays_when_it_is_given_back() -> None:
    memory = PeakMemory("cpu")
    before = memory.megabytes()
    block = np.ones(40 * 2**20)  # 320 MB of doubles
    during = memory.megabytes()
    del block

    assert during >= before + 200
    assert memory.megabytes() > during - 5  # the system counts pages loosely
