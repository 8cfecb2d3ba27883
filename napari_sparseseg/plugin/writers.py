"""Writer: labels as NIfTI on the grid of the scan that they belong to."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_sparseseg.errors import OutputError
from napari_sparseseg.files import write_volume
from napari_sparseseg.maps import KINDS
from napari_sparseseg.plugin.geometry import assumed_affine, turned
from napari_sparseseg.volume import Volume


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Save a labels layer as NIfTI.

    Labels of a scan that this plugin has read are turned back to the orientation of its file and
    get its affine; a token map gets the token grid's own. napari has asked before it replaces a
    file.

    Parameters
    ----------
    path : str
        File name that ends in .nii or .nii.gz.
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
            "be saved as NIfTI."
        )
    write_volume(source_volume(labels, meta), path, overwrite=True)
    return [path]


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
