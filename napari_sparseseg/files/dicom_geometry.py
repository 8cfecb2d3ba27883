"""Where DICOM slices lie: their order, the affine, and what does not make a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import atan2, degrees

import numpy as np

from napari_sparseseg.files.dicom_headers import Frame
from napari_sparseseg.volume import MAX_SHEAR

SAME_PLACE = 0.01
"""Slices whose distance is smaller (mm) lie in one place."""

UNEVEN = 0.05
"""Largest deviation of a slice from an even grid, as a fraction of the distance of two slices."""

NOTED = 0.01
"""Deviation from an even grid from which on a note tells of it, as the same fraction."""

_PERPENDICULAR = 1e-2
_DISAGREE = 0.05  # of the distance between slices
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


class NoGridError(Exception):
    """Slices make no grid; the text goes on after the name of the series."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in order, at different places.

    Parameters
    ----------
    frames : tuple of Frame
        In the order of the third voxel axis.
    affine : numpy.ndarray
        Matrix (4, 4): column, row, slice to RAS mm.
    notes : tuple of str
        What was not as it should be.
    """

    frames: tuple[Frame, ...]
    affine: np.ndarray
    notes: tuple[str, ...]


def normal_of(frame: Frame) -> np.ndarray:
    """Return the direction in which slices follow each other, from rows and columns; LPS.

    Raises
    ------
    NoGridError
        When the frame does not say where it lies.
    """
    if frame.position is None or frame.orientation is None or frame.spacing is None:
        raise NoGridError(
            "does not say where its slices lie in the patient; choose a series of scanned slices"
        )
    along = np.reshape(np.array(frame.orientation), (2, 3))
    if abs(along @ along.T - np.eye(2)).max() > _PERPENDICULAR:
        raise NoGridError(
            "has row and column directions that are not at right angles; export it again"
        )
    if min(frame.spacing) <= 0:
        raise NoGridError("has a zero or negative pixel spacing; correct it in its headers")
    normal = np.cross(*along)
    return normal / np.linalg.norm(normal)


def distances(frames: Sequence[Frame]) -> np.ndarray:
    """Return how far each slice lies along the normal of the first one (mm)."""
    return np.array([frame.position for frame in frames], float) @ normal_of(frames[0])


def stack(frames: Sequence[Frame]) -> Stack:
    """Order slices of one orientation, all at different places, along their normal.

    Raises
    ------
    NoGridError
        When slices are missing, unevenly spaced or sheared against each other (gantry tilt), or
        when a single slice has no thickness.
    """
    along = distances(frames)
    order = np.argsort(along, kind="stable")
    ordered, along = tuple(frames[index] for index in order), along[order]
    first = ordered[0]
    notes: list[str] = []
    if len(ordered) == 1:
        step = normal_of(first) * _thickness(first)
        notes.append(
            f"There is a single slice; its thickness of {np.linalg.norm(step):.4g} mm was used as "
            "the voxel size across it."
        )
    else:
        positions = np.array([frame.position for frame in ordered])
        notes += _check_even(along)
        step = (positions[-1] - positions[0]) / (len(ordered) - 1)
        _check_straight(positions, step, first)
        notes += _disagreement(first, float(np.linalg.norm(step)))
    return Stack(ordered, _affine(first, step), tuple(notes))


def _thickness(frame: Frame) -> float:
    for thickness in (frame.thickness, frame.between):
        if thickness is not None and thickness > 0:
            return thickness
    raise NoGridError("is a single slice without a thickness; choose a series with more slices")


def _check_even(along: np.ndarray) -> list[str]:
    """Return a note on small deviations; raise on large ones."""
    gaps = np.diff(along)
    step = (along[-1] - along[0]) / len(gaps)
    deviation = abs(along - along[0] - step * np.arange(len(along))).max()
    if deviation <= NOTED * step:
        return []
    if deviation <= UNEVEN * step:
        return [
            f"The slices lie up to {deviation:.2g} mm off an even distance of {step:.4g} mm; the "
            "even distance was used."
        ]
    steps = gaps / gaps.min()
    missing = np.rint(steps).astype(int) - 1
    # Between slices that lie anywhere there are no missing ones.
    if (abs(steps - np.rint(steps)) <= 2 * UNEVEN).all() and missing.sum() <= len(along):
        at = along[int(np.argmax(missing > 0))] - along[0] + gaps.min()
        total = int(missing.sum())
        lacks = "1 slice is" if total == 1 else f"{total} slices are"
        first = "it belongs" if total == 1 else "the first belongs"
        raise NoGridError(
            f"is not complete: {lacks} missing between its {len(along)} slices, {first} "
            f"{at:.4g} mm from the first slice; add the missing files or export it again"
        )
    raise NoGridError(
        f"has unevenly spaced slices, {gaps.min():.4g} to {gaps.max():.4g} mm apart; choose a "
        "series with one distance or resample it first"
    )


def _check_straight(positions: np.ndarray, step: np.ndarray, first: Frame) -> None:
    normal = normal_of(first)
    across = float(step @ normal)
    tilt = atan2(float(np.linalg.norm(step - across * normal)), across)
    if tilt > MAX_SHEAR:
        raise NoGridError(
            f"is sheared: its slices are tilted by {degrees(tilt):.1f} degrees against the "
            "direction in which they follow each other (gantry tilt); resample it to a "
            "rectangular grid first"
        )
    line = positions[0] + np.arange(len(positions))[:, None] * step
    aside = positions - line
    aside -= (aside @ normal)[:, None] * normal
    if abs(aside).max() > UNEVEN * across:
        raise NoGridError(
            f"has slices that are shifted sideways against each other by up to "
            f"{abs(aside).max():.2g} mm; resample it to a rectangular grid first"
        )


def _disagreement(frame: Frame, step: float) -> list[str]:
    said = {"a distance": frame.between, "a thickness": frame.thickness}
    off = [
        f"{what} of {value:.4g} mm"
        for what, value in said.items()
        if value and abs(abs(value) - step) > _DISAGREE * step
    ]
    if not off:
        return []
    return [
        f"The slices lie {step:.4g} mm apart where their headers say {' and '.join(off)}; their "
        "positions were used."
    ]


def _affine(first: Frame, step: np.ndarray) -> np.ndarray:
    assert first.spacing is not None and first.position is not None  # normal_of has seen to it
    between_rows, between_columns = first.spacing
    along = np.reshape(np.array(first.orientation), (2, 3))
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    affine = np.eye(4)
    affine[:3, 0] = _LPS_TO_RAS * along[0] * between_columns
    affine[:3, 1] = _LPS_TO_RAS * along[1] * between_rows
    affine[:3, 2] = _LPS_TO_RAS * step
    affine[:3, 3] = _LPS_TO_RAS * first.position
    return affine
