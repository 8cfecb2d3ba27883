"""The facts and figures of a run as plain data."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from napari_sparseseg.errors import OutputError
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import ModelInfo

NOTICE = "Research use only, not for diagnosis."
_VERSIONS = ("napari-sparseseg", "torch", "numpy")


def make_report(
    info: ModelInfo,
    *,
    weights_sha256: str,
    sparsifier: str,
    setting: dict[str, Any] | None,
    device: str,
    precision: str,
    labels: Volume,
    tokens: dict[str, int],
    gmacs: dict[str, float],
    seconds: dict[str, float],
    peak_memory_mb: float,
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
    labels : Volume
        Class indices on the input's grid.
    tokens : dict
        Counts: total, air, kept, pruned, exited, reactivated.
    gmacs : dict
        10^9 multiply-accumulates: "run" counted from what ran, "dense" for the dense twin.
    seconds : dict
        Seconds of each part; the total is added.
    peak_memory_mb : float
        Largest memory of the run: of the GPU if one was used, else of the process.

    Returns
    -------
    dict
        JSON-ready; holds nothing of the scan's header but its geometry.
    """
    counts = np.bincount(labels.data.reshape(-1), minlength=len(info.classes))
    millilitres = abs(float(np.linalg.det(labels.affine[:3, :3]))) / 1000
    return {
        "notice": NOTICE,
        "model": info.name,
        "method": info.method,
        "weights_sha256": weights_sha256,
        "sparsifier": sparsifier,
        "setting": setting,
        "device": device,
        "precision": precision,
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
        "classes": {
            name: {"voxels": int(count), "millilitres": round(int(count) * millilitres, 3)}
            for name, count in zip(info.classes[1:], counts[1:], strict=True)
        },
        "versions": {name: version(name) for name in _VERSIONS},
    }


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
