"""Several processes that train one model: who takes part, and what they share.

``torchrun`` starts the processes. Each draws windows of its own; the gradients are averaged, so
that all of them hold the same weights after every step.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from napari_sparseseg.devices import resolve_device
from napari_sparseseg.errors import DeviceError


@dataclass(frozen=True)
class Group:
    """The processes that train one model, seen from one of them.

    Every method that takes tensors must be called by all of them with tensors of the same shapes.

    Attributes
    ----------
    rank : int
        Number of this process, from 0.
    size : int
        How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace float32 tensors of one device by their means over the processes, in place."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        _spread(flat / self.size, tensors)

    @torch.no_grad()
    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average the gradients; one that this process lacks counts as zero.

        What ran depends on the windows. A parameter that took part in no process keeps no
        gradient, so that the optimiser leaves it alone, as it does with one process.
        """
        if self.size == 1:
            return
        owned = list(parameters)
        used = torch.tensor([float(p.grad is not None) for p in owned], device=owned[0].device)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in owned]
        self.average([used, *gradients])
        for parameter, share, gradient in zip(owned, used.tolist(), gradients, strict=True):
            parameter.grad = gradient if share > 0 else None

    @torch.no_grad()
    def follow_first(self, tensors: Sequence[Tensor]) -> None:
        """Replace float32 tensors of one device by those of process 0, in place."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.broadcast(flat, 0)
        _spread(flat, tensors)

    def largest(self, value: int) -> int:
        """Return the largest of the numbers that the processes give."""
        if self.size == 1:
            return value
        shared = torch.tensor(value)  # on the CPU: no need to wait for a GPU
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return int(shared)

    def part_noise(self) -> None:
        """Let this process draw other noise than the others from the seed that all have set."""
        if self.rank:
            torch.manual_seed(torch.initial_seed() + self.rank)


ALONE = Group()
"""One process."""


def _spread(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    """Copy the parts of a flat tensor back to where they came from, whatever the strides there."""
    parts = flat.split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view(tensor.shape))


@contextmanager
def joined(device: str) -> Iterator[tuple[Group, str]]:
    """Join the processes that ``torchrun`` started; without it there is one.

    Parameters
    ----------
    device : str
        What was asked for: "auto", "cpu", "cuda", or, with one process, "cuda:n".

    Yields
    ------
    Group
        The processes.
    str
        The device of this one: each has a GPU of its own, or all share the CPU.

    Raises
    ------
    DeviceError
        If there is no such device, or not one for each process.
    """
    if not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
        yield ALONE, resolve_device(device)
        return
    local = int(os.environ["LOCAL_RANK"])
    if local == 0:  # asks for all of its machine: the others wait to be joined until they are ended
        _check_devices(device, int(os.environ["LOCAL_WORLD_SIZE"]))
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    dist.init_process_group("gloo" if on_cpu else "cpu:gloo,cuda:nccl")
    if not on_cpu:
        torch.cuda.set_device(local)
    yield Group(dist.get_rank(), dist.get_world_size()), "cpu" if on_cpu else f"cuda:{local}"
    # Not after an error: the others may wait for this process, and only its end lets them go.
    dist.destroy_process_group()


def _check_devices(device: str, processes: int) -> None:
    """Raise a DeviceError if this machine has not one such device for each process."""
    if resolve_device(device) == "cpu":
        return
    if device not in ("auto", "cuda"):
        raise DeviceError(
            f"{processes} processes cannot share {device}; give --device cuda, which gives each "
            "process a GPU of its own, or --device cpu."
        )
    if torch.cuda.device_count() < processes:
        raise DeviceError(
            f"{processes} processes need {processes} GPUs and this machine has "
            f"{torch.cuda.device_count()}; start fewer processes or give --device cpu."
        )
