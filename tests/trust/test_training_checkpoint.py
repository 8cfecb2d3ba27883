"""Training checkpoints: tensors and JSON, with the memory layout that an optimiser needs."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from napari_sparseseg.errors import ModelError
from napari_sparseseg.training.checkpoint import load_checkpoint, save_checkpoint
from tests.trust.conftest import assert_refused


def image_weights() -> Tensor:
    """Weights of a convolution as a network on its way through training holds them."""
    weights = torch.arange(2 * 3 * 4 * 5 * 6.0).view(2, 3, 4, 5, 6)
    return weights.contiguous(memory_format=torch.channels_last_3d)


STATE: dict[str, Any] = {
    "step": 7,
    "optimiser": {
        "state": {0: {"exp_avg": image_weights(), "step": torch.tensor(7.0)}},
        "param_groups": [{"lr": 0.1 + 0.2, "fused": True, "foreach": None, "params": [0]}],
    },
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "seen": torch.tensor([True, False]),
    "none": {},
}


def test_a_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    save_checkpoint(STATE, tmp_path / "run.safetensors")
    again = load_checkpoint(tmp_path / "run.safetensors")

    mine, theirs = (state["optimiser"]["state"][0] for state in (STATE, again))
    assert torch.equal(mine["exp_avg"], theirs["exp_avg"])
    assert theirs["step"].dtype == torch.float32 and theirs["step"].shape == ()
    assert again["optimiser"]["param_groups"] == STATE["optimiser"]["param_groups"]
    assert torch.equal(again["half"], STATE["half"]) and again["half"].dtype == torch.bfloat16
    assert torch.equal(again["seen"], STATE["seen"])
    assert (again["step"], again["none"]) == (7, {})


def test_a_tensor_keeps_the_order_in_which_it_lies_in_memory(tmp_path: Path) -> None:
    """A fused optimiser walks weights and state side by side, whatever their axes are called."""
    save_checkpoint(STATE, tmp_path / "run.safetensors")
    moment = load_checkpoint(tmp_path / "run.safetensors")["optimiser"]["state"][0]["exp_avg"]

    assert moment.stride() == image_weights().stride()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"step": 1}))


def zipped(path: Path) -> None:
    torch.save({"step": 1}, path)


def foreign(path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"0": torch.zeros(3)}, path, {"sparseseg-run": '{"items": [["step"]]}'})


@pytest.mark.parametrize("damage", [cut, pickled, zipped, foreign, Path.unlink])
def test_a_damaged_or_foreign_checkpoint_is_refused(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "run.safetensors"
    save_checkpoint(STATE, path)
    damage(path)

    assert_refused(lambda: load_checkpoint(path), "run.safetensors", ModelError)
