"""Make the recommended settings the defaults of the models, in recipe, weights file and index."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from benchmarks.quality.outcome import Json
from benchmarks.quality.runs import RECIPES
from napari_sparseseg.weights import find_model, models, register_model, save_model

_DEFAULT = re.compile(r"^default = .*$", re.MULTILINE)
_NAME = re.compile(r"^name = .*$", re.MULTILINE)


def adopt(found: Json, recipes: Path = RECIPES) -> list[str]:
    """Give each registered model the setting that was chosen for it on the validation scans.

    The tensors stay as they are, so what was measured of them still holds.

    Parameters
    ----------
    found : dict
        The JSON of a task, with its part "chosen".
    recipes : Path
        Folder of the recipes.

    Returns
    -------
    list of str
        The models whose default changed.
    """
    from safetensors.torch import load_file

    changed, registered = [], {info.name for info in models()}
    for name, choice in found.get("chosen", {}).items():
        recipe = recipes / f"{name}.toml"
        if name not in registered or not recipe.exists():  # measured for comparison only
            continue
        info = find_model(name)
        if info.default_setting == choice["setting"]:
            continue
        recipe.write_text(with_default(recipe.read_text(), choice["setting"]))
        updated = replace(info, default_setting=choice["setting"])
        save_model(load_file(info.path), updated)
        register_model(updated)
        changed.append(name)
    return changed


def with_default(recipe: str, setting: float) -> str:
    """Return the text of a recipe with another default; one that inherits it gets its own."""
    line = f"default = {setting:g}"
    if _DEFAULT.search(recipe):
        return _DEFAULT.sub(line, recipe, count=1)
    return _NAME.sub(lambda match: f"{match[0]}\n{line}", recipe, count=1)
