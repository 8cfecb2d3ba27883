"""Model cards: facts from recipes, logs and figures, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from napari_sparseseg.training.card import main, write_card
from napari_sparseseg.training.loop import LOG_COLUMNS
from napari_sparseseg.training.recipe import Recipe, load_recipe
from napari_sparseseg.weights import ModelInfo, register_model
from tests.training.conftest import RECIPES


def chain(*names: str) -> list[Recipe]:
    return [load_recipe(RECIPES / f"{name}.toml") for name in names]


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Logs of runs that were stopped once: 120 + 60 seconds."""
    folder = tmp_path / "logs"
    folder.mkdir()
    for file in RECIPES.glob("*.toml"):
        method = 0.3 if file.stem.endswith("dtop") else 0.0
        values = {"rate": 1e-3, "setting": 1.0, "loss": 2.0, "dice": 0.5, "cross_entropy": 0.4}
        values |= {"drawn": 0.6, "token": 0.3, "score": 0.2, "method": method}
        rows = [
            [({"step": step, "seconds": seconds} | values)[column] for column in LOG_COLUMNS]
            for step, seconds in ((10, 60), (20, 120), (30, 60))
        ]
        text = [",".join(map(str, row)) for row in (LOG_COLUMNS, *rows)]
        (folder / f"{file.stem}.csv").write_text("\n".join(text) + "\n")
    return folder


def model(recipe: Recipe, folder: Path) -> ModelInfo:
    path = folder / f"{recipe.name}.safetensors"
    path.write_bytes(b"x" * 1_500_000)
    return ModelInfo(
        name=recipe.name,
        title="A title",
        method=recipe.network.sparsifier,
        modality=recipe.task.modality,
        spacing=recipe.data.spacing,
        classes=recipe.task.classes,
        colors=recipe.task.colors,
        default_setting=recipe.default,
        network=recipe.network.to_dict(),
        license=recipe.task.license,
        path=path,
        sha256="abc123",
        card=f"{recipe.name}.md",
    )


def heads_results(name: str) -> dict[str, Any]:
    """Two seeds of random pruning, whose mean the card shows."""

    def arm(sparsifier: str, seed: int, setting: float | None, dice: float) -> dict[str, Any]:
        scan = {"mean": dice, "sd_over_scans": 0.02, "structures": {"thalamus": dice, "CSF": 0.0}}
        return {
            "sparsifier": sparsifier,
            "seed": seed,
            "setting": setting,
            "brain-t1": scan,
            "validation": scan,
            "tokens": {"kept": 90, "pruned": 8, "exited": 2, "air": 50},
            "gmacs": {"run": 40.04, "dense": 56.1},
        }

    arms = [
        arm("dtop", 0, 1.0, 0.75),
        arm("dtop", 0, 0.9, 0.74),
        arm("random", 1, 0.9, 0.60),
        arm("random", 2, 0.9, 0.62),
        arm("none", 0, None, 0.31),
    ]
    return {
        "models": [
            {
                "model": name,
                "precision": "bfloat16",
                "setting": "exit threshold",
                "validation": {"files": ["a", "b"], "scans": 6},
                "arms": arms,
            }
        ]
    }


def test_card_of_a_whole_brain_model(logs: Path, tmp_path: Path) -> None:
    runs = chain("brain-mr-warmup", "brain-mr-dense", "brain-mr-dtop")
    info = model(runs[-1], tmp_path)
    text = write_card(info, runs, heads_results(info.name), logs)
    assert text.startswith("# brain-mr-dtop\n")
    assert "Tang et al., ICCV 2023, arXiv:2308.01045" in text
    assert "Licence of the weights: Apache-2.0." in text
    assert "1.5 MB, sha256 `abc123`" in text
    assert "4 of them held out" in text
    assert "* `brain-mr-warmup`: 30 steps of one window, 3 minutes on a busy machine, keep" in text
    assert (
        "* `brain-mr-dense`: 30 steps of one window, 3 minutes on a busy machine, nothing" in text
    )
    assert "exit threshold 1, 0.98, 0.95, 0.9" in text
    assert "the method's own published loss" in text
    assert "listwise" not in text
    assert "| 0.9 | dtop | 90 / 8 / 2 / 50 | 40.0 of 56.1 | 0.740 | 0.740 | 0.740 ± 0.020 |" in text
    assert "| 0.9 | random | 90 / 8 / 2 / 50 | 40.0 of 56.1 | 0.610 | 0.610 |" in text
    assert "| – | none |" in text
    assert "works at 2 mm" in text


def test_card_of_a_model_of_real_scans(logs: Path, tmp_path: Path, results: dict[str, Any]) -> None:
    runs = chain("hippocampus-mr-start", "hippocampus-mr-dtop")
    text = write_card(model(runs[-1], tmp_path), runs, results, logs)
    assert "Licence of the weights: CC-BY-SA-4.0." in text
    assert "share-alike" in text
    assert "30 steps of 2 windows" in text
    assert "exit threshold 0.9731" in text
    assert "`hippocampus-mr-dense` |" not in text  # only its own rows
    assert "The dense twin here: 0.881" in text
    assert "works at 1 mm" in text


def test_the_score_target_is_named_where_it_was_used(
    logs: Path, tmp_path: Path, results: dict[str, Any]
) -> None:
    runs = chain("hippocampus-mr-start", "hippocampus-mr-stp")
    results["models"][1]["model"] = "hippocampus-mr-stp"
    text = write_card(model(runs[-1], tmp_path), runs, results, logs)
    assert "listwise loss that ranks the scores" in text
    assert "published loss" not in text
    assert "gets no image detail here" in text


def test_the_command_writes_the_card_beside_the_weights(
    logs: Path, tmp_path: Path, results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    recipe = RECIPES / "hippocampus-mr-dtop.toml"
    register_model(model(load_recipe(recipe), weights))
    monkeypatch.setenv("SPARSESEG_WEIGHTS", str(weights))
    (tmp_path / "results.json").write_text(json.dumps(results))
    main([recipe], tmp_path / "results.json", logs)
    text = (weights / "hippocampus-mr-dtop.md").read_text()
    assert "* `hippocampus-mr-start`: 30 steps" in text  # the run that it started from
