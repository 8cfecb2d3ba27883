"""The model registry: what is listed, what is loaded, and what is refused in one sentence."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_sparseseg.errors import ModelError
from napari_sparseseg.network import CompletionConfig
from napari_sparseseg.weights import (
    METADATA_KEY,
    Intensity,
    ModelInfo,
    checksum,
    find_model,
    load_network,
    models,
    register_model,
    save_model,
    weights_checksum,
    weights_folder,
)


@pytest.fixture
def folder(
    tiny_models: dict[str, ModelInfo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Give a copy of the tiny registry that a test may damage."""
    folder = tmp_path / "weights"
    shutil.copytree(tiny_models["tiny-stp"].path.parent, folder)
    monkeypatch.setenv("SPARSESEG_WEIGHTS", str(folder))
    return folder


def change_index(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    index = json.loads((folder / "index.json").read_text())
    (entry,) = (entry for entry in index["models"] if entry["name"] == "tiny-stp")
    change(entry)
    (folder / "index.json").write_text(json.dumps(index))


def assert_refused(action: Callable[[], object], match: str) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        action()
    message = str(caught.value)
    assert message.endswith(".") and "\n" not in message and ";" in message


# What there is


def test_the_index_lists_the_models_by_name(
    folder: Path, tiny_models: dict[str, ModelInfo]
) -> None:
    found = models()

    assert [info.name for info in found] == sorted(tiny_models)
    (stp,) = [info for info in found if info.name == "tiny-stp"]
    expected = tiny_models["tiny-stp"]
    path = folder / "tiny-stp.safetensors"
    size = path.stat().st_size
    assert stp == replace(
        expected, path=path, sha256=checksum(path), size_bytes=size, network=stp.network
    )
    assert stp.network == json.loads(json.dumps(expected.network))
    assert {info.task for info in found} == {"tiny", "tiny-open"}


def test_an_entry_of_the_same_name_is_replaced(folder: Path) -> None:
    before = {m.name: m.title for m in models()}
    register_model(replace(find_model("tiny-stp"), title="Another"))

    assert {m.name: m.title for m in models()} == before | {"tiny-stp": "Another"}


def test_the_shipped_models_are_in_the_checkout(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPARSESEG_WEIGHTS", raising=False)

    assert weights_folder() == repository / "weights"
    assert "brain-mr-stp" in [info.name for info in models()]


def test_the_weights_that_are_shipped_are_those_of_the_index(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPARSESEG_WEIGHTS", raising=False)

    for info in models():
        assert checksum(info.path) == info.sha256
        assert info.path.stat().st_size <= 25 * 2**20
        assert (repository / "weights" / info.card).is_file()
        assert len(set(info.classes)) == len(info.colors)


# Loading


def test_a_saved_network_comes_back(folder: Path, tiny_models: dict[str, ModelInfo]) -> None:
    network = load_network(find_model("tiny-stp"))
    stored = load_file(tiny_models["tiny-stp"].path)

    assert not network.training
    state = network.state_dict()
    assert state.keys() == stored.keys()
    for name, tensor in stored.items():
        assert tensor.dtype == torch.float16
        assert state[name].dtype == torch.float32
        assert torch.equal(state[name], tensor.float())


def test_a_model_can_be_named_by_its_file(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "copy.safetensors"
    shutil.copy(folder / "tiny-stp.safetensors", elsewhere)
    (folder / "index.json").unlink()

    for name in (elsewhere, str(elsewhere)):
        info = find_model(name)
        assert (info.name, info.path, info.sha256) == ("tiny-stp", elsewhere, "")
        assert info.classes[1] == "shell"
        assert load_network(info).config.depth == 4


def test_a_file_in_the_working_folder_can_be_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)

    assert find_model("tiny-dense.safetensors").method == "dense"


@pytest.mark.parametrize("intensity", ["mr", "ct"])
def test_a_model_says_what_the_numbers_of_a_scan_mean_to_it(
    folder: Path, tmp_path: Path, intensity: Intensity
) -> None:
    path = tmp_path / "model.safetensors"
    save_model({}, replace(find_model("tiny-stp"), path=path, intensity=intensity))

    assert find_model(path).intensity == intensity


def test_a_model_from_before_ct_is_for_mr(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "older.safetensors"
    metadata = find_model("tiny-stp").metadata()
    del metadata["intensity"]
    save_file({}, path, {METADATA_KEY: json.dumps(metadata)})
    change_index(folder, lambda entry: entry["metadata"].pop("intensity"))

    assert find_model(path).intensity == "mr"
    assert find_model("tiny-stp").intensity == "mr"


# Refusing


def test_an_unknown_name_is_answered_with_the_names_that_there_are(folder: Path) -> None:
    assert_refused(
        lambda: find_model("brain"), "'brain'.*tiny-dense, tiny-dtop, tiny-open, tiny-stp"
    )


def test_a_missing_registry_is_named(folder: Path) -> None:
    shutil.rmtree(folder)

    assert_refused(models, "SPARSESEG_WEIGHTS")
    assert_refused(lambda: find_model("tiny-stp"), "No models were found")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"models": 3}', '{"models": [{}]}', '{"models": ["tiny"]}', "\xff"],
)
def test_a_damaged_index_is_named(folder: Path, text: str) -> None:
    (folder / "index.json").write_bytes(text.encode("latin-1"))

    assert_refused(models, "index.json is damaged")


@pytest.mark.parametrize("key", ["file", "sha256", "metadata"])
def test_an_incomplete_entry_is_a_damaged_index(folder: Path, key: str) -> None:
    change_index(folder, lambda entry: entry.pop(key))

    assert_refused(models, "index.json is damaged")


@pytest.mark.parametrize("metadata", ["text", ["name"], {"name": "tiny"}])
def test_strange_metadata_are_a_damaged_index(folder: Path, metadata: Any) -> None:
    change_index(folder, lambda entry: entry.update(metadata=metadata))

    assert_refused(models, "index.json is damaged")


@pytest.mark.parametrize("outside", ["../outside.safetensors", "{tmp}/outside.safetensors"])
def test_an_index_cannot_point_outside_its_folder(
    folder: Path, tmp_path: Path, outside: str
) -> None:
    shutil.move(folder / "tiny-stp.safetensors", tmp_path / "outside.safetensors")
    change_index(folder, lambda entry: entry.update(file=outside.format(tmp=tmp_path)))

    assert find_model("tiny-stp").path == folder / "outside.safetensors"
    assert_refused(lambda: load_network(find_model("tiny-stp")), "missing")


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / "tiny-stp.safetensors").unlink()

    assert_refused(lambda: load_network(find_model("tiny-stp")), "tiny-stp.safetensors is missing")
    assert_refused(lambda: find_model(folder / "tiny-stp.safetensors"), "cannot be read")


@pytest.mark.parametrize("where", [-1, 3000, 20])
def test_one_changed_byte_is_found(folder: Path, where: int) -> None:
    path = folder / "tiny-stp.safetensors"
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)

    assert_refused(lambda: load_network(find_model("tiny-stp")), "checksum")


def test_truncated_weights_are_refused(folder: Path) -> None:
    path = folder / "tiny-stp.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])

    assert_refused(lambda: load_network(find_model("tiny-stp")), "checksum")
    assert_refused(lambda: load_network(find_model(path)), "damaged")


@pytest.mark.parametrize("length", [0, 5, 8, 500])
def test_a_file_cut_in_its_header_is_no_model(folder: Path, length: int) -> None:
    path = folder / "tiny-stp.safetensors"
    path.write_bytes(path.read_bytes()[:length])

    assert_refused(lambda: find_model(path), "not a safetensors file")


def test_a_renamed_pickle_is_never_opened(folder: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    plain, zipped = folder / "plain.safetensors", folder / "zipped.safetensors"
    plain.write_bytes(pickle.dumps(Trap()))
    torch.save({"weight": Trap()}, zipped)
    for path in (plain, zipped):
        assert_refused(lambda path=path: find_model(path), "not a safetensors file")
    assert not (tmp_path / "sprung").exists()


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").mkdir()

    assert_refused(lambda: find_model(tmp_path / "x.safetensors"), "cannot be read")


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {},
        {METADATA_KEY: "no json"},
        {METADATA_KEY: "[]"},
        {METADATA_KEY: '"text"'},
        {METADATA_KEY: '{"format": 1}'},
        {METADATA_KEY: '{"format": 99}'},
        {METADATA_KEY: '{"format": 1, "classes": 3, "colors": 3}'},
    ],
)
def test_a_foreign_safetensors_file_is_no_model(
    folder: Path, metadata: dict[str, str] | None
) -> None:
    path = folder / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, path, metadata)

    assert_refused(lambda: find_model(path), "holds no SparseSeg model")


OTHER_COMPLETION = CompletionConfig(48, 1, 2)


def with_network(info: ModelInfo, **settings: Any) -> ModelInfo:
    """Claim another architecture than that of the weights."""
    return replace(info, network={**info.network, **settings})


OTHER: dict[str, Callable[[ModelInfo], ModelInfo]] = {
    "wider": lambda info: with_network(info, dim=64),
    "deeper": lambda info: with_network(info, depth=5),
    "other completion": lambda info: with_network(info, completion=asdict(OTHER_COMPLETION)),
    "unknown setting": lambda info: with_network(info, memory=3),
    "unknown sparsifier": lambda info: with_network(info, sparsifier="newest"),
    "bad window": lambda info: with_network(info, window=[30, 32, 32]),
    "one class too few": lambda info: with_network(info, classes=4),
    "one name too few": lambda info: replace(info, classes=info.classes[:-1]),
    "one colour too many": lambda info: replace(info, colors=(*info.colors, "#123456")),
}


@pytest.mark.parametrize("case", OTHER)
def test_weights_of_another_architecture_are_refused(folder: Path, case: str) -> None:
    path = folder / "other.safetensors"
    info = OTHER[case](find_model("tiny-stp"))
    save_model(load_file(info.path), replace(info, path=path))

    assert_refused(lambda: load_network(find_model(path)), "another architecture")


def test_weights_with_a_tensor_too_few_are_refused(folder: Path) -> None:
    info = replace(find_model("tiny-stp"), path=folder / "other.safetensors", sha256="")
    tensors = load_file(folder / "tiny-stp.safetensors")
    tensors.pop("air_token")
    save_model(tensors, info)

    assert_refused(lambda: load_network(info), "another architecture")


def test_a_new_default_leaves_the_checksum_of_the_weights(
    tiny_models: dict[str, ModelInfo], tmp_path: Path
) -> None:
    info = tiny_models["tiny-stp"]
    tensors = load_file(info.path)
    again = replace(info, path=tmp_path / "again.safetensors", default_setting=0.123)
    save_model(tensors, again)
    other = replace(info, path=tmp_path / "other.safetensors")
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    save_model({**tensors, name: tensors[name] + 1}, other)

    assert checksum(again.path) != checksum(info.path)
    assert weights_checksum(again.path) == weights_checksum(info.path)
    assert weights_checksum(other.path) != weights_checksum(info.path)


def test_the_checksum_of_missing_weights_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        weights_checksum(tmp_path / "none.safetensors")


def test_a_model_for_an_unknown_kind_of_scan_is_none_of_ours(
    tiny_models: dict[str, ModelInfo], tmp_path: Path
) -> None:
    info = tiny_models["tiny-stp"]
    foreign = replace(info, path=tmp_path / "pet.safetensors", intensity="pet")  # type: ignore[arg-type]
    save_model(load_file(info.path), foreign)

    assert_refused(lambda: find_model(foreign.path), "holds no SparseSeg model")
