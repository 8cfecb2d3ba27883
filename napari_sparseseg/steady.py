"""The same numbers whatever the rest of the process has set for its own use of torch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_inside = 0
_before = (False, False)


@contextmanager
def steady(device: str) -> Iterator[None]:
    """Compute so that a repetition gives the same bits.

    A host that computes in automatic precision in this thread does not reach in. On a graphics
    card, cuDNN takes algorithms that add in a fixed order, the same each time, and not those that
    a race has found to be the fastest today; that switch is one for the whole process, and is as
    before once the last of several runs side by side has left. The network itself adds to no
    place twice in one step, so that nothing else depends on the order of threads.

    Parameters
    ----------
    device : str
        A resolved device.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        _enter()
    try:
        with torch.autocast(kind, enabled=False):
            yield
    finally:
        if kind == "cuda":
            _leave()


def _enter() -> None:
    global _inside, _before
    cudnn = torch.backends.cudnn
    with _lock:
        if not _inside:
            _before = (cudnn.deterministic, cudnn.benchmark)
            cudnn.deterministic, cudnn.benchmark = True, False
        _inside += 1


def _leave() -> None:
    global _inside
    cudnn = torch.backends.cudnn
    with _lock:
        _inside -= 1
        if not _inside:
            cudnn.deterministic, cudnn.benchmark = _before
