"""Processors: which there are, which one to use, and in which precision."""

from __future__ import annotations

import os
import platform
import time
from functools import cache

import psutil
import torch

from napari_sparseseg.errors import DeviceError

PRECISIONS = ("auto", "float32", "bfloat16")


def available_devices() -> list[tuple[str, str]]:
    """List the processors of this computer.

    Returns
    -------
    list of (str, str)
        Identifier ("cuda:0", "cpu") and a text for people, every GPU with its memory.
    """
    found = []
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        memory = facts.total_memory / 2**30
        found.append((f"cuda:{index}", f"{facts.name} ({memory:.0f} GiB)"))
    found.append(("cpu", f"CPU ({torch.get_num_threads()} threads)"))
    return found


def resolve_device(name: str) -> str:
    """Return the processor that a request means.

    Parameters
    ----------
    name : str
        "auto" (the first GPU, else the CPU), "cpu", "cuda" or "cuda:n".

    Raises
    ------
    DeviceError
        If there is no such processor.
    """
    known = [identifier for identifier, _ in available_devices()]
    wanted = "cuda:0" if name == "cuda" else name
    if name == "auto":
        return known[0]
    if wanted not in known:
        raise DeviceError(
            f"The device '{name}' is not available here; choose auto or one of {', '.join(known)}."
        )
    return wanted


def resolve_precision(name: str, device: str) -> torch.dtype:
    """Return the precision to compute in.

    Parameters
    ----------
    name : str
        "auto", "float32" or "bfloat16"; "auto" takes bfloat16 where it is fast.
    device : str
        A resolved device.

    Raises
    ------
    DeviceError
        If the name is unknown.
    """
    if name not in PRECISIONS:
        raise DeviceError(f"Unknown precision '{name}'; choose one of {', '.join(PRECISIONS)}.")
    if name != "auto":
        return torch.float32 if name == "float32" else torch.bfloat16
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if _cpu_gains_from_bf16() else torch.float32


@cache
def _cpu_gains_from_bf16() -> bool:
    """Measure a small matrix product: processors with bf16 units win several times over.

    There is no portable flag for these units, and emulated bf16 is slower than float32, so the
    answer is far from the threshold either way. One thread's own processor time is taken: the
    choice must not change with what else the computer is doing.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _product_time(torch.bfloat16) < 0.66 * _product_time(torch.float32)
    finally:
        torch.set_num_threads(threads)


def _product_time(dtype: torch.dtype) -> float:
    """Return the processor seconds of a small matrix product, the best of several."""
    a, b = torch.ones(512, 512, dtype=dtype), torch.ones(512, 512, dtype=dtype)
    trials = []
    for _ in range(10):
        start = time.thread_time()
        torch.mm(a, b)
        trials.append(time.thread_time() - start)
    return min(trials)


def processor_name(device: str) -> str:
    """Return what decides how a processor rounds: the graphics card, or the CPU's instructions.

    Parameters
    ----------
    device : str
        A resolved device.
    """
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    return f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def synchronise(device: str) -> None:
    """Wait until a device has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def device_memory(name: str) -> dict[str, int | None]:
    """Return the memory of a processor in MB, None for that of the CPU.

    Parameters
    ----------
    name : str
        An identifier that :func:`available_devices` lists.

    Returns
    -------
    dict
        "memory_mb" in all, and "free_mb" for this process and others.
    """
    if not name.startswith("cuda"):
        return {"memory_mb": None, "free_mb": None}
    free, total = torch.cuda.mem_get_info(name)
    return {"memory_mb": total // 2**20, "free_mb": free // 2**20}


class PeakMemory:
    """Measures the largest memory of a run in MB: of the GPU, or of this process.

    Linux can reset the process's high-water mark; elsewhere the mark of the whole process life
    is reported, an upper bound.

    Parameters
    ----------
    device : str
        A resolved device.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        if device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(device)
            self.start = torch.cuda.memory_allocated(device) / 2**20
            return
        self.start = psutil.Process().memory_info().rss / 2**20
        try:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
        except OSError:
            pass  # not Linux, or not allowed: the mark stays what it is

    def megabytes(self) -> float:
        """Return the peak since this object was made."""
        if self.device.startswith("cuda"):
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        try:
            with open("/proc/self/status") as file:
                line = next(text for text in file if text.startswith("VmHWM"))
            return int(line.split()[1]) / 2**10
        except (OSError, StopIteration):
            return _lifetime_peak()

    def added_megabytes(self) -> float:
        """Return by how much the peak exceeds what was held when this object was made."""
        return self.megabytes() - self.start


def _lifetime_peak() -> float:
    if os.name == "nt":
        return float(psutil.Process().memory_info().peak_wset) / 2**20
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
