"""How much memory there is, and how much of it a run may take.

GB and MB are 2**30 and 2**20 bytes, as in the report.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from napari_sparseseg.errors import InputError, OutOfMemory

GB, MB = 2**30, 2**20

SHARE = 0.8
"""Share of the free memory that a run may take where no budget is set: the estimate leaves out
what viewers and libraries take beside it."""

ENGINE = 0.7
"""GB that loading the engine takes; some libraries end the process where there is less."""

_LISTING, _MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryBudget:
    """The most that a run may take, beside the scan and the model, which are loaded already.

    It holds for the memory of the computer and, where a graphics card is used, for that of the
    card; more than is free is never planned with.

    Parameters
    ----------
    gigabytes : float, optional
        GB; if left out, :data:`SHARE` of what is free when the run starts.

    Raises
    ------
    InputError
        If that is no positive number.
    """

    gigabytes: float | None = None

    def __post_init__(self) -> None:
        if self.gigabytes is not None and not 0 < self.gigabytes < math.inf:
            raise InputError(
                f"A memory budget of {self.gigabytes:g} GB is unusable; give a number above 0, or "
                "leave it out."
            )

    def allowed(self, device: str) -> int:
        """Return the bytes that may be taken of a processor's memory now.

        Parameters
        ----------
        device : str
            A resolved device.
        """
        free = free_memory(device)
        return int(SHARE * free if self.gigabytes is None else min(self.gigabytes * GB, free))


def free_memory(device: str = "cpu") -> int:
    """Return the bytes that this process can still get on a processor.

    Parameters
    ----------
    device : str
        "cpu": memory that is free or can be freed at once, or less where the process is limited
        by its control group (containers, batch systems) or by the size of its address space.
        Else that of a graphics card, with what torch holds there for later.
    """
    if device != "cpu":
        import torch

        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    import psutil

    return max(0, min([psutil.virtual_memory().available, *group_rooms(), *_address_room()]))


def group_rooms(listing: Path = _LISTING, mount: Path = _MOUNT) -> Iterator[int]:
    """Give what the control groups of this process leave it, in both versions of them.

    Parameters
    ----------
    listing : Path
        File that names the groups of a process.
    mount : Path
        Where the groups are.

    Yields
    ------
    int
        Bytes, for each group with a limit.
    """
    for line in _lines(listing):
        _, controllers, path = line.split(":", 2)
        if controllers == "" or "memory" in controllers.split(","):
            top = mount / "memory" if controllers else mount
            yield from _room_up_to_the_top(top, path.strip("/"), unified=not controllers)


def _room_up_to_the_top(mount: Path, path: str, unified: bool) -> Iterator[int]:
    """Return the room in a group and in those around it; in a container its own is the top."""
    names = ("memory.max", "memory.current", "inactive_file")
    if not unified:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    group = mount / path
    for folder in [group, *group.parents]:
        limit, used = (_number_in(folder / name) for name in names[:2])
        if limit is not None and used is not None:
            # the cache of files that were read is given up before a process is killed
            yield limit - used + _cache_of_files(folder, names[2])
        if folder == mount:
            return


def _cache_of_files(folder: Path, key: str) -> int:
    pairs = (line.split() for line in _lines(folder / "memory.stat"))
    return next((int(value) for name, value in pairs if name == key), 0)


def _number_in(path: Path) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None  # "max" is no limit


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []  # another system, or no such limit


def _address_room() -> Iterator[int]:
    """Return what is left of the address space, where it is limited."""
    try:
        import resource
    except ImportError:
        return  # Windows
    import psutil

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        yield limit - psutil.Process().memory_info().vms


def check_room_for_engine() -> None:
    """Make sure that the engine can be loaded, unless it is; to be called before that.

    Raises
    ------
    OutOfMemory
        If there is too little memory.
    """
    free = free_memory()
    if "torch" not in sys.modules and free < ENGINE * GB:
        raise OutOfMemory(
            f"The engine takes about {ENGINE} GB of memory and {_gb(free)} GB is free; close other "
            "programs."
        )


def refusal(needed: int, allowed: int, budget: MemoryBudget) -> OutOfMemory:
    """Return the error for a run that does not fit.

    Parameters
    ----------
    needed, allowed : int
        Bytes.
    budget : MemoryBudget
        What they were compared with.
    """
    larger = "" if budget.gigabytes is None else ", set a larger memory budget"
    return OutOfMemory(
        f"This scan needs about {_gb(needed)} GB of memory and {_gb(allowed)} GB may be used; "
        f"crop it, choose a model with a coarser spacing{larger}, or close other programs."
    )


def _gb(size: int) -> str:
    return f"{max(size / GB, 0):.1f}" if size >= GB else f"{max(size / GB, 0):.2g}"
