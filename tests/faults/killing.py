"""A process that is ended while it writes, and one whose disk is full.

A process of its own (``python -m tests.faults.killing WRITER ...``) prepares what is written once,
and forks for each try: the child ends itself with SIGKILL before the n-th step that changes the
disk (``step``), is ended by the system in the middle of a write as a file grows past a limit, which
reaches libraries in C too (``bytes``), or gets an error from that write (``full``).
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from napari_sparseseg.files import TEMPORARY

_REPOSITORY = Path(__file__).parents[2]
_REFUSED = 3 << 8  # as the system tells it
_STEPS = ("os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "open", "fsync")


@dataclass(frozen=True)
class Writer:
    """Something that writes files.

    Parameters
    ----------
    write : callable
        Takes a folder and a number, and writes to the folder what goes with the number.
    content : callable
        Reads a file and returns what must be the old or the new; raises where it is half.
    """

    write: Callable[[Path, int], object]
    content: Callable[[Path], Any] = Path.read_bytes


@dataclass(frozen=True)
class Deaths:
    """What came of the deaths of one writer: how many there were, and each that did harm.

    `refused` counts the full disks that the writer told of.
    """

    writer: str
    tried: int
    refused: int
    problems: list[str]


def kill(names: list[str], steps: int = 0, sizes: int = 0) -> Iterator[Deaths]:
    """Have writers killed in a process of its own.

    Parameters
    ----------
    names : list of str
        Keys of ``tests.faults.writers.WRITERS``.
    steps, sizes : int
        At most so many deaths of a kind for each writer; 0 for one at every step, and for one at
        16 sizes.
    """
    command = [sys.executable, "-m", "tests.faults.killing", str(steps), str(sizes), *names]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(_REPOSITORY)}
    done = subprocess.run(command, cwd=_REPOSITORY, env=environment, stdout=subprocess.PIPE)
    assert done.returncode == 0, "the process that forks has failed"
    for line in done.stdout.splitlines():
        yield Deaths(**json.loads(line))


def main(steps: int, sizes: int, names: list[str]) -> None:
    """Kill each writer, and print what came of it as a line of JSON."""
    from tests.faults.writers import make_writers

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as folder:
        writers = make_writers(names, Path(folder))
        for name, writer in writers.items():
            with tempfile.TemporaryDirectory() as own:
                found = _deaths(name, writer, Path(own), steps, sizes)
            print(json.dumps(asdict(found)), flush=True)


def _deaths(name: str, writer: Writer, folder: Path, steps: int, sizes: int) -> Deaths:
    """Kill one writer with nothing there before, and with older files there."""
    statuses: list[int] = []
    problems: list[str] = []
    for older in (False, True):
        before = folder / f"before {older}"
        before.mkdir()
        if older:
            writer.write(before, 0)
        old = _contents(writer, before)
        whole = folder / f"whole {older}"
        shutil.copytree(before, whole)
        count = _count_steps(partial(writer.write, whole, 1))
        new = _contents(writer, whole)
        assert new and new != old
        largest = max(path.stat().st_size for path in whole.rglob("*") if path.is_file())
        limits = _limits(largest, sizes or 16)
        full = [("full", size) for _, size in limits]
        for death in [*_spread(count, steps), *limits, *full]:
            at = folder / "at"
            shutil.copytree(before, at)
            status = _fork(partial(writer.write, at, 1), death)
            statuses.append(status)
            harm = [*_harm(writer, at, old, new, status), *_left(writer, at, before, new, status)]
            if harm:
                problems.append(f"{'older' if older else 'no'} files, {death}: {'; '.join(harm)}")
            shutil.rmtree(at)
    refused = sum(1 for status in statuses if status == _REFUSED)
    return Deaths(name, len(statuses), refused, problems)


def _harm(
    writer: Writer, at: Path, old: dict[str, Any], new: dict[str, Any], status: int
) -> Iterator[str]:
    """Tell what a death has done that it must not."""
    try:
        left = _contents(writer, at)
    except Exception as error:
        yield f"half a file: {type(error).__name__}: {error}"
        return
    for name in old.keys() | new.keys() | left.keys():
        if name not in left:
            if name in old and name in new:
                yield f"{name} was lost"
        elif left[name] not in (old.get(name), new.get(name)):
            yield f"{name} is neither the old one nor the new one"
    if os.WIFSIGNALED(status):
        writer.write(at, 1)
        if _contents(writer, at) != new:
            yield "writing again does not give the new files"


def _left(
    writer: Writer, at: Path, before: Path, new: dict[str, Any], status: int
) -> Iterator[str]:
    """Tell what a process that was not killed has left behind it."""
    if os.WIFSIGNALED(status):
        return
    if status not in (0, _REFUSED):
        yield "it ended in an error that no user can act on"
    elif status == 0 and _contents(writer, at) != new:
        yield "it did not write all"
    elif status == _REFUSED and _contents(writer, at) != _contents(writer, before):
        yield "it refused, and changed a file"
    elif status == _REFUSED and _names(at) != _names(before):
        yield f"it left {sorted(_names(at) ^ _names(before))} behind"


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def _contents(writer: Writer, folder: Path) -> dict[str, Any]:
    """Return what all files hold but those that are marked as unfinished."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): writer.content(path)
        for path in files
        if not any(part.startswith(TEMPORARY) for part in path.relative_to(folder).parts)
    }


def _fork(act: Callable[[], object], death: tuple[str, int]) -> int:
    """Act in a child that dies on the way, and return how it ended."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    code = 4
    try:
        kind, number = death
        if kind == "step":
            _die_before(number)
        else:
            if kind == "bytes":
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (number, resource.RLIM_INFINITY))
        act()
        code = 0
    except Exception as error:
        from napari_sparseseg.errors import OutputError

        code = _REFUSED >> 8 if isinstance(error, OutputError) else 4
    finally:
        os._exit(code)


def _count_steps(act: Callable[[], object]) -> int:
    """Act, and return how many steps there are to die before."""
    reader, sink = os.pipe()
    child = os.fork()
    if not child:
        steps = _on_steps(lambda: None)
        act()
        os.write(sink, str(len(steps)).encode())
        os._exit(0)
    os.close(sink)
    status = os.waitpid(child, 0)[1]
    assert status == 0, "the writer itself does not work"
    with os.fdopen(reader) as stream:
        return int(stream.read())


def _die_before(number: int) -> None:
    def check() -> None:
        if len(steps) > number:
            os.kill(os.getpid(), signal.SIGKILL)

    steps = _on_steps(check)


def _on_steps(act: Callable[[], None]) -> list[str]:
    """Call a function before each step that may change the disk; returns the list of them."""
    steps: list[str] = []

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _STEPS:
            return
        writes = event != "open" or (isinstance(arguments[2], int) and arguments[2] & 3)
        if writes and "/dev/" not in str(arguments[0]):
            steps.append(event)
            act()

    sys.addaudithook(note)
    flush = os.fsync

    def fsync(file: int) -> None:
        note("fsync", (file,))
        flush(file)

    os.fsync = fsync
    return steps


def _spread(count: int, most: int) -> list[tuple[str, int]]:
    numbers = range(count)
    if most and count > most:
        numbers = [round(n * (count - 1) / (most - 1)) for n in range(most)]  # type: ignore[assignment]
    return [("step", n) for n in numbers]


def _limits(largest: int, most: int) -> list[tuple[str, int]]:
    """Return sizes up to the largest file, both ends among them."""
    return [("bytes", size) for size in sorted({largest * n // most for n in range(most)})]


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
