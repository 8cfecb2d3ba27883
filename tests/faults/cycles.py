"""The same work again and again in one process: what does it hold on to?

``python -m tests.faults.cycles ROUNDS NAME ...`` is that process; nothing else runs in it.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

_REPOSITORY = Path(__file__).parents[2]
_SAMPLES = 20
_MB = 2**20


@dataclass(frozen=True)
class Held:
    """What a process has of the system.

    Attributes
    ----------
    handles, threads : int
        Open files and sockets; threads.
    files : int
        Files and folders in the folder for temporary ones and in that of the results.
    objects : int
        Objects that Python's collector knows.
    megabytes : float
        Memory of its own: resident, without what it shares with files on the disk, which the system
        drops and takes back as it likes.
    """

    handles: int
    threads: int
    files: int
    objects: int
    megabytes: float


@dataclass(frozen=True)
class Cycles:
    """What a process had after the warm-up, and after all rounds.

    Attributes
    ----------
    name : str
        What was repeated.
    rounds : int
        How often, the warm-up left out.
    before, after : Held
        At either end.
    growth : float
        Megabytes that the last third of the rounds has more than the first, by their medians.
    """

    name: str
    rounds: int
    before: Held
    after: Held
    growth: float


def held(process: psutil.Process, folder: Path) -> Held:
    """Return what a process holds now."""
    gc.collect()
    return Held(
        process.num_fds(),
        process.num_threads(),
        sum(1 for _ in folder.rglob("*")),
        len(gc.get_objects()),
        _megabytes(process),
    )


def _megabytes(process: psutil.Process) -> float:
    memory = process.memory_info()
    return (memory.rss - memory.shared) / _MB


def repeat(
    name: str, act: Callable[[int], object], rounds: int, process: psutil.Process, folder: Path
) -> Cycles:
    """Warm up with a fifth of the rounds, at least ten, then repeat and watch.

    Parameters
    ----------
    name : str
        What it is called.
    act : callable
        Called with the number of the round.
    rounds : int
        How often.
    process : psutil.Process
        The process that is watched: this one, or one that `act` asks.
    folder : Path
        Where files must not gather.
    """
    for number in range(max(10, rounds // 5)):
        act(number)
    before, samples = held(process, folder), []
    for number in range(rounds):
        act(number)
        if number % max(1, rounds // _SAMPLES) == 0:
            gc.collect()
            samples.append(_megabytes(process))
    third = len(samples) // 3
    growth = statistics.median(samples[-third:]) - statistics.median(samples[:third])
    return Cycles(name, rounds, before, held(process, folder), growth)


def cycle(names: list[str], rounds: int) -> Iterator[Cycles]:
    """Repeat kinds of work, one after the other, in one process of their own.

    Parameters
    ----------
    names : list of str
        Keys of ``tests.faults.work.WORK``.
    rounds : int
        How often each.
    """
    command = [sys.executable, "-m", "tests.faults.cycles", str(rounds), *names]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(_REPOSITORY)}
    done = subprocess.run(command, cwd=_REPOSITORY, env=environment, stdout=subprocess.PIPE)
    assert done.returncode == 0, "the process that repeats has failed"
    for line in done.stdout.splitlines():
        facts = json.loads(line)
        facts |= {key: Held(**facts[key]) for key in ("before", "after")}
        yield Cycles(**facts)


def grown(cycles: Cycles, megabytes: float) -> Iterator[str]:
    """Tell what a process holds that it did not hold before.

    Parameters
    ----------
    cycles : Cycles
        What was watched.
    megabytes : float
        Growth of memory that is noise.
    """
    before, after = cycles.before, cycles.after
    for what in ("handles", "threads", "files"):
        if getattr(after, what) > getattr(before, what):
            yield f"{what}: {getattr(before, what)} before, {getattr(after, what)} after"
    # caches of libraries fill by a few objects; what leaks does so in every round
    if after.objects - before.objects >= cycles.rounds:
        yield f"objects: {before.objects} before, {after.objects} after"
    if cycles.growth > megabytes:
        yield f"memory: {cycles.growth:.1f} MB more in the last third than in the first"


def main(rounds: int, names: list[str]) -> None:
    """Repeat, and print what came of each kind of work as a line of JSON."""
    from tests.faults.work import WORK

    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        for name in names:
            with WORK[name](Path(folder)) as (act, process):
                found = repeat(name, act, rounds, process, Path(folder))
            print(json.dumps(asdict(found)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
