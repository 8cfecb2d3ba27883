"""What is broken on purpose, and what is left afterwards."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from benchmarks.torture.rows import Row
from benchmarks.torture.suites import tested
from benchmarks.torture.torture import Torture
from napari_sparseseg.files import write_volume
from tests.faults.cancelling import cancelled_everywhere
from tests.faults.commands import TINY, call, interrupted_everywhere
from tests.faults.deaths import killed_commands
from tests.faults.disks import full, read_only
from tests.faults.killing import kill
from tests.faults.made import make_scan, make_segmenter
from tests.faults.writers import ALONE, LABELS, TOGETHER, make_writers

WRITERS = (*LABELS, *ALONE, *TOGETHER)
COMMANDS = {
    "segment": ("segment", "scan.nii.gz", "labels.nii.gz", "--trace", "new", "--report", "r.html"),
    "sweep": ("sweep", "scan.nii.gz", "--out", "sweep", "--ratios", "0.3"),
    "compare": ("compare", "old.nii.gz", "old.nii.gz", "--trace", "old"),
}
_TESTS = (
    "faults/test_places.py", "faults/test_interrupts.py", "test_files_writing.py",
    "worker/test_lifetime.py", "worker/test_jobs.py", "worker/test_folder.py",
    "engine/test_cli_refusals.py", "training/test_training.py",
)  # fmt: skip
_WINDOW_TESTS = (
    "plugin/test_dock_faults*.py", "plugin/test_dock_refusals.py", "plugin/test_dock_runs.py",
    "plugin/test_inspector_closing.py", "plugin/test_inspector_busy.py",
    "plugin/test_inspector_threads.py",
)  # fmt: skip


def measure(torture: Torture) -> Iterator[Row]:
    """Break everything."""
    yield from _killed(torture)
    yield from _disks(torture)
    yield from _disturbed(torture)
    yield from tested(torture, *_TESTS)
    if os.environ.get("DISPLAY"):
        yield from tested(torture, *_WINDOW_TESTS)


def _killed(torture: Torture) -> Iterator[Row]:
    most = torture.share(60, least=4)
    for deaths in kill(list(WRITERS), steps=most, sizes=torture.share(16, least=2)):
        yield Row(
            f"killed, or files limited in size, while writing: {deaths.writer}",
            handled=deaths.tried - deaths.refused - len(deaths.problems),
            refused=deaths.refused,
            defects=deaths.problems,
        )


def _disks(torture: Torture) -> Iterator[Row]:
    """Write to real disks in memory; where none may be mounted, there is no row."""
    at = torture.folder / "disk"
    for what, act in (("a full disk", full), ("a disk that cannot be written", read_only)):
        row = Row(f"{what}, for each of {len(WRITERS)} writers")
        for name, writer in make_writers(WRITERS, torture.folder).items():
            try:
                for said in act(writer, at):
                    row.refuse(said) if said else row.count([])
            except PermissionError:
                return
            except Exception as error:
                row.defects.append(f"{name}: {type(error).__name__}: {error}"[:300])
        yield row


def _disturbed(torture: Torture) -> Iterator[Row]:
    """Cancel, interrupt, end and kill what runs."""
    weights, folder = torture.folder / "weights", torture.folder / "commands"
    for made in (weights, folder):
        made.mkdir(exist_ok=True)
    segmenter = make_segmenter(weights)
    row = Row("a session cancelled at each step of opening and running, then used again")
    for problem in cancelled_everywhere(segmenter, make_scan((110, 90, 70))):
        row.count(filter(None, [problem]))
    yield row
    with mock.patch.dict(os.environ, SPARSESEG_WEIGHTS=str(weights)):
        yield from _signalled(folder)
    row = Row("`sparseseg segment` killed after a random time, over older files")
    row.count([])  # the first one, which is not killed
    own = torture.folder / "killed"
    own.mkdir()
    for problem in killed_commands(own, weights, torture.share(20, least=2)):
        row.count(filter(None, [problem]))
    yield row


def _signalled(folder: Path) -> Iterator[Row]:
    here = Path.cwd()
    write_volume(make_scan(), folder / "scan.nii.gz")
    try:
        os.chdir(folder)
        call("segment", "scan.nii.gz", "old.nii.gz", *TINY, "--trace", "old")
        for name, arguments in COMMANDS.items():
            options = () if name == "compare" else TINY
            for number in (signal.SIGINT, signal.SIGTERM):
                row = Row(f"{number.name} at each step of `sparseseg {name}`")
                for problem in interrupted_everywhere(folder, number, *arguments, *options):
                    row.count(filter(None, [problem]))
                yield row
                _tidy(folder)
    finally:
        os.chdir(here)


def _tidy(folder: Path) -> None:
    """Remove what the last call, which no signal came to, has written."""
    import shutil

    for name in ("new", "sweep"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("labels.nii.gz", "r.html", "r.json"):
        (folder / name).unlink(missing_ok=True)
