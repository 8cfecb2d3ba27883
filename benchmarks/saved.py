"""A case on disk, for processes of their own; needs no more than numpy to be read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def save_arrays(
    folder: Path, data: NDArray, affine: NDArray[np.float64], truth: NDArray[np.uint8]
) -> None:
    """Write a scan and its labels."""
    np.save(folder / "data.npy", data)
    np.save(folder / "truth.npy", truth)
    (folder / "affine.json").write_text(json.dumps(affine.tolist()))


def load_arrays(folder: Path) -> tuple[NDArray, NDArray[np.float64], NDArray[np.uint8]]:
    """Read what :func:`save_arrays` wrote: data, affine, truth."""
    affine = np.array(json.loads((folder / "affine.json").read_text()))
    data, truth = (
        np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("data", "truth")
    )
    return data, affine, truth
