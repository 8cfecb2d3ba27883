"""How the labels of the brain models agree with the tissue maps of a template.

The ICBM152 template comes with maps of grey and white matter made by other means than our labels,
from scans of 152 young adults: an outside check of the two tissues, not of single structures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.arms import default_setting
from benchmarks.quality.cases import BRAIN, CaseSet
from napari_sparseseg.analysis.metrics import dice_per_class
from napari_sparseseg.files import read_volume
from napari_sparseseg.plugin.sample import template_path
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.training.anatomy import STRUCTURES
from napari_sparseseg.weights import ModelInfo

TEMPLATE = "ICBM152"
GREY = (
    "cerebral cortex",
    "cerebellum cortex",
    "thalamus",
    "caudate",
    "putamen",
    "pallidum",
    "hippocampus",
    "amygdala",
    "accumbens",
)
WHITE = ("cerebral white matter", "cerebellum white matter")
MIXED = ("brain-stem", "ventral DC")
"""Structures of both tissues: what is labelled so counts for neither."""

_HALF = 127.5  # maps hold 0 to 255
_NEITHER, _GREY, _WHITE = 0, 1, 2


def measure(
    task: str, models: Sequence[ModelInfo], data: Path, cases: Mapping[str, CaseSet]
) -> list[dict[str, Any]]:
    """Segment the template with every model at its default setting.

    Parameters
    ----------
    task : str
        Name of the task; only whole brains have a template.
    models : sequence of ModelInfo
        Its models.
    data, cases
        As every part is given them; not used.

    Returns
    -------
    list of dict
        A row for each model, with the Dice of "grey" and "white" matter.

    Raises
    ------
    InputError
        If nilearn, which carries the template, is not there.
    """
    if task != BRAIN:
        return []
    path = template_path()
    scan = read_volume(path)
    grey, white = (
        read_volume(path.with_name(path.name.replace("_t1_", f"_{name}_"))).data > _HALF
        for name in ("gm", "wm")
    )
    rows = []
    for info in models:
        segmenter = Segmenter(info)
        answer = segmenter.segment(scan)
        found = tissue_dice(answer.labels.data, grey, white, brain=scan.data > 0)
        setting = default_setting(info)
        rows.append({"model": info.name, "setting": setting, "case": TEMPLATE, **found})
    return rows


def tissue_dice(
    labels: NDArray[np.integer],
    grey: NDArray[np.bool_],
    white: NDArray[np.bool_],
    brain: NDArray[np.bool_],
) -> dict[str, float]:
    """Return the Dice of grey and of white matter.

    Parameters
    ----------
    labels : ndarray of int
        Classes of the brain task.
    grey, white : ndarray of bool
        The maps, of the same shape.
    brain : ndarray of bool
        Mask of the brain; what lies outside does not count.
    """
    counted = brain & ~np.isin(labels, _indices(MIXED))
    truth = np.select([grey, white], [_GREY, _WHITE], _NEITHER)[counted]
    found = np.select(
        [np.isin(labels, _indices(GREY)), np.isin(labels, _indices(WHITE))],
        [_GREY, _WHITE],
        _NEITHER,
    )[counted]
    scores = dice_per_class(found, truth, 3)
    return {"grey": float(scores[0] or 0), "white": float(scores[1] or 0)}


def _indices(names: tuple[str, ...]) -> list[int]:
    order = list(STRUCTURES)
    return [order.index(name) for name in names]
