"""Model cards: facts from recipes, logs and measurements, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.quality.card import make_card, write_cards
from benchmarks.quality.figures import Figures
from benchmarks.quality.runs import RECIPES, chain
from napari_sparseseg.training.loop import LOG_COLUMNS
from napari_sparseseg.training.recipe import Recipe, load_recipe
from napari_sparseseg.weights import ModelInfo, register_model, weights_checksum
from tests.quality.made_up import measured


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


def registered(recipe: Recipe, folder: Path) -> ModelInfo:
    path = folder / f"{recipe.name}.safetensors"
    path.write_bytes((2).to_bytes(8, "little") + b"{}" + b"x" * 1_499_990)
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


def card(name: str, figures: Figures, folder: Path, logs: Path) -> str:
    recipes = chain(RECIPES / f"{name}.toml")
    (model,) = (model for model in figures.models if model.name == name)
    return make_card(registered(recipes[-1], folder), model, recipes, figures, logs)


def test_card_of_a_whole_brain_model(logs: Path, tmp_path: Path) -> None:
    text = card("brain-mr-dtop", Figures(measured("brain-mr", tests=1)), tmp_path, logs)
    assert text.startswith("# brain-mr-dtop\n")
    assert "Tang et al., ICCV 2023, arXiv:2308.01045" in text
    assert "Licence of the weights: Apache-2.0." in text
    assert "1.5 MB, sha256 `abc123`" in text
    assert "4 of them held out" in text
    assert "* `brain-mr-warmup`: 30 steps of one window, 3 minutes on a busy machine, keep" in text
    assert "* `brain-mr-dtop`: 30 steps of one window, 3 minutes" in text
    assert "the method's own published loss" in text
    assert "listwise" not in text
    assert "works at 2 mm" in text


def test_the_figures_are_those_of_the_model_alone(logs: Path, tmp_path: Path) -> None:
    text = card("hippocampus-mr-dtop", Figures(measured("hippocampus-mr")), tmp_path, logs)
    assert "Licence of the weights: CC-BY-SA-4.0." in text
    assert "share-alike" in text
    assert "30 steps of 2 windows" in text
    table = [line for line in text.splitlines() if line.startswith("| `")]
    assert {line.split("`")[1] for line in table} == {"dtop"}
    assert "not reached: the nearest share is 0.42" in text
    assert "| `dtop` | truncated |" in text
    assert "| anterior hippocampus | 0." in text
    assert "expected calibration error 0.031; 62 % of the errors" in text
    assert "**Recommended.** Default of `dtop`: exit threshold 0.5, within" in text
    assert "works at 1 mm" in text


def test_the_score_target_is_named_where_it_was_used(logs: Path, tmp_path: Path) -> None:
    text = card("hippocampus-mr-stp", Figures(measured("hippocampus-mr")), tmp_path, logs)
    assert "listwise loss that ranks the scores" in text
    assert "published loss" not in text
    assert "gets no image detail here" in text


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    figures = Figures(measured("hippocampus-mr"))
    text = card("hippocampus-mr-stp", figures, tmp_path, tmp_path / "no-logs")
    assert "`hippocampus-mr-start`: steps of 2 windows, length not recorded" in text
    assert "* Loss: not recorded" in text


def test_cards_are_written_beside_the_weights_of_registered_models(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    data = measured("hippocampus-mr")
    for method, same in (("dtop", True), ("stp", False)):
        recipe = load_recipe(RECIPES / f"hippocampus-mr-{method}.toml")
        register_model(registered(recipe, weights))
        sha256 = weights_checksum(weights / f"{recipe.name}.safetensors") if same else "other"
        data["models"][recipe.name]["weights_sha256"] = sha256
    monkeypatch.setenv("SPARSESEG_WEIGHTS", str(weights))
    assert write_cards([Figures(data)], logs) == ["hippocampus-mr-dtop"]
    text = (weights / "hippocampus-mr-dtop.md").read_text()
    assert "* `hippocampus-mr-start`: 30 steps" in text  # the run that it started from
    assert [path.name for path in weights.glob("*.md")] == ["hippocampus-mr-dtop.md"]
