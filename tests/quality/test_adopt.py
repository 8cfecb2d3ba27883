"""The recommended settings become the defaults, and nothing else changes."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import equal

from benchmarks.quality.adopt import adopt, with_default
from napari_sparseseg.weights import find_model, load_network, register_model, weights_checksum
from tests.quality.tiny import make_model

OWN = 'base = "tiny.toml"\nname = "tiny-stp"\ndefault = 0.5\n\n[network]\nsparsifier = "stp"\n'
INHERITED = 'base = "tiny.toml"\nname = "tiny-stp"\n\n[network]\nsparsifier = "stp"\n'


@pytest.mark.parametrize("recipe", [OWN, INHERITED])
def test_a_recipe_gets_another_default(recipe: str) -> None:
    before, after = tomllib.loads(recipe), tomllib.loads(with_default(recipe, 0.29))
    assert after == {**before, "default": 0.29}


def test_model_recipe_and_index_follow_the_recommendation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, recipes = tmp_path / "weights", tmp_path / "recipes"
    weights.mkdir()
    recipes.mkdir()
    info = make_model(weights, "stp")
    register_model(info)
    (recipes / "tiny-stp.toml").write_text(OWN)
    monkeypatch.setenv("SPARSESEG_WEIGHTS", str(weights))
    tensors, checksum = load_file(info.path), weights_checksum(info.path)
    (recipes / "compared.toml").write_text(OWN)  # trained, but not shipped
    names = {"by-path": 0.1, "compared": 0.2, "tiny-stp": 0.3}
    chosen = {name: {"setting": setting, "why": ""} for name, setting in names.items()}

    assert adopt({"chosen": chosen}, recipes) == ["tiny-stp"]

    found = find_model("tiny-stp")
    assert found.default_setting == 0.3
    assert tomllib.loads((recipes / "tiny-stp.toml").read_text())["default"] == 0.3
    assert weights_checksum(found.path) == checksum
    assert all(equal(tensor, tensors[key]) for key, tensor in load_file(found.path).items())
    assert (recipes / "compared.toml").read_text() == OWN
    load_network(found)  # the index has the checksum of the new file
    assert adopt({"chosen": chosen}, recipes) == []
