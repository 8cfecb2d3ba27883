"""Many runs in a process of their own: prints what it holds after each as JSON.

``python runs_in_one_process.py MODEL ROUNDS``; the weights are found as by the engine.
"""

from __future__ import annotations

import gc
import json
import sys

import numpy as np
import psutil
import torch

from napari_sparseseg.errors import Cancelled
from napari_sparseseg.progress import CancelToken
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.volume import Volume

MB = 2**20


def scan(shape: tuple[int, int, int]) -> Volume:
    """Make a ball of waves in air."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    inside = x**2 + y**2 + z**2 < 0.9
    waves = 300 + 80 * (np.sin(5 * x + 1) + np.cos(7 * y * x) + np.sin(4 * z + 2 * y))
    return Volume(np.where(inside, waves, 0).astype(np.float32), np.eye(4), "scan")


def one_round(segmenter: Segmenter, volume: Volume) -> None:
    """Run, run again, and cancel: in the first blocks and in the middle of a run."""
    for stop_at in ("", "First encoder blocks", "Encoding and decoding"):
        token = CancelToken()

        def progress(
            done: int, total: int, what: str, stop_at: str = stop_at, token: CancelToken = token
        ) -> None:
            if what == stop_at:
                token.cancel()

        try:
            with segmenter.open(volume, progress, token) as session:
                session.run(0.3, progress, token)
                session.run(0.6, progress, token)
        except Cancelled:
            pass


def held(process: psutil.Process) -> dict[str, float]:
    """Tell what this process holds."""
    gc.collect()
    tensors = sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())
    return {
        "mb": process.memory_info().rss / MB,
        "tensors": tensors,
        "threads": process.num_threads(),
        "files": process.num_fds() if hasattr(process, "num_fds") else process.num_handles(),
    }


def main(model: str, rounds: int) -> None:
    """Print one line a round."""
    torch.set_num_threads(1)
    segmenter = Segmenter(model, "cpu", "float32")
    volume, process = scan((56, 40, 32)), psutil.Process()
    for _ in range(rounds):
        one_round(segmenter, volume)
        print(json.dumps(held(process)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
