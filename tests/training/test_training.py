"""A whole training run in small: loop, starting, resuming, export."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_sparseseg.errors import ModelError
from napari_sparseseg.network import SparseUNETR
from napari_sparseseg.network.encoded import Encoded
from napari_sparseseg.network.sparsifiers.dense import KeepAll
from napari_sparseseg.training.__main__ import main
from napari_sparseseg.training.checkpoint import load_checkpoint
from napari_sparseseg.training.curve import draw_curve
from napari_sparseseg.training.export import export
from napari_sparseseg.training.loop import draw_setting, step, train
from napari_sparseseg.training.recipe import OptimiserConfig, Recipe
from napari_sparseseg.training.run import Run, find_start, learning_rate
from napari_sparseseg.training.scans import ScanSource
from napari_sparseseg.training.source import Source
from napari_sparseseg.training.synthesis import Synthesiser
from napari_sparseseg.weights import find_model, load_network
from tests.training.conftest import RECIPES, scan_recipe, small_recipe


def weights(run: Run) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in run.learner.state_dict().items()}


@pytest.fixture
def scans(data_set: Path) -> ScanSource:
    return scan_recipe().data.open(data_set)  # type: ignore[return-value]


def both(scans: ScanSource, source: Synthesiser) -> list[tuple[Source, Recipe]]:
    return [(scans, scan_recipe()), (source, small_recipe())]


def test_training_moves_every_part(scans: ScanSource, source: Synthesiser, tmp_path: Path) -> None:
    for number, (data, plan) in enumerate(both(scans, source)):
        run = Run.create(plan, "cpu")
        start = weights(run)
        train(run, data, tmp_path / str(number), save_every=2, minutes=10)
        assert run.step == 4
        moved = {k.split(".")[1] for k, v in weights(run).items() if not torch.equal(v, start[k])}
        assert moved >= {"encoder", "sparsifier", "completion", "decoder"}


@pytest.mark.parametrize("method", ["stp", "svit"])  # both draw noise while training
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    scans: ScanSource, tmp_path: Path, method: str
) -> None:
    plan = scan_recipe(method, steps=6, settings=(0.5,))  # noise in every step
    whole = Run.create(plan, "cpu")
    train(whole, scans, tmp_path / "whole", save_every=100, minutes=10)
    first = Run.create(plan, "cpu")
    train(first, scans, tmp_path / "parts", save_every=2, minutes=0)  # stops after a step
    assert first.step == 1
    scans.draw()  # whatever else was drawn in between does not count
    torch.manual_seed(99)
    second = Run.create(plan, "cpu")
    second.resume(tmp_path / "parts" / "checkpoint.safetensors")
    assert second.step == 1
    train(second, scans, tmp_path / "parts", save_every=2, minutes=10)
    assert second.step == 6
    for key, value in weights(whole).items():
        assert torch.equal(weights(second)[key], value), key
    assert torch.equal(second.balance, whole.balance)
    assert not torch.equal(whole.balance, torch.ones(3))


def test_the_log_has_a_line_every_ten_steps_and_gives_a_curve(
    scans: ScanSource, tmp_path: Path
) -> None:
    train(Run.create(scan_recipe(steps=20), "cpu"), scans, tmp_path, save_every=50, minutes=10)
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["10", "20"]
    assert all(np.isfinite(float(row[key])) for row in rows for key in ("loss", "method"))
    assert {row["setting"] for row in rows} <= {"1.0", "0.5"}
    draw_curve(tmp_path / "log.csv", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_resumed_log_forgets_what_came_after_the_checkpoint(
    scans: ScanSource, tmp_path: Path
) -> None:
    run = Run.create(scan_recipe(steps=20), "cpu")
    train(run, scans, tmp_path, save_every=100, minutes=10)
    early = Run.create(scan_recipe(steps=20), "cpu")
    early.step = 11
    train(early, scans, tmp_path, save_every=100, minutes=10)
    with (tmp_path / "log.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["10", "20"]


def test_the_methods_own_loss_counts_by_its_weight(
    scans: ScanSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss of 7 that sees the class mix of every token, in the order of the tokens."""
    seen = []

    def loss(self: KeepAll, encoded: Encoded, mix: Tensor) -> Tensor:
        seen.append((encoded.layout, mix))
        return mix.new_tensor(7.0)

    monkeypatch.setattr(KeepAll, "loss", loss)
    samples = [scans.draw()]
    totals = {}
    for weight in (0.0, 1.0, 2.0):
        plan = scan_recipe("dense")
        plan = replace(plan, loss=replace(plan.loss, method=weight))
        values = step(Run.create(plan, "cpu"), samples, 1.0)
        assert values["method"] == 7.0
        totals[weight] = values["loss"]
    assert totals[1.0] - totals[0.0] == pytest.approx(7.0, abs=1e-4)
    assert totals[2.0] - totals[0.0] == pytest.approx(14.0, abs=1e-4)
    layout, mix = seen[0]
    label = samples[0].subvoxels[0].view(4, 8, 6, 8, 4, 8).permute(0, 2, 4, 1, 3, 5)
    shares = torch.stack([(label.reshape(-1, 512) == c).float().mean(dim=1) for c in range(3)])
    assert torch.allclose(mix, shares.T[layout.cells])
    assert mix[:, 1].any()


def test_the_sparsifier_may_learn_at_a_rate_of_its_own(scans: ScanSource) -> None:
    plan = scan_recipe()
    plan = replace(plan, optimiser=replace(plan.optimiser, sparsifier=10.0))
    run = Run.create(plan, "cpu")
    step(run, [scans.draw()], 0.5)
    rates = {}
    for group in run.optimiser.param_groups:
        for parameter in group["params"]:
            rates[parameter] = group["lr"]
    assert len(rates) == len(list(run.learner.parameters()))
    slow = learning_rate(plan.optimiser, 0)
    for name, parameter in run.learner.named_parameters():
        fast = name.startswith("network.sparsifier.")
        assert rates[parameter] == pytest.approx(10 * slow if fast else slow), name


@pytest.mark.parametrize("method", ["stp", "dtop", "svit", "apformer", "truncated", "none"])
def test_every_method_starts_from_the_dense_run_and_trains(
    scans: ScanSource, tmp_path: Path, method: str
) -> None:
    dense = scan_recipe("dense", completion="preserve", steps=2, settings=(1.0,))
    run = Run.create(dense, "cpu")
    train(run, scans, tmp_path / dense.name, save_every=1, minutes=10)
    kind = "assembly" if method == "stp" else "preserve"
    plan = scan_recipe(method, completion=kind, steps=1, start=dense.name)
    twin = Run.create(plan, "cpu", find_start(plan.start, tmp_path))
    average = run.average.module.state_dict()
    for key in ("network.encoder.blocks.0.mlp.0.weight", "token_head.weight"):
        assert torch.equal(twin.learner.state_dict()[key], average[key])
    train(twin, scans, tmp_path / "twin", save_every=1, minutes=10)
    assert twin.step == 1
    assert all(bool(v.isfinite().all()) for v in weights(twin).values())


def test_a_run_may_start_from_a_registered_model(
    scans: ScanSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = scan_recipe("dense", steps=1, settings=(1.0,), default=1.0)
    run = Run.create(plan, "cpu")
    train(run, scans, tmp_path / "run", save_every=1, minutes=10)
    export(plan, tmp_path / "run" / "checkpoint.safetensors", tmp_path / "weights")
    monkeypatch.setenv("SPARSESEG_WEIGHTS", str(tmp_path / "weights"))
    start = find_start(plan.name, tmp_path / "no-runs")
    assert start.token_head == {}
    assert start.window == (32, 48, 32)
    twin = Run.create(scan_recipe("svit"), "cpu", start)
    average = run.average.module.network
    for key, value in twin.learner.network.encoder.state_dict().items():
        assert torch.equal(value, average.encoder.state_dict()[key].half().float()), key


def test_a_run_may_start_from_one_of_another_window(scans: ScanSource, tmp_path: Path) -> None:
    """Middle on middle: along x a token more at either end, along y one less."""
    run = Run.create(scan_recipe(steps=1), "cpu")
    train(run, scans, tmp_path / "run", save_every=1, minutes=10)
    assert load_checkpoint(tmp_path / "run" / "checkpoint.safetensors")["window"] == [32, 48, 32]
    start = find_start("run", tmp_path)
    assert start.window == (32, 48, 32)
    plan = scan_recipe()
    plan = replace(plan, network=replace(plan.network, window=(48, 32, 32)))
    twin = Run.create(plan, "cpu", start)

    old = run.average.module.network.encoder.positions.view(4, 6, 4, 24)
    new = twin.learner.network.encoder.positions.view(6, 4, 4, 24)
    assert torch.equal(new, old[[0, 0, 1, 2, 3, 3], 1:5])
    assert torch.equal(new, twin.average.module.network.encoder.positions.view(6, 4, 4, 24))


def test_a_start_that_nobody_trained_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="'hippocampus-mr-nobody' is neither a run"):
        find_start("hippocampus-mr-nobody", tmp_path)


def test_a_start_of_another_architecture_is_refused(scans: ScanSource, tmp_path: Path) -> None:
    run = Run.create(scan_recipe(steps=1), "cpu")
    train(run, scans, tmp_path / "run", save_every=1, minutes=10)
    plan = scan_recipe()
    other = replace(plan, network=replace(plan.network, depth=6))
    with pytest.raises(ValueError, match="another architecture"):
        Run.create(other, "cpu", find_start("run", tmp_path))


def test_an_exported_model_is_the_averaged_network(
    scans: ScanSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.create(scan_recipe(steps=2), "cpu")
    train(run, scans, tmp_path / "run", save_every=1, minutes=10)
    export(run.recipe, tmp_path / "run" / "checkpoint.safetensors", tmp_path / "weights")
    monkeypatch.setenv("SPARSESEG_WEIGHTS", str(tmp_path / "weights"))
    info = find_model("hippocampus-mr-stp")
    assert (info.method, info.default_setting, info.license) == ("stp", 0.5, "CC-BY-SA-4.0")
    assert info.classes == ("background", "anterior hippocampus", "posterior hippocampus")
    assert info.title == "Hippocampus MR, STP + MTA"
    assert info.task == "hippocampus-mr"
    loaded = load_network(info)
    average = run.average.module
    assert isinstance(average.network, SparseUNETR)
    for key, value in average.network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value.half().float())


def test_a_variant_names_itself_in_the_title(scans: ScanSource, tmp_path: Path) -> None:
    plan = scan_recipe(steps=1, variant="STP + mask tokens")
    train(Run.create(plan, "cpu"), scans, tmp_path / "run", save_every=1, minutes=10)
    info = export(plan, tmp_path / "run" / "checkpoint.safetensors", tmp_path / "weights")
    assert info.title == "Hippocampus MR, STP + mask tokens"


def test_the_command_trains_and_resumes(data_set: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        f'base = "{RECIPES / "hippocampus-mr-start.toml"}"\nname = "tiny"\nbatch = 1\n'
        "[network]\ndim = 24\ndepth = 4\nheads = 2\nstages = [1, 2, 3]\nwindow = [32, 48, 32]\n"
        "[network.completion]\ndim = 24\nheads = 2\n[network.decoder]\nfeature_size = 4\n"
        "[data]\nwindow = [32, 48, 32]\n[optimiser]\nwarmup = 2\nsteps = 10\ndecay = 2\n"
    )
    out = tmp_path / "runs" / "tiny"
    for minutes in (0, 9):
        main(recipe, data_set, out, device="cpu", threads=1, minutes=minutes, save_every=5)
    assert load_checkpoint(out / "checkpoint.safetensors")["step"] == 10
    assert (out / "curve.png").exists()


def test_learning_rate_by_hand() -> None:
    config = OptimiserConfig(rate=1.0, warmup=4, steps=20, decay=10)
    assert [learning_rate(config, s) for s in (0, 3, 9, 15)] == pytest.approx([0.25, 1, 1, 0.5])
    assert learning_rate(config, 20) == 0


def test_dense_and_sparsest_setting_are_drawn_most() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_setting((1.0, 0.5, 0.1), rng) for _ in range(1000)]
    counts = [drawn.count(r) for r in (1.0, 0.5, 0.1)]
    assert counts[0] > 1.5 * counts[1]
    assert counts[2] > 1.5 * counts[1]
