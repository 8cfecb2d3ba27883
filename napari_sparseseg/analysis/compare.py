"""Two label maps on one grid: how far they agree, and where they differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.analysis.metrics import class_masks, dice, hd95
from napari_sparseseg.errors import InputError
from napari_sparseseg.progress import CancelToken, Progress, silent
from napari_sparseseg.report import count_classes
from napari_sparseseg.volume import Volume

SAME, ADDED, LOST, CHANGED = 0, 1, 2, 3
"""Values of a difference map: both agree; only the labels, only the reference, or both hold a
structure."""

TOLERANCE = 1e-3
"""Millimetres by which the corners of one grid may lie apart in two files."""

_NAMED = 5  # unknown labels that a message lists


@dataclass(frozen=True)
class ClassComparison:
    """How far two maps agree on one structure.

    Attributes
    ----------
    name : str
        The structure.
    dice : float or None
        None where the reference lacks it.
    hd95 : float or None
        95th percentile of the surface distances in mm; None where either map lacks it.
    millilitres, reference_millilitres : float
        Its volume in both maps.
    """

    name: str
    dice: float | None
    hd95: float | None
    millilitres: float
    reference_millilitres: float

    @property
    def change(self) -> float:
        """Millilitres more than in the reference."""
        return self.millilitres - self.reference_millilitres


@dataclass(frozen=True, eq=False)
class Comparison:
    """How far labels agree with a reference.

    Attributes
    ----------
    classes : tuple of ClassComparison
        All structures, background left out.
    difference : ndarray of uint8
        Shape of the labels: :data:`SAME`, :data:`ADDED`, :data:`LOST` or :data:`CHANGED`.
    spacing : tuple of float
        Edges of a voxel in mm.
    counts : dict of int
        Voxels "added", "lost" and "changed".
    """

    classes: tuple[ClassComparison, ...]
    difference: NDArray[np.uint8]
    spacing: tuple[float, ...]
    counts: dict[str, int]

    @property
    def mean_dice(self) -> float | None:
        """Mean over the structures that the reference holds; None if it holds none."""
        found = [entry.dice for entry in self.classes if entry.dice is not None]
        return float(np.mean(found)) if found else None

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, JSON-ready."""
        return {
            "mean_dice": self.mean_dice,
            "voxels": self.counts,
            "classes": {
                entry.name: {
                    "dice": entry.dice,
                    "hd95": entry.hd95,
                    "millilitres": entry.millilitres,
                    "reference_millilitres": entry.reference_millilitres,
                    "change": round(entry.change, 3),
                }
                for entry in self.classes
            },
        }


def compare(
    labels: Volume,
    reference: Volume,
    classes: Sequence[str],
    *,
    resample: bool = False,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> Comparison:
    """Compare labels with a reference.

    Parameters
    ----------
    labels : Volume
        Class indices.
    reference : Volume
        Class indices in any dtype, on the same grid.
    classes : sequence of str
        Class names; index 0 is background.
    resample : bool
        Bring a reference of another grid to that of the labels; its volumes then are those of
        what lies within the labels' field of view.
    progress : callable, optional
        See :data:`Progress`; a step for each structure.
    cancel : CancelToken, optional
        Checked before each structure.

    Raises
    ------
    InputError
        If either holds labels that are no class, or the grids differ and `resample` is off or
        they have no place in common.
    Cancelled
        If the token was set.
    """
    theirs = matched(reference, labels, classes, resample=resample)
    mine = checked_labels(labels, classes)
    structures = _structures(mine, theirs, classes, progress or silent, cancel or CancelToken())
    entries = tuple(structures)
    difference = difference_map(mine.data, theirs.data)
    return Comparison(entries, difference, labels.spacing, _counted(difference))


def _structures(
    labels: Volume,
    reference: Volume,
    classes: Sequence[str],
    progress: Progress,
    cancel: CancelToken,
) -> Iterator[ClassComparison]:
    """Compare structure by structure: surface distances take time."""
    names, count, spacing = classes[1:], len(classes), labels.spacing
    millilitres = abs(float(np.linalg.det(labels.affine[:3, :3]))) / 1000
    volumes = [
        [round(voxels * millilitres, 3) for voxels in count_classes(m.data, count)[1:].tolist()]
        for m in (labels, reference)
    ]
    pairs = class_masks(labels.data, reference.data, count)
    for place, (name, *both) in enumerate(zip(names, *volumes, strict=True)):
        cancel.raise_if_cancelled()
        progress(place, len(names), f"Comparing {name}")
        masks = next(pairs)
        yield ClassComparison(name, dice(*masks), hd95(*masks, spacing), *both)


def _counted(difference: NDArray[np.uint8]) -> dict[str, int]:
    counts = count_classes(difference, CHANGED + 1).tolist()
    return {"added": counts[ADDED], "lost": counts[LOST], "changed": counts[CHANGED]}


def difference_map(labels: NDArray[np.uint8], reference: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Tell where and how two class maps of one shape differ; see :class:`Comparison`."""
    difference = (labels != reference).view(np.uint8)  # ADDED where they differ
    difference[(labels == 0) & (reference != 0)] = LOST
    difference[(difference == ADDED) & (reference != 0)] = CHANGED
    return difference


def matched(
    reference: Volume, labels: Volume, classes: Sequence[str], *, resample: bool = False
) -> Volume:
    """Return a reference as class indices (uint8) on the grid of the labels.

    Parameters
    ----------
    reference, labels, classes, resample
        As for :func:`compare`.

    Raises
    ------
    InputError
        If it holds labels that are no class, or the grids differ and `resample` is off or they
        have no place in common.
    """
    checked = checked_labels(reference, classes)
    apart = _apart(checked, labels)
    if apart <= TOLERANCE:
        return checked
    if resample:
        if not _meet(checked, labels):
            raise InputError(
                f"{reference.name} ({_geometry(reference)}) does not overlap with {labels.name} "
                f"({_geometry(labels)}); choose a map of the same scan."
            )
        return on_grid_of(checked, labels)
    where = "" if np.isinf(apart) else f", up to {apart:.3g} mm apart"
    raise InputError(
        f"{reference.name} ({_geometry(reference)}) lies on another grid than {labels.name} "
        f"({_geometry(labels)}){where}; choose a map on the same grid, or allow resampling."
    )


def on_grid_of(reference: Volume, labels: Volume) -> Volume:
    """Bring a class map to the grid of another; voxels outside it are background.

    Parameters
    ----------
    reference : Volume
        Class indices, uint8.
    labels : Volume
        Gives the grid.

    Returns
    -------
    Volume
        At each voxel the class of the nearest one of the reference.
    """
    import SimpleITK as sitk

    from napari_sparseseg.files import itk_image

    moved = sitk.Resample(
        itk_image(reference), itk_image(labels), sitk.Transform(), sitk.sitkNearestNeighbor
    )
    return Volume(sitk.GetArrayFromImage(moved).T, labels.affine, reference.name)


def checked_labels(reference: Volume, classes: Sequence[str]) -> Volume:
    """Return a label map as uint8.

    Parameters
    ----------
    reference : Volume
        Labels in any dtype.
    classes : sequence of str
        Class names; index 0 is background.

    Raises
    ------
    InputError
        If it is not one 3-D map, or a label is no integer or no class.
    """
    data = reference.data
    if data.ndim != 3 or data.dtype.kind not in "biuf":
        raise InputError(f"{reference.name} is no label map; choose one with one integer a voxel.")
    if data.dtype.kind == "b":
        return replace(reference, data=data.view(np.uint8))
    if data.dtype.kind == "f" and not (np.isfinite(data).all() and (data == np.rint(data)).all()):
        raise InputError(
            f"{reference.name} holds values that are no integers; choose a label map, not a scan."
        )
    if data.size and (data.min() < 0 or data.max() >= len(classes)):
        unknown = np.unique(data[(data < 0) | (data >= len(classes))])
        listed = ", ".join(f"{label:.0f}" for label in unknown[:_NAMED])
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        raise InputError(
            f"{reference.name} holds labels that no class has ({listed}{more}); choose a map with "
            f"the labels 0 to {len(classes) - 1} ({', '.join(classes)})."
        )
    return replace(reference, data=data.astype(np.uint8, copy=False))


def _apart(one: Volume, other: Volume) -> float:
    """Return how far corners of the same index lie apart in mm; infinite if the shapes differ."""
    if one.shape != other.shape:
        return float("inf")
    corners = np.array([*product(*((0, n - 1) for n in one.shape))])
    shift = one.affine - other.affine
    return float(np.linalg.norm(corners @ shift[:3, :3].T + shift[:3, 3], axis=1).max())


def _meet(one: Volume, other: Volume) -> bool:
    """Tell whether two grids may have a place in common, by boxes around them in voxels of one."""
    corners = np.array([*product(*((-0.5, n - 0.5) for n in other.shape))])
    to_one = np.linalg.inv(one.affine) @ other.affine
    found = corners @ to_one[:3, :3].T + to_one[:3, 3]
    below, above = found.max(axis=0) < -0.5, found.min(axis=0) > np.array(one.shape) - 0.5
    return not (below | above).any()


def _geometry(volume: Volume) -> str:
    shape, spacing = (" x ".join(f"{n:.6g}" for n in s) for s in (volume.shape, volume.spacing))
    origin = ", ".join(f"{x + 0.0:.7g}" for x in volume.affine[:3, 3].tolist())
    return f"{shape} voxels of {spacing} mm, {volume.orientation}, origin {origin} mm"
