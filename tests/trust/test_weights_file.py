"""A weights file from anywhere: refused before memory is taken, and loaded as it was checked."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from napari_sparseseg import tensor_file, weights
from napari_sparseseg.errors import ModelError, OutputError
from napari_sparseseg.files import atomic
from napari_sparseseg.network import SparseUNETR
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.weights import (
    ModelInfo,
    find_model,
    load_network,
    models,
    register_model,
    save_model,
)
from tests.trust.conftest import assert_refused

Header = dict[str, Any]


def rewrite(path: Path, change: Callable[[Header], object], more: bytes = b"") -> None:
    """Change the header of a safetensors file, and put bytes behind its end."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[end:] + more)


def own_file(model: ModelInfo) -> ModelInfo:
    """Give the model as a file of the user's own: without a hash."""
    return find_model(model.path)


def in_tensor(key: str, value: object) -> Callable[[Header], object]:
    return lambda header: header["air_token"].update({key: value})


DAMAGED: dict[str, Callable[[Header], object]] = {
    "a shape of 10^15 numbers": in_tensor("shape", [10**15]),
    "a shape that overflows": in_tensor("shape", [2**40, 2**40]),
    "a negative shape": in_tensor("shape", [-24]),
    "an unknown type": in_tensor("dtype", "F4096"),
    "offsets behind the end": in_tensor("data_offsets", [0, 2**60]),
    "offsets that go backwards": in_tensor("data_offsets", [48, 0]),
    "offsets that overlap": lambda header: header["air_token"].update(
        data_offsets=header["encoder.class_token"]["data_offsets"]
    ),
    "a tensor that is text": lambda header: header.update(air_token="text"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_header_that_does_not_fit_the_file_is_refused(model: ModelInfo, case: str) -> None:
    rewrite(model.path, DAMAGED[case])

    assert_refused(lambda: load_network(own_file(model)), "is damaged", ModelError)


def test_bytes_behind_the_last_tensor_are_refused(model: ModelInfo) -> None:
    rewrite(model.path, lambda header: None, b"more")

    assert_refused(lambda: load_network(own_file(model)), "is damaged", ModelError)


@pytest.mark.parametrize("length", [0, 2**20 + 1, 2**40, 2**63, 2**64 - 1])
def test_a_header_length_is_judged_before_memory_is_taken(model: ModelInfo, length: int) -> None:
    content = model.path.read_bytes()
    model.path.write_bytes(length.to_bytes(8, "little") + content[8:])

    tracemalloc.start()
    assert_refused(lambda: find_model(model.path), "not a safetensors file", ModelError)
    assert_refused(
        lambda: load_network(replace(model, sha256="", size_bytes=0)), "is damaged", ModelError
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * len(content) + 2**22


def test_deep_nesting_in_a_header_is_no_model(tmp_path: Path) -> None:
    text = b"[" * 200_000
    path = tmp_path / "deep.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)

    assert_refused(lambda: find_model(path), "not a safetensors file", ModelError)


HOSTILE: dict[str, dict[str, Any]] = {
    "10^12 weights": {"dim": 10**6, "heads": 1},
    "a billion blocks": {"depth": 10**9},
    "sixty blocks": {"depth": 60},
    "a window of 10^6": {"window": [10**6] * 3},
    "the largest window": {"window": [384, 384, 384]},
    "a window of two sides": {"window": [32, 32]},
    "thousands of classes": {"classes": 5000},
    "a width of text": {"dim": "24"},
    "no heads": {"heads": 0},
    "half a block": {"depth": 4.5},
    "air that is not finite": {"air_level": float("nan")},
    "a wide completion": {"completion": {"dim": 6 * 10**9, "heads": 1}},
    "a wide decoder": {"decoder": {"feature_size": 10**7}},
    "a decoder of text": {"decoder": "text"},
    "options that are none": {"options": ["width"]},
    "an option of 10^12": {"sparsifier": "dtop", "options": {"width": 10**12}},
    "a sparsifier that is a list": {"sparsifier": ["stp"]},
}


@pytest.mark.parametrize("case", HOSTILE)
def test_an_architecture_is_judged_before_it_is_built(
    model: ModelInfo, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    info = replace(model, network={**model.network, **HOSTILE[case]}, sha256="")
    build = SparseUNETR.__init__

    def on_meta_only(self: SparseUNETR, config: Any) -> None:
        assert torch.empty(1).device.type == "meta", "memory was taken for it"
        build(self, config)

    monkeypatch.setattr(SparseUNETR, "__init__", on_meta_only)
    assert_refused(lambda: load_network(info), "another architecture", ModelError)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(model: ModelInfo, value: float) -> None:
    tensors = load_file(model.path)
    tensors["air_token"][0] = value
    save_model(tensors, model)

    assert_refused(lambda: load_network(own_file(model)), "not finite", ModelError)


METADATA: dict[str, Any] = {
    "spacing": [1e-9, 0, -1, 1e9, float("nan"), "1", True, None],
    "default_setting": [2, -1, float("nan"), "0.3"],
    "classes": [["background"], ["background", "a", "a"], ["b"] * 300, ["b", ""], ["b", 3], 7],
    "colors": [["#000000", "red", "#ffffff"], [0, 0, 0], "#000000"],
    "title": ["", "two\nlines", "\x1b[31mred", "x" * 1000, 5],
    "name": ["", None, "\x00", "x" * 1000],
    "method": [[], {}, 3, "newest"],
    "network": [[], None, "network"],
    "format": [99, "2", None, [2]],
    "sha256": ["0" * 64],  # only the registry vouches for a file
    "url": ["https://example.org"],
    "path": ["elsewhere"],
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k in METADATA for v in METADATA[k]])
def test_what_a_file_says_of_itself_is_judged(model: ModelInfo, key: str, value: Any) -> None:
    def change(header: Header) -> None:
        metadata = json.loads(header["__metadata__"]["sparseseg"])
        header["__metadata__"]["sparseseg"] = json.dumps({**metadata, key: value})

    rewrite(model.path, change)
    assert_refused(lambda: find_model(model.path), "holds no SparseSeg model", ModelError)


ENTRY: dict[str, Any] = {
    "sha256": ["", "no hash", 5, None, "0" * 63],
    "file": ["", "..", "tiny", "/", ".hidden.safetensors", "a b.safetensors"],
    "card": ["../secrets.md", "/etc/passwd", 4],
    "size_bytes": [-1, "5", 1.5, True],
    "url": ["http://example.org/x", "file:///etc/passwd", "https://", "https://a b", 3],
    "name": ["another", None],
    "sha265": ["misspelt"],
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k in ENTRY for v in ENTRY[k]])
def test_an_entry_of_the_index_is_judged(model: ModelInfo, key: str, value: Any) -> None:
    file = model.path.parent / "index.json"
    index = json.loads(file.read_text())
    index["models"][0][key] = value
    file.write_text(json.dumps(index))

    assert_refused(models, "index.json is damaged", ModelError)


@pytest.mark.parametrize("damage", ["twice", "deep", "large", "nul"])
def test_a_damaged_index_is_one_sentence(model: ModelInfo, damage: str) -> None:
    file = model.path.parent / "index.json"
    index = json.loads(file.read_text())
    texts = {
        "twice": json.dumps({"models": index["models"] * 2}),
        "deep": "[" * 200_000,
        "large": json.dumps({"models": [], "padding": " " * 2**22}),
        "nul": "\x00" * 100,
    }
    file.write_text(texts[damage])

    assert_refused(models, "index.json is damaged", ModelError)


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")

    assert_refused(lambda: find_model(tmp_path / "pipe.safetensors"), "cannot be read", ModelError)


def test_a_file_too_large_for_any_model_is_refused(
    model: ModelInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_file, "MAX_BYTES", 1000)

    assert_refused(lambda: load_network(own_file(model)), "larger than any model", ModelError)


def test_the_bytes_that_were_checked_are_those_that_are_loaded(
    model: ModelInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file takes the place of the checked one before its tensors are unpacked."""
    expected = load_file(model.path)["air_token"].float()
    unpack = weights.tensors_of

    def swap(content: bytes, path: Path) -> dict[str, torch.Tensor]:
        path.write_bytes(b"something else")
        return unpack(content, path)

    monkeypatch.setattr(weights, "tensors_of", swap)
    assert torch.equal(load_network(model).state_dict()["air_token"], expected)


def test_a_file_that_changes_after_it_was_hashed_is_refused(
    model: ModelInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the report never names another hash than that of the weights that ran."""
    info = own_file(model)
    load = load_network
    other = load_file(info.path)
    other["air_token"] += 1

    def swap(asked: ModelInfo) -> SparseUNETR:
        save_model(other, info)
        return load(asked)

    monkeypatch.setattr("napari_sparseseg.segmenter.load_network", swap)
    assert_refused(lambda: Segmenter(info, "cpu"), "checksum differs", ModelError)


@pytest.mark.parametrize("write", ["save_model", "register_model"])
def test_a_write_that_fails_leaves_the_old_file(
    model: ModelInfo, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    folder = model.path.parent
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    tensors = load_file(model.path)
    actions = {
        "save_model": lambda: save_model(tensors, replace(model, title="new")),
        "register_model": lambda: register_model(replace(model, title="new")),
    }
    assert_refused(actions[write], "disk is full", OutputError)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
