"""Reader: DICOM, NIfTI, NRRD, MetaImage, Analyze as layers that know where the patient is."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import Any

import numpy as np

from napari_sparseseg.plugin.geometry import NOTES, READ_SHAPE, placed
from napari_sparseseg.plugin.opening import FILES, Opened, holds_scans, open_scans
from napari_sparseseg.volume import Volume

LayerData = tuple[Any, dict[str, Any], str]
_SAMPLED = 200_000
_NO_LAYER = (None,)


def get_reader(path: str | PathLike[str] | list[str]) -> Callable[..., list[Any]] | None:
    """Return a reader for scans in files or folders, None for anything else."""
    paths = path if isinstance(path, list) else [path]
    return read_layers if paths and all(holds_scans(str(name)) for name in paths) else None


def read_layers(path: str | PathLike[str] | list[str]) -> list[Any]:
    """Read scans as napari layer data; see :func:`image_layer` and :mod:`opening`.

    Returns
    -------
    list
        Layer data; napari's sign for "no layer" where the user chose none or saw why not.

    Raises
    ------
    InputError
        If a file cannot be read or has no usable geometry, and no window is there to say so.
    """
    paths = path if isinstance(path, list) else [path]
    return open_scans([str(name) for name in paths], opened_layer) or [_NO_LAYER]


def opened_layer(opened: Opened) -> LayerData:
    """Turn a scan that was opened into napari layer data; see :func:`image_layer`."""
    data, arguments, kind = image_layer(
        opened.volume, opened.candidate.path, opened.candidate.part.key
    )
    arguments["metadata"][FILES] = opened.files
    return data, arguments, kind


def image_layer(volume: Volume, source: str, part: str = "") -> LayerData:
    """Turn a volume into napari layer data.

    Parameters
    ----------
    volume : Volume
        The scan.
    source : str
        Where it comes from, kept in the metadata.
    part : str
        Which part of the source it is, kept there too; "" for all of it.

    Returns
    -------
    tuple
        A view on the voxels with axes superior, posterior, left; keyword arguments, whose
        metadata hold ``affine`` (index of that view to RAS mm), ``source_affine`` (that of the
        volume itself), ``source``, ``part``, the ``notes`` of the volume and the ``shape`` of the
        view; "image".

    Raises
    ------
    InputError
        If the affine is not usable.
    """
    data, transform, affine = placed(volume)
    metadata = {
        "affine": affine,
        "source_affine": volume.affine,
        "source": source,
        "part": part,
        NOTES: volume.notes,
        READ_SHAPE: data.shape,
    }
    arguments = {"name": volume.name, "metadata": metadata, **transform}
    limits = _contrast(volume.data)
    if limits is not None:
        arguments["contrast_limits"] = limits
    return data, arguments, "image"


def _contrast(data: np.ndarray) -> tuple[float, float] | None:
    """Leave out the brightest outliers, which darken all the rest; None if nothing is left."""
    sample = data.ravel(order="K")[:: max(1, data.size // _SAMPLED)]
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return None
    low, high = np.percentile(sample, (0.1, 99.9))
    return (float(low), float(high)) if low < high else None
