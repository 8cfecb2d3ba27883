"""What every part of the benchmark is given: the scans, the models, the device, the patience."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.volumes import Case, tissue_share
from napari_sparseseg.analysis.metrics import dice_per_class

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Bench:
    """A benchmark.

    Attributes
    ----------
    case : callable
        Gives a case by its name, see ``volumes.Cases``.
    validation : callable
        Gives the scans on which defaults may be chosen.
    device : str
        A resolved device.
    repeats, slow_repeats : int
        Timed rounds, and those of what takes minutes.
    sparse, dense : str or Path
        The model that is measured, and its dense twin.
    roi : int
        Edge of MONAI's windows in voxels.
    """

    case: Callable[[str], Case]
    validation: Callable[[], list[Case]]
    device: str = "cpu"
    repeats: int = 7
    slow_repeats: int = 2
    sparse: str | Path = "brain-mr-stp"
    dense: str | Path = "brain-mr-dense"
    roi: int = 96


def describe_case(case: Case) -> dict[str, Any]:
    """Return the facts of a scan, JSON-ready."""
    return {
        "title": case.title,
        "shape": list(case.volume.shape),
        "spacing": [round(s, 4) for s in case.volume.spacing],
        "dtype": str(case.volume.data.dtype),
        "tissue_share": round(tissue_share(case), 4),
    }


def mean_dice(labels: NDArray[np.uint8], truth: NDArray[np.uint8], classes: int) -> float:
    """Return the mean Dice of the structures, those absent from the truth left out."""
    found = [dice for dice in dice_per_class(labels, truth, classes) if dice is not None]
    return round(float(np.mean(found)), 5) if found else float("nan")
