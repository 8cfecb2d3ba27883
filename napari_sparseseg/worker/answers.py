"""What answers consist of: models, devices, structures and maps as JSON-ready data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg import colors, maps
from napari_sparseseg.catalog import tasks
from napari_sparseseg.fates import stage_name
from napari_sparseseg.methods import METHODS, Control, Method, View, control_of, controls
from napari_sparseseg.structures import structures_of
from napari_sparseseg.weights import DEFAULT_MODEL, ModelInfo
from napari_sparseseg.worker.folder import Files

if TYPE_CHECKING:
    from napari_sparseseg.session import Segmentation
    from napari_sparseseg.tokens import TokenGrid, TokenTrace


def models_answer(models: Iterable[ModelInfo]) -> dict[str, Any]:
    """Describe what there is to choose from."""
    return {
        "models": [_model(info, task.title) for task in tasks(models) for info in task.models],
        "default": DEFAULT_MODEL,
        "controls": [
            {"name": name, "title": METHODS[name].title, "about": METHODS[name].about}
            for name in controls()
        ],
    }


def _model(info: ModelInfo, task_title: str) -> dict[str, Any]:
    method = METHODS[info.method]
    return {
        "name": info.name,
        "title": info.title,
        "task": info.task,
        "task_title": task_title,
        "method": method.name,
        "method_title": method.title,
        "about": method.about,
        "source": method.source,
        "modality": info.modality,
        "structures": list(info.classes[1:]),
        "colors": list(info.colors[1:]),
        "spacing": info.spacing,
        "license": info.license,
        "size_mb": _megabytes(info),
        "default_setting": info.default_setting,
        "control": control_answer(control_of(info.method, info.method)),
        # the registry does not say; they depend on the computer
        "seconds": {"cpu": None, "gpu": None},
    }


def _megabytes(info: ModelInfo) -> float | None:
    try:
        return round(info.path.stat().st_size / 1e6, 1)
    except OSError:  # the answer to ``open`` says what is wrong with it
        return None


def control_answer(control: Control | None) -> dict[str, Any] | None:
    """Describe the setting in force, if there is one."""
    return None if control is None else asdict(control)


def grid_answer(grid: TokenGrid) -> dict[str, Any]:
    """Describe where the tokens of a volume lie."""
    return {
        "shape": list(grid.shape),
        "patch": list(grid.patch),
        "affine": grid.affine.tolist(),
    }


def run_answer(
    result: Segmentation, dice: Sequence[float | None] | None, files: Files
) -> dict[str, Any]:
    """Write the arrays of a result to files, and describe them.

    Parameters
    ----------
    result : Segmentation
        The run.
    dice : sequence of float or None
        Dice of each structure to the dense twin, if it was asked for.
    files : Files
        Where labels and maps go.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    peak = result.report["peak_memory_mb"]
    return {
        "labels": files.write("labels", result.labels.data),
        "structures": _structures(result, dice),
        "maps": _maps(result.trace, files),
        "fate": result.trace.fate,
        "report": {**result.report, "peak_memory_mb": peak if math.isfinite(peak) else None},
    }


def _structures(result: Segmentation, dice: Sequence[float | None] | None) -> list[dict[str, Any]]:
    facts, found = result.report["classes"], structures_of(result.classes, result.colors)
    return [
        {
            **asdict(structure),
            "terminology": structure.terminology,
            **facts[structure.name],
            "dice_to_dense": score,
        }
        for structure, score in zip(found, dice or [None] * len(found), strict=True)
    ]


def _maps(trace: TokenTrace, files: Files) -> list[dict[str, Any]]:
    """Write and describe each map that the method shows, in its order.

    Dependencies are left out: they are those of one token that somebody clicked on.
    """
    shown = maps.scores(trace)
    found = []
    for view in trace.views:
        if view.kind == "importance":
            for stage in range(1, len(trace.stages) + 1):
                name = files.write(f"importance-{stage}", shown[stage - 1])
                found.append(_shades(view, stage, stage_name(trace, stage), name))
        elif view.kind not in maps.SHADED:
            values = maps.values_of(trace, view.kind, 1, 0, shown)
            name = files.write(view.kind, values)
            found.append(_categories(view, view.about, name, maps.legend_of(trace, view.kind)))
    return found


def preview_answer(
    preview: NDArray[np.uint8], rule: Method, stages: int, files: Files
) -> dict[str, Any]:
    """Write and describe what the first stage would let go on.

    Parameters
    ----------
    preview : ndarray
        What ``Session.preview`` returned.
    rule : Method
        The rule in force; only one that shows where tokens left has a map to preview.
    stages : int
        Number of its stages.
    files : Files
        Where the map goes.
    """
    view = next((view for view in rule.views if view.kind == "kept"), None)
    if view is None:
        return {"map": None}
    states = maps.preview_map(preview, stages)
    legend = maps.preview_legend(states, stages, rule.fate)
    name = files.write("preview", states)
    return {"map": _categories(view, maps.PREVIEW_NOTE, name, legend)}


def _shades(view: View, stage: int, stage_title: str, name: str) -> dict[str, Any]:
    return {
        "kind": view.kind,
        "stage": stage,
        "title": f"{view.title} at {stage_title}",
        "about": view.about,
        "data": name,
        "type": "shades",
        "range": [0, 1],
        "colormap": colors.shades(),
    }


def _categories(view: View, about: str, name: str, legend: list[maps.Entry]) -> dict[str, Any]:
    return {
        "kind": view.kind,
        "stage": None,
        "title": view.title,
        "about": about,
        "data": name,
        "type": "categories",
        "legend": [asdict(entry) for entry in legend],
    }
