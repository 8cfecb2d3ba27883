"""Writer: labels on the grid of the scan that they belong to, with names and colours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_sparseseg import files
from napari_sparseseg.errors import OutputError
from napari_sparseseg.files.segments import DICOM
from napari_sparseseg.maps import KINDS
from napari_sparseseg.plugin.geometry import assumed_affine, turned
from napari_sparseseg.structures import Structure
from napari_sparseseg.volume import Volume

_GREY = "#808080"


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Save a labels layer in the format of the file name.

    Labels of a scan that this plugin has read are turned back to the orientation of its file and
    get its affine; a token map gets the token grid's own. Names of structures and the colours of
    the layer go along where the format holds them. napari has asked before it replaces a file.

    Parameters
    ----------
    path : str
        File name that ends in one of `napari_sparseseg.files.LABEL_SUFFIXES`; a DICOM segmentation
        (.dcm) can be made of labels of a DICOM series.
    data : array-like
        Labels, 3-D.
    meta : dict
        State of the layer, as napari hands it over.

    Returns
    -------
    list of str
        The path.

    Raises
    ------
    OutputError
        If the labels are not 3-D or the file cannot be written.
    """
    labels = np.asarray(data)
    if labels.ndim != 3:
        raise OutputError(
            f"{meta.get('name', 'The layer')} has {labels.ndim} dimensions; only 3-D labels can "
            "be saved."
        )
    volume = source_volume(labels, meta)
    facts = (meta.get("metadata") or {}).get("sparseseg", {})
    files.write_labels(
        volume,
        _structures(volume.data, facts.get("classes", ()), meta.get("colormap")),
        path,
        source=_series(facts) if path.lower().endswith(DICOM) else (),
        report=facts.get("report") if _is_untouched(volume.data, facts) else None,
        overwrite=True,
    )
    return [path]


def _structures(labels: np.ndarray, classes: Sequence[str], colormap: Any) -> tuple[Structure, ...]:
    """Name what the values stand for; one that no class has, or that was painted, is numbered."""
    values = sorted({*range(1, len(classes)), *(int(n) for n in np.unique(labels) if n > 0)})
    return tuple(
        Structure(n, classes[n] if n < len(classes) else f"label {n}", _color(colormap, n))
        for n in values
    )


def _color(colormap: Any, value: int) -> str:
    if colormap is None:
        return _GREY
    red, green, blue = np.rint(255 * np.ravel(colormap.map(value))[:3]).astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"


def _series(facts: dict[str, Any]) -> tuple[Path, ...]:
    """Return the files of the DICOM series that labels are of, none for those of other scans."""
    from napari_sparseseg.files.dicom import source_files

    source = facts.get("source")
    return source_files(source, str(facts.get("part", ""))) if source else ()


def _is_untouched(labels: np.ndarray, facts: dict[str, Any]) -> bool:
    """Tell by the voxel counts whether labels are still those of the run, or were painted since.

    An edit that leaves every count as it was is not noticed.
    """
    report = facts.get("report")
    if not report or "classes" not in facts:
        return False
    counts = [int((labels == n).sum()) for n in range(1, len(facts["classes"]))]
    return counts == [entry["voxels"] for entry in report["classes"].values()]


def source_volume(labels: np.ndarray, meta: dict[str, Any]) -> Volume:
    """Return the labels of a layer on the grid of the file that its image came from.

    Parameters
    ----------
    labels : ndarray
        As the layer holds them.
    meta : dict
        State of the layer; ``metadata`` may hold ``affine`` and ``source_affine``.
    """
    metadata = meta.get("metadata") or {}
    affine = metadata.get("affine")
    affine = assumed_affine(meta) if affine is None else np.asarray(affine, dtype=np.float64)
    source = np.asarray(metadata.get("source_affine", affine), dtype=np.float64)
    name = str(meta.get("name", "labels"))
    if metadata.get("sparseseg", {}).get("role") in KINDS:
        labels = np.maximum(labels, 0)  # air counts nothing in a file, as in a saved trace
    return Volume(turned(_compact(labels), affine, source), source, name)


def _compact(labels: np.ndarray) -> np.ndarray:
    """Store labels in the smallest integer that other programs read; 64 bits few of them do."""
    low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    for dtype in (np.uint8, np.int16, np.int32):
        limits = np.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            return labels.astype(dtype)
    return labels
