"""The facts and figures of a run as plain data, enough to do it again (see :mod:`repeat`)."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.errors import OutputError
from napari_sparseseg.means import Means
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import ModelInfo

NOTICE = "Research use only, not for diagnosis."
REPORT_FORMAT = 2
"""Grows when a report says something in another way."""

_VERSIONS = ("napari-sparseseg", "torch", "numpy", "SimpleITK", "nibabel")


def make_report(
    info: ModelInfo,
    *,
    weights_sha256: str,
    sparsifier: str,
    setting: dict[str, Any] | None,
    device: str,
    precision: str,
    seed: int,
    means: Means,
    overlap: float,
    part: str,
    notes: Sequence[str],
    labels: Volume,
    tokens: dict[str, int],
    gmacs: dict[str, float],
    seconds: dict[str, float],
    peak_memory_mb: float,
    memory: dict[str, Any],
) -> dict[str, Any]:
    """Collect what a run did.

    Parameters
    ----------
    info : ModelInfo
        The model.
    weights_sha256 : str
        Checksum of its weights.
    sparsifier : str
        Method or control that decided in this run.
    setting : dict or None
        "name" and "value" of its setting, None if it has none.
    device, precision : str
        Where and how it was computed.
    seed : int
        Seed of what a control draws.
    means : Means
        The switches of the run.
    overlap : float
        Least common part of neighbouring windows, as a fraction of a window.
    part : str
        Key of the part of the input that was segmented, "" where it had one only.
    notes : sequence of str
        What a user should know of how the scan was read and of how the run went.
    labels : Volume
        Class indices on the input's grid.
    tokens : dict
        Counts: total, air, kept, pruned, exited, reactivated.
    gmacs : dict
        10^9 multiply-accumulates: "run" counted from what ran, "dense" for the dense twin;
        "encoder" and "encoder_dense", the share of the encoder blocks and of the scores in both.
    seconds : dict
        Seconds of each part; the total is added.
    peak_memory_mb : float
        Largest memory of the run: of the GPU if one was used, else of the process.
    memory : dict
        "estimate_mb" before the run and "peak_mb" measured, both without what was there before it;
        "budget_mb", what it was allowed to take; "steps", sentences about what was given up for
        want of memory.

    Returns
    -------
    dict
        JSON-ready; holds nothing of the scan's header but its geometry.
    """
    counts = count_classes(labels.data, len(info.classes))
    millilitres = abs(float(np.linalg.det(labels.affine[:3, :3]))) / 1000
    return {
        "notice": NOTICE,
        "format": REPORT_FORMAT,
        "model": info.name,
        "method": info.method,
        "weights_sha256": weights_sha256,
        "weights_registered": info.registered,
        "sparsifier": sparsifier,
        "setting": setting,
        "device": device,
        "precision": precision,
        "seed": seed,
        "means": asdict(means),
        "overlap": overlap,
        "part": part,
        "notes": list(notes),
        "volume": {
            "shape": list(labels.shape),
            "spacing": [round(s, 6) for s in labels.spacing],
            "orientation": labels.orientation,
        },
        "tokens": tokens,
        "gmacs": {key: round(value, 3) for key, value in gmacs.items()},
        "seconds": {
            "total": round(sum(seconds.values()), 4),
            **{key: round(value, 4) for key, value in seconds.items()},
        },
        "peak_memory_mb": round(peak_memory_mb, 1),
        "memory": {
            key: round(value, 1) if isinstance(value, float) else value
            for key, value in memory.items()
        },
        "classes": {
            name: {"voxels": int(count), "millilitres": round(int(count) * millilitres, 3)}
            for name, count in zip(info.classes[1:], counts[1:], strict=True)
        },
        "versions": dict(versions()),
        "computer": computer(device),
    }


@cache
def versions() -> Mapping[str, str]:
    """Return the versions of Python and of the libraries that a result can depend on."""
    libraries = {name: version(name) for name in _VERSIONS}
    return MappingProxyType(libraries | {"python": platform.python_version()})


def computer(device: str) -> dict[str, Any]:
    """Return what a result can depend on beside settings and versions, nothing of the user's.

    Parameters
    ----------
    device : str
        A resolved device.

    Returns
    -------
    dict
        "system", "processor" and the number of "threads".
    """
    import torch

    from napari_sparseseg.devices import processor_name

    return {
        "system": platform.system(),
        "processor": processor_name(device),
        "threads": torch.get_num_threads(),
    }


def checksums(scan: Volume, labels: Volume) -> dict[str, str]:
    """Return what tells a scan and its labels from others; a report that is kept has it.

    Not part of every report: of a large scan they take a good part of the time of a run.

    Parameters
    ----------
    scan, labels : Volume
        The input, checked, and the label map of the run.

    Returns
    -------
    dict
        SHA-256 of "scan" and "labels" (see :func:`volume_checksum`).
    """
    return {"scan": volume_checksum(scan), "labels": volume_checksum(labels)}


_PLACE_DIGITS = 4  # formats round an affine, by far less than 0.0001 mm
_SLAB_BYTES = 1 << 22


def volume_checksum(volume: Volume) -> str:
    """Return the SHA-256 of the voxels of a volume, their type, and their place.

    It does not depend on how the voxels lie in memory, and takes an affine for the same that
    differs by less than formats round it.

    Parameters
    ----------
    volume : Volume
        Any 3-D volume.
    """
    data = volume.data
    affine = np.round(volume.affine, _PLACE_DIGITS) + 0.0  # no negative zero
    stored = data.dtype.newbyteorder("<")
    found = hashlib.sha256(f"{data.shape} {stored.str}".encode())
    found.update(affine.astype("<f8").tobytes())
    thick = max(1, _SLAB_BYTES // max(1, data[..., :1].nbytes))
    for first in range(0, data.shape[2], thick):
        slab = data[..., first : first + thick].T  # nearly all files are in this order
        found.update(np.ascontiguousarray(slab, dtype=stored).data)
    return found.hexdigest()


_CHUNK = 1 << 18  # pairs of labels counted at once: what a counter takes stays in cache


def count_classes(labels: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """Count the voxels of each class.

    Only the box that holds structures is looked at, two voxels at a time: numpy's own count of a
    large scan takes longer than its segmentation.

    Parameters
    ----------
    labels : ndarray of uint8
        Class indices, ``(x, y, z)``.
    classes : int
        Number of classes.

    Returns
    -------
    ndarray of int64
        ``(classes,)``; index 0 is background.
    """
    box = np.ascontiguousarray(_filled_box(labels)).reshape(-1)
    even = box[: len(box) // 2 * 2].view(np.uint16)
    pairs = np.zeros(256 * 256, dtype=np.int64)
    for start in range(0, len(even), _CHUNK):
        pairs += np.bincount(even[start : start + _CHUNK], minlength=len(pairs))
    singles = np.bincount(box[2 * len(even) :], minlength=256)
    square = pairs.reshape(256, 256)
    counts = square.sum(axis=0) + square.sum(axis=1) + singles
    counts[0] += labels.size - box.size
    return counts[:classes]


def _filled_box(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the part of ``(x, y, z)`` labels that holds all that are not background."""
    import torch

    # torch's maximum runs at the speed of memory, but it takes no negative strides
    volume = torch.from_numpy(np.ascontiguousarray(labels))
    planes = volume.flatten(1).amax(dim=1).nonzero()[:, 0]
    if not len(planes):
        return labels[:0]
    volume = volume[planes[0] : planes[-1] + 1]
    shadow = volume.amax(dim=0)
    rows, columns = (shadow.amax(dim=axis).nonzero()[:, 0] for axis in (1, 0))
    return volume[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].numpy()


def write_report(report: dict[str, Any], path: str | Path, *, overwrite: bool = False) -> None:
    """Write a report as JSON, whole or not at all.

    Raises
    ------
    OutputError
        If it exists already or cannot be written.
    """
    import json

    from napari_sparseseg.files import atomic_path

    with atomic_path(path, overwrite=overwrite) as temporary:
        try:
            temporary.write_text(json.dumps(report, indent=2) + "\n")
        except OSError as error:
            raise OutputError(
                f"The report cannot be written to {path} ({error.strerror}); choose another place."
            ) from error
