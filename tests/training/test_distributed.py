"""Training on two real processes: they hold the same weights, which are those of the mean gradient.

The processes are started by torchrun, as a user starts them, with one thread each.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_sparseseg.training.__main__ import main
from napari_sparseseg.training.checkpoint import load_checkpoint
from napari_sparseseg.training.distributed import Group
from napari_sparseseg.training.loop import TERMS, compute_losses, draw_setting
from napari_sparseseg.training.recipe import load_recipe
from napari_sparseseg.training.run import Run, learning_rate
from napari_sparseseg.training.source import Sample
from tests.training.conftest import RECIPES

STEPS = 3

WORKER = """
import sys
from pathlib import Path

import torch
from torch import nn

from napari_sparseseg.training.distributed import joined
from napari_sparseseg.training.loop import train
from napari_sparseseg.training.recipe import load_recipe
from napari_sparseseg.training.run import Run

data, out, *recipes = map(Path, sys.argv[1:])


class Noted:
    device = "cpu"

    def __init__(self, source):
        self.source, self.samples = source, []

    def seed(self, seed):
        self.source.seed(seed)

    def draw(self):
        self.samples.append(self.source.draw())
        return self.samples[-1]


def gradients(group):
    # both have one for the first layer, process 1 for the second, none for the third
    layers = nn.ModuleList(nn.Linear(2, 1, bias=False) for _ in range(3))
    layers[0].weight.grad = torch.tensor([[1.0, 2.0]]) * (1 + 2 * group.rank)
    if group.rank:
        layers[1].weight.grad = torch.tensor([[8.0, 6.0]])
    group.average_gradients(layers.parameters())
    return [layer.weight.grad for layer in layers]


torch.set_num_threads(1)
with joined("cpu") as (group, device):
    assert device == "cpu" and group.size == 2
    for recipe in recipes:
        plan = load_recipe(recipe)
        run, source = Run.create(plan, device), Noted(plan.data.open(data))
        if group.rank:  # what differs at the start is put right
            for tensor in run.shared_state():
                tensor.detach().add_(1)
        minutes = 0 if plan.name == "stopped" else 10
        train(run, source, out / plan.name, save_every=100, minutes=minutes, group=group)
        seen = [(s.image, s.subvoxels) for s in source.samples]
        state = {
            "step": run.step,
            "learner": run.learner.state_dict(),
            "average": run.average.state_dict(),
            "balance": run.balance,
            "samples": seen,
            "gradients": gradients(group),
            "largest": group.largest(5 - 7 * group.rank),
        }
        torch.save(state, out / f"{plan.name}-{group.rank}.pt")
"""

FAILING = """
import os
import sys
from pathlib import Path

from napari_sparseseg.training import losses
from napari_sparseseg.training.__main__ import main

whole, calls = losses.voxel_losses, []


def voxel_losses(*arguments):
    calls.append(1)
    if os.environ["RANK"] == "1" and len(calls) == 3:
        raise RuntimeError("this process is broken")
    return whole(*arguments)


losses.voxel_losses = voxel_losses
main(*map(Path, sys.argv[1:]), device="cpu", threads=1, save_every=1)
"""


def write_recipe(folder: Path, name: str, steps: int = STEPS, method: str = "stp") -> Path:
    """Write a recipe for a tiny network that reads the data set of the tests."""
    path = folder / f"{name}.toml"
    kind = "assembly" if method == "stp" else "preserve"
    extra = "options = { standardise = true }\n" if method == "svit" else ""
    path.write_text(
        f'base = "{RECIPES / "hippocampus-mr-start.toml"}"\nname = "{name}"\nbatch = 1\n'
        f'seed = 5\nsettings = [1.0, 0.5]\n[network]\nsparsifier = "{method}"\n{extra}'
        "dim = 24\ndepth = 4\nheads = 2\nstages = [1, 2, 3]\nwindow = [32, 48, 32]\n"
        f'[network.completion]\nkind = "{kind}"\ndim = 24\nheads = 2\n'
        "[network.decoder]\nfeature_size = 4\n"
        f"[data]\nwindow = [32, 48, 32]\n[optimiser]\nwarmup = 2\nsteps = {steps}\ndecay = 2\n"
    )
    return path


def torchrun(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script with arguments on two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)


@dataclass(frozen=True)
class Told(Group):
    """One of the two processes, told the means instead of asking the other one."""

    means: list[Tensor] = field(default_factory=list)
    noted: list[Tensor] = field(default_factory=list)

    def average(self, tensors: Sequence[Tensor]) -> None:
        self.noted.extend(tensor.clone() for tensor in tensors)
        for tensor, mean in zip(tensors, self.means, strict=False):
            tensor.copy_(mean)


def step_by_hand(run: Run, samples: list[Sample]) -> None:
    """Do the next step of two processes in this one."""
    seeds = np.random.SeedSequence([run.recipe.seed, run.step]).generate_state(3)
    setting = draw_setting(run.recipe.settings, np.random.default_rng(int(seeds[2])))
    before = run.balance.clone()

    def losses_of(rank: int, means: list[Tensor]) -> tuple[dict[str, Tensor], list[Tensor]]:
        torch.manual_seed(int(seeds[0]))
        run.balance.copy_(before)
        group = Told(rank, means=means)
        return compute_losses(run, [samples[rank]], setting, group), group.noted

    (first,), (second,) = (losses_of(rank, [])[1] for rank in (0, 1))
    gradients: list[list[Tensor]] = []
    for rank in (0, 1):
        terms, _ = losses_of(rank, [(first + second) / 2])
        run.optimiser.zero_grad()
        torch.stack([getattr(run.recipe.loss, n) * terms[n] for n in TERMS]).sum().backward()
        owned = run.learner.parameters()
        gradients.append([torch.zeros_like(p) if p.grad is None else p.grad for p in owned])
    for parameter, *pair in zip(run.learner.parameters(), *gradients, strict=True):
        assert parameter.grad is not None or not any(bool(g.any()) for g in pair)
        parameter.grad = (pair[0] + pair[1]) / 2
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate(run.recipe.optimiser, run.step) * group["factor"]
    torch.nn.utils.clip_grad_norm_(run.learner.parameters(), 1.0)
    run.optimiser.step()
    run.average.update_parameters(run.learner)
    run.step += 1


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("recipes")
    methods = {"stp": "stp", "svit": "svit", "stopped": "stp"}
    return {name: write_recipe(folder, name, method=method) for name, method in methods.items()}


@pytest.fixture(scope="module")
def jobs(
    recipes: dict[str, Path], data_set: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Train each recipe on two processes; gives the folder of the runs."""
    out = tmp_path_factory.mktemp("jobs")
    (out / "worker.py").write_text(WORKER)
    answer = torchrun(out / "worker.py", data_set, out, *recipes.values())
    assert answer.returncode == 0, answer.stderr
    return out


Ended = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def ended(jobs: Path, recipes: dict[str, Path]) -> Ended:
    """What the two processes hold in the end, per recipe and rank."""
    return {name: [torch.load(jobs / f"{name}-{rank}.pt") for rank in (0, 1)] for name in recipes}


@pytest.mark.parametrize("method", ["stp", "svit"])  # svit also measures while it trains
def test_both_processes_end_with_the_same_state(ended: Ended, method: str) -> None:
    first, second = ended[method]
    for part in ("learner", "average"):
        assert first[part].keys() == second[part].keys()
        for key, value in first[part].items():
            assert torch.equal(value, second[part][key]), key
    assert torch.equal(first["balance"], second["balance"])
    assert all(bool(v.isfinite().all()) for v in first["learner"].values())


def test_each_process_draws_windows_of_its_own(ended: Ended) -> None:
    first, second = ended["stp"]
    assert len(first["samples"]) == len(second["samples"]) == STEPS
    for one, other in zip(first["samples"], second["samples"], strict=True):
        assert not torch.equal(one[0], other[0])


def test_the_first_process_draws_what_a_single_one_draws(
    ended: Ended, recipes: dict[str, Path], data_set: Path
) -> None:
    source = load_recipe(recipes["stp"]).data.open(data_set)
    for step, (image, label) in enumerate(ended["stp"][0]["samples"]):
        source.seed(int(np.random.SeedSequence([5, step]).generate_state(3)[1]))
        sample = source.draw()
        assert torch.equal(sample.image, image)
        assert torch.equal(sample.subvoxels, label)


def test_two_processes_equal_one_that_averages_their_gradients(
    ended: Ended, recipes: dict[str, Path]
) -> None:
    run = Run.create(load_recipe(recipes["stp"]), "cpu")
    run.learner.train()
    begun = {k: v.clone() for k, v in run.learner.state_dict().items()}
    for drawn in zip(*(part["samples"] for part in ended["stp"]), strict=True):
        step_by_hand(run, [Sample(*sample) for sample in drawn])

    assert run.step == STEPS
    state = ended["stp"][0]
    mine = {"learner": run.learner.state_dict(), "average": run.average.state_dict()}
    for part, tensors in mine.items():
        for key, value in tensors.items():
            torch.testing.assert_close(state[part][key], value, atol=1e-6, rtol=0, msg=key)
    torch.testing.assert_close(state["balance"], run.balance, atol=1e-6, rtol=0)
    moved = max(float((v - begun[k]).abs().max()) for k, v in run.learner.state_dict().items())
    assert moved > 1e-3


def test_the_class_balance_follows_the_mean_frequencies(
    ended: Ended, recipes: dict[str, Path]
) -> None:
    """Counted by hand in the patches that hold tissue, every process counting alike."""
    run = Run.create(load_recipe(recipes["stp"]), "cpu")
    balance = torch.ones(3)
    for drawn in zip(*(part["samples"] for part in ended["stp"]), strict=True):
        shares = []
        for image, label in drawn:
            tissue = ~run.learner.network.find_air(image)[0].view(4, 6, 4)
            for axis in range(3):
                tissue = tissue.repeat_interleave(8, dim=axis)
            held = label[0][tissue].long()
            shares.append(torch.bincount(held, minlength=3) / len(held))
        fresh = ((shares[0] + shares[1]) / 2).clamp_min(1e-4) ** -0.25
        balance += 0.02 * (fresh / fresh.mean() - balance)

    torch.testing.assert_close(ended["stp"][0]["balance"], balance, atol=1e-5, rtol=0)
    assert float((balance - 1).abs().max()) > 0.005


def test_a_gradient_that_a_process_lacks_counts_as_zero(ended: Ended) -> None:
    """By hand: (1 + 3) / 2, (0 + 8) / 2; what no process has stays away."""
    for state in ended["stp"]:
        first, second, third = state["gradients"]
        assert first.tolist() == [[2.0, 4.0]]
        assert second.tolist() == [[4.0, 3.0]]
        assert third is None


def test_the_largest_number_wins_in_both(ended: Ended) -> None:
    assert [state["largest"] for state in ended["stp"]] == [5, 5]


def test_both_processes_stop_at_the_same_step_when_the_time_is_over(
    ended: Ended, jobs: Path
) -> None:
    assert [state["step"] for state in ended["stopped"]] == [1, 1]
    assert load_checkpoint(jobs / "stopped" / "checkpoint.safetensors")["step"] == 1


@pytest.mark.parametrize("method", ["stp", "svit"])
def test_the_checkpoint_is_the_state_of_both(ended: Ended, jobs: Path, method: str) -> None:
    assert sorted(path.name for path in (jobs / method).iterdir()) == [
        "checkpoint.safetensors",
        "log.csv",
    ]
    saved = load_checkpoint(jobs / method / "checkpoint.safetensors")
    assert saved["step"] == STEPS
    for key, value in ended[method][1]["learner"].items():
        assert torch.equal(saved["learner"][key], value), key


def test_a_run_goes_on_with_any_number_of_processes_until_one_fails(
    jobs: Path, data_set: Path, tmp_path: Path
) -> None:
    """From two at step 3 to one, from one at step 8 to two, of which one fails in step 11."""
    out = tmp_path / "runs" / "tiny"
    out.mkdir(parents=True)
    shutil.copy(jobs / "stp" / "checkpoint.safetensors", out)
    main(write_recipe(tmp_path, "tiny", steps=8), data_set, out, device="cpu", threads=1)
    before = load_checkpoint(out / "checkpoint.safetensors")
    assert before["step"] == 8
    (out / "curve.png").unlink(missing_ok=True)

    (tmp_path / "failing.py").write_text(FAILING)
    longer = write_recipe(tmp_path, "tiny", steps=20)
    answer = torchrun(tmp_path / "failing.py", longer, data_set, out)

    assert answer.returncode != 0
    assert "this process is broken" in answer.stderr
    after = load_checkpoint(out / "checkpoint.safetensors")
    assert after["step"] == 10
    moved = [k for k, v in after["learner"].items() if not torch.equal(v, before["learner"][k])]
    assert len(moved) > len(after["learner"]) / 2
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint.safetensors", "log.csv"]
    with (out / "log.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["10"]


FIRST_OF_FOUR = {
    "TORCHELASTIC_RUN_ID": "1",
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "4",
}
"""What torchrun tells the first of four processes."""


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a GPU where there is none")
def test_the_command_ends_with_one_sentence_and_exit_code_2(data_set: Path, tmp_path: Path) -> None:
    recipe, out = write_recipe(tmp_path, "tiny"), tmp_path / "out"
    command = [sys.executable, "-m", "napari_sparseseg.training", str(recipe)]
    command += ["--data", str(data_set), "--out", str(out), "--device", "cuda"]
    environment = os.environ | FIRST_OF_FOUR
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)

    assert answer.returncode == 2
    sentence = "The device 'cuda' is not available here; choose auto or one of cpu."
    assert answer.stderr.splitlines() == [sentence]
    assert not out.exists()
