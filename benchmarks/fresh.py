"""Processes of their own: the first press with every import, and the memory of a run.

``press`` and ``run`` start one and return what it printed; ``python -m benchmarks.fresh`` is that
process. Nothing heavy is imported before its clock runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.saved import load_arrays, save_arrays

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.volumes import Case


@contextmanager
def on_disk(case: Case) -> Iterator[Path]:
    """Keep a case in a folder for as long as processes need it."""
    with tempfile.TemporaryDirectory() as folder:
        save_arrays(Path(folder), case.volume.data, case.volume.affine, case.truth)
        yield Path(folder)


def press(folder: Path, bench: Bench) -> dict[str, Any]:
    """Return the ``seconds`` of the first press of Segment, every import included."""
    return _start("press", folder, bench, "sparse")


def run(folder: Path, bench: Bench, arm: str) -> dict[str, Any]:
    """Run an arm once and return its memory in MB.

    Returns
    -------
    dict
        "resident" just before the run with the model loaded, the highest "peak" during it, "run"
        their difference, "swap" in use at the end, and the "seconds" of the run. On a GPU, peak
        and run are those of its memory.
    """
    return _start("run", folder, bench, arm)


def _start(what: str, folder: Path, bench: Bench, arm: str) -> dict[str, Any]:
    facts = {
        "what": what,
        "folder": str(folder),
        "arm": arm,
        "device": bench.device,
        "sparse": str(bench.sparse),
        "dense": str(bench.dense),
        "roi": bench.roi,
    }
    command = [sys.executable, "-m", "benchmarks.fresh", json.dumps(facts)]
    here = Path(__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, cwd=here)
    if done.returncode:
        raise RuntimeError(f"the process of '{arm}' failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _press(facts: dict[str, Any]) -> dict[str, Any]:
    data, affine, _ = load_arrays(Path(facts["folder"]))
    start = time.perf_counter()
    from napari_sparseseg import Segmenter, Volume

    with Segmenter(facts["sparse"], facts["device"]).open(Volume(data, affine)) as session:
        session.run()
    return {"seconds": time.perf_counter() - start}


def _run(facts: dict[str, Any]) -> dict[str, Any]:
    from benchmarks.arms import make_arm
    from benchmarks.bench import Bench
    from benchmarks.timing import timed
    from benchmarks.volumes import Case
    from napari_sparseseg import Volume
    from napari_sparseseg.devices import PeakMemory

    data, affine, truth = load_arrays(Path(facts["folder"]))
    case = Case("case", "case", Volume(data, affine), truth)

    def none(_: str) -> Case:
        return case

    bench = Bench(
        none,
        list,
        facts["device"],
        sparse=facts["sparse"],
        dense=facts["dense"],
        roi=facts["roi"],
    )
    arm = make_arm(facts["arm"], case, bench)
    on_gpu = facts["device"].startswith("cuda")
    memory = PeakMemory(facts["device"])
    resident = memory.megabytes() if on_gpu else process_megabytes("VmRSS")
    seconds, _ = timed(arm.run, facts["device"])
    peak = memory.megabytes()
    return {
        "resident": round(resident, 1),
        "peak": round(peak, 1),
        "run": round(peak - resident, 1),
        "swap": round(process_megabytes("VmSwap"), 1),
        "seconds": round(seconds, 4),
    }


def process_megabytes(key: str) -> float:
    """Return a figure of this process's memory in MB.

    Parameters
    ----------
    key : str
        Its name in Linux's ``/proc/self/status``, for example "VmRSS".
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 2**10


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    answer = _press(request) if request["what"] == "press" else _run(request)
    print(json.dumps(answer))
