"""Where a NIfTI file places its voxels, and what there is to say about it."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from napari_sparseseg.errors import InputError

ASSUMED_AXES = "they were taken to run to the left, the front and the top"
"""What is assumed where a file is silent, as nibabel and SPM do."""

ASSUMED_LPS = "its axes were taken to run to the left, the back and the top"
"""What is assumed where a NRRD or MetaImage file is silent, as ITK does."""

_TOLERANCE = 0.1  # mm: below it two places are the same
_UNITS = {1: ("metres", 1e3), 3: ("micrometres", 1e-3)}  # codes of xyzt_units, but millimetres
_LENGTHS = {
    **dict.fromkeys(("m", "meter", "metre"), ("metres", 1e3)),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), ("centimetres", 10.0)),
    **dict.fromkeys(("um", "\N{MICRO SIGN}m", "micron", "micrometer"), ("micrometres", 1e-3)),
}


def placed_by_forms(header: Any, shape: tuple[int, int, int]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the affine to RAS mm and the notes: the sform counts, else the qform."""
    with np.errstate(all="ignore"):  # an affine of no use is judged with the volume
        return _by_forms(header, shape)


def _by_forms(header: Any, shape: tuple[int, int, int]) -> tuple[np.ndarray, tuple[str, ...]]:
    unit, to_mm = _UNITS.get(int(header["xyzt_units"]) & 7, ("", 1.0))
    millimetres = np.diag([to_mm, to_mm, to_mm, 1.0])
    affine = millimetres @ header.get_best_affine()
    notes = [_converted(unit)] if unit else []
    if header["sform_code"] > 0:
        notes += _other_places(header, affine, millimetres, shape)
    elif header["qform_code"] <= 0:
        notes.append(f"The file does not say how its axes lie in the patient; {ASSUMED_AXES}.")
    return affine, tuple(notes)


def _other_places(
    header: Any, affine: np.ndarray, millimetres: np.ndarray, shape: tuple[int, int, int]
) -> list[str]:
    """Say what else in the header contradicts the sform."""
    if header["qform_code"] > 0:
        try:
            qform = millimetres @ header.get_qform()
        except Exception:  # nibabel raises several types for a broken quaternion
            return ["The qform of the file is not valid; the sform was used."]
        distance = farthest(affine, qform, shape)
        if not distance <= _TOLERANCE:
            return [
                f"The sform and the qform of the file differ by up to {distance:.1f} mm; the "
                "sform was used."
            ]
        return []
    stated = np.abs(header["pixdim"][1:4].astype(np.float64)) * millimetres[0, 0]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if (stated > 0).all() and not np.allclose(stated, spacing, rtol=0.01, atol=1e-3):
        return [
            f"The file states a voxel spacing of {_times(stated)} mm but its sform one of "
            f"{_times(spacing)} mm; the sform was used."
        ]
    return []


def farthest(one: np.ndarray, other: np.ndarray, shape: tuple[int, int, int]) -> float:
    """Return how far apart (mm) two affines place a corner of a volume at most."""
    corners = np.array([[*corner, 1] for corner in product(*((0, n - 1) for n in shape))])
    return float(np.linalg.norm(((one - other) @ corners.T)[:3], axis=0).max())


def in_millimetres(
    affine: np.ndarray, units: list[str], name: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Convert an affine whose units a header names, and say so; unknown ones are millimetres.

    Raises
    ------
    InputError
        When the units differ from axis to axis.
    """
    named = {_LENGTHS.get(unit.strip().lower(), ("", 1.0)) for unit in units} or {("", 1.0)}
    if len(named) > 1:
        raise InputError(
            f"{name} gives its voxel spacing in several units; correct the units in its header."
        )
    unit, to_mm = named.pop()
    return np.diag([to_mm, to_mm, to_mm, 1.0]) @ affine, (_converted(unit),) if unit else ()


def _converted(unit: str) -> str:
    return f"The file gives lengths in {unit}; they were converted to millimetres."


def _times(values: np.ndarray) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
