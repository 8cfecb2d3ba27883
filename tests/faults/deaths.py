"""The real command, killed from outside at any time."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from napari_sparseseg.files import TEMPORARY, read_volume, write_volume
from napari_sparseseg.tokens import TokenTrace
from tests.faults.commands import TINY
from tests.faults.made import make_scan

_REPOSITORY = Path(__file__).parents[2]
_LATEST = 1.2  # of the time that an undisturbed run takes


def killed_commands(folder: Path, weights: Path, times: int) -> Iterator[str | None]:
    """Kill ``sparseseg segment`` after a random time, again and again over the same files.

    Parameters
    ----------
    folder : Path
        Where it reads and writes.
    weights : Path
        Folder of the tiny model.
    times : int
        How often.

    Yields
    ------
    str or None
        What was wrong afterwards, None for nothing.
    """
    write_volume(make_scan((60, 56, 48)), folder / "scan.nii.gz", overwrite=True)
    command = [
        sys.executable, "-m", "napari_sparseseg.cli", "segment", "scan.nii.gz", "labels.nii.gz",
        *TINY, "--trace", "trace", "--report", "report.json", "--overwrite",
    ]  # fmt: skip
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(_REPOSITORY),
        "SPARSESEG_WEIGHTS": str(weights),
    }  # fmt: skip
    start = time.monotonic()
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    whole, moments = time.monotonic() - start, random.Random(0)
    for _ in range(times):
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
        try:
            process.wait(timeout=moments.uniform(0.3, _LATEST) * whole)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        yield _wrong(folder)


def _wrong(folder: Path) -> str | None:
    known = {"scan.nii.gz", "labels.nii.gz", "trace", "report.json"}
    other = {path.name for path in folder.iterdir() if not path.name.startswith(TEMPORARY)}
    if other != known:
        return f"there is {sorted(other ^ known)}"
    labels = read_volume(folder / "labels.nii.gz")
    trace = TokenTrace.load(folder / "trace")
    report = json.loads((folder / "report.json").read_text())
    if not labels.data.any() or not trace.kept.any() or not report["tokens"]:
        return "a file holds nothing"
    return None
