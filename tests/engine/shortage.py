"""Memory that runs out where a test wants it, and a graphics card that is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from napari_sparseseg.canonical import ModelSpace
from napari_sparseseg.canvas import Canvas
from napari_sparseseg.network import SparseUNETR
from napari_sparseseg.session import Session

CARD = "cpu:0"
"""A name of the CPU that the engine takes for a graphics card: it is not "cpu"."""

SITES: dict[str, tuple[type, str]] = {
    "resampling": (ModelSpace, "to_model"),
    "first blocks": (SparseUNETR, "prepare"),
    "encoding and decoding": (SparseUNETR, "finish"),
    "canvas": (Canvas, "__init__"),
    "joining": (Canvas, "add"),
    "restoring": (ModelSpace, "labels_to_volume"),
}
"""Where memory is taken."""

SHORTAGES: dict[str, tuple[Exception, str]] = {
    "card": (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
        "graphics card",
    ),
    "cublas": (
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"),
        "graphics card",
    ),
    "torch": (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "computer"),
    "library": (ImportError("libx.so: failed to map segment from shared object"), "computer"),
    "system": (OSError(12, "Cannot allocate memory"), "computer"),
    "numpy": (MemoryError("Unable to allocate 3 GiB for an array"), "computer"),
}
"""What libraries raise, and whose memory that means."""


@contextmanager
def running_out(site: str, shortage: str, times: int = 1, after: int = 0) -> Iterator[list[int]]:
    """Let a call raise that memory has run out.

    Parameters
    ----------
    site, shortage : str
        Of :data:`SITES` and :data:`SHORTAGES`.
    times : int
        How many calls fail.
    after : int
        How many go well before.

    Yields
    ------
    list of int
        The numbers of the calls that failed, as they do.
    """
    owner, name = SITES[site]
    real, (error, _) = getattr(owner, name), SHORTAGES[shortage]
    failed: list[int] = []
    calls = iter(range(1_000_000))

    def call(*args: Any, **kwargs: Any) -> Any:
        number = next(calls)
        if after <= number < after + times:
            failed.append(number)
            raise type(error)(*error.args)
        return real(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, call)
        yield failed


@contextmanager
def card_of(free: int) -> Iterator[None]:
    """Let this computer have a graphics card with so many free bytes, which computes as the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "napari_sparseseg.devices.available_devices",
            lambda: [(CARD, "Card"), ("cpu", "CPU")],
        )
        patch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2 * free))
        patch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
        patch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
        patch.setattr(
            "napari_sparseseg.report.processor_name", lambda device: "card", raising=False
        )
        yield


def held_tensors(session: Session) -> list[torch.Tensor]:
    """Give the tensors that an open session keeps of its scan."""
    return [
        value
        for call in session.calls
        for value in (call.prepared().windows, call.prepared().first.stream.x)
    ]
