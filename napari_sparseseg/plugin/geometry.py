"""Where layers lie: from an image layer to a volume, and from a volume to a layer.

Two spaces meet here. The patient's space is RAS millimetres; an image layer keeps its affine to
it in ``metadata["affine"]``. napari's world is what the canvas shows; it can only slice along
array axes, so layers are placed in it without any rotation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.errors import InputError
from napari_sparseseg.volume import Volume, check_shape

if TYPE_CHECKING:
    from napari.layers import Image

TRANSFORM = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
"""Attributes that place a layer in napari's world."""

_SUPERIOR_POSTERIOR_LEFT = ("S", "P", "L")
_HALF, _SAME = 0.5, 1e-4
_MOVED_MM = 1e-2

NOTES, READ_SHAPE = "notes", "shape"
"""What the reader keeps in the metadata of a layer, beside the affines."""


@dataclass(frozen=True, eq=False)
class Scan:
    """An image layer as the engine's input.

    Attributes
    ----------
    layer_id : object
        ``unique_id`` of the layer.
    name : str
        Its name.
    data : array-like
        Its voxels as the layer holds them (maybe lazily), ``(I, J, K)``.
    affine : ndarray
        ``(4, 4)``, index of the layer to RAS mm.
    source_affine : ndarray
        ``(4, 4)``, index of the file that it came from to RAS mm: the same grid, whose axes the
        reader may have turned. ``affine`` where no file is known.
    notes : tuple of str
        What a user should know of how the scan was read and where it lies, one sentence each.
    part : str
        Key of the series or frame that the scan is, "" where its source holds one only.
    """

    layer_id: object
    name: str
    data: Any
    affine: NDArray[np.float64]
    source_affine: NDArray[np.float64]
    notes: tuple[str, ...] = ()
    part: str = ""

    @classmethod
    def of(cls, layer: Image) -> Scan:
        """Look at an image layer; its voxels are neither read nor copied.

        Raises
        ------
        InputError
            If it is no single 3-D grey-value image, or its affine is no matrix.
        """
        if layer.rgb:
            raise InputError(
                f"{layer.name} is a colour image; choose a scan with one grey value per voxel."
            )
        data = layer.data[0] if layer.multiscale else layer.data
        shape = tuple(data.shape)
        check_shape(shape, layer.name)
        _check_as_read(layer.metadata.get(READ_SHAPE), shape, layer.name)
        known = layer.metadata.get("affine")
        affine = (
            assumed_affine(transform_of(layer)) if known is None else _matrix(known, layer.name)
        )
        source = _matrix(layer.metadata.get("source_affine", affine), layer.name)
        notes, part = tuple(_notes_of(layer, affine, shape)), str(layer.metadata.get("part", ""))
        return cls(layer.unique_id, layer.name, data, affine, source, notes, part)

    def same_as(self, other: Scan) -> bool:
        """Tell whether the other one is the same layer with the same voxels in the same place."""
        return (
            self.layer_id == other.layer_id
            and self.data is other.data
            and np.array_equal(self.affine, other.affine)
        )

    def still_is(self, layer: Image) -> bool:
        """Tell whether a layer holds these very voxels in this place."""
        try:
            return self.same_as(Scan.of(layer))
        except InputError:
            return False

    def volume(self) -> Volume:
        """Read the voxels, on the grid of the file, and check them.

        Raises
        ------
        InputError
            If they cannot be read or segmented.
        """
        voxels = self._voxels()
        volume = Volume(voxels, self.affine, self.name, self.notes, self.part).validated()
        if not _same_grid(self.affine, self.source_affine):
            raise InputError(
                f"{self.name} does not lie where its metadata say that its file does; open the "
                "scan again."
            )
        data = turned(volume.data, self.affine, self.source_affine)
        return replace(volume, data=data, affine=self.source_affine)

    def _voxels(self) -> NDArray[Any]:
        """Read the voxels, which a lazy layer fetches only now."""
        try:
            return np.asarray(self.data)
        except OSError as error:
            raise InputError(
                f"The voxels of {self.name} cannot be read ({error.strerror or error}); see that "
                "its file is there, and open the scan again."
            ) from error

    def on_layer(self, data: NDArray[Any]) -> NDArray[Any]:
        """Turn an array on the grid of :meth:`volume` into the axes of the layer."""
        return turned(data, self.source_affine, self.affine)


def turned(
    data: NDArray[Any], present: NDArray[np.float64], wanted: NDArray[np.float64]
) -> NDArray[Any]:
    """Permute and flip the axes of an array from one affine to another of the same grid.

    Parameters
    ----------
    data : ndarray
        Voxels, 3-D.
    present, wanted : ndarray
        ``(4, 4)``, index of the array and of the result to RAS mm.

    Returns
    -------
    ndarray
        A view.
    """
    from nibabel.orientations import apply_orientation, io_orientation

    return apply_orientation(data, io_orientation(np.linalg.inv(wanted) @ present))


def transform_of(layer: Any) -> dict[str, Any]:
    """Return the keyword arguments that put another layer where this one is."""
    return {name: getattr(layer, name) for name in TRANSFORM}


def assumed_affine(transform: Mapping[str, Any]) -> NDArray[np.float64]:
    """Take napari's world as the patient's: array axes are right, anterior and superior.

    Parameters
    ----------
    transform : mapping
        What of :data:`TRANSFORM` is known, as in :func:`transform_of` or a layer's state.

    Returns
    -------
    ndarray
        ``(4, 4)``, array index to mm. Units of length are converted; pixels count as mm.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = linear_of(transform)
    matrix[:3, 3] = transform.get("translate", np.zeros(3))
    extra = transform.get("affine")
    if extra is not None:
        matrix = np.asarray(getattr(extra, "affine_matrix", extra)) @ matrix
    return np.diag([*_millimetres(transform.get("units")), 1.0]) @ matrix


def placed(volume: Volume) -> tuple[NDArray[Any], dict[str, Any], NDArray[np.float64]]:
    """Turn a volume so that napari shows axial slices the radiological way.

    The array axes become superior, posterior, left: the slider climbs through axial slices, with
    anterior up and the patient's left on the right. Nothing is copied or resampled. An oblique
    volume is shown without its rotation, around its true centre.

    Parameters
    ----------
    volume : Volume
        Any volume with an invertible affine.

    Returns
    -------
    data : ndarray
        View on the voxels, axes S, P, L.
    transform : dict
        Keyword arguments for a layer: positive scale, translate, units, axis labels.
    affine : ndarray
        ``(4, 4)``, index of that view to RAS mm.

    Raises
    ------
    InputError
        If the affine maps voxels onto each other.
    """
    from nibabel.orientations import (
        apply_orientation,
        axcodes2ornt,
        inv_ornt_aff,
        io_orientation,
        ornt_transform,
    )

    present = io_orientation(volume.affine)
    if not np.isfinite(present).all() or min(volume.spacing) <= 0:
        raise InputError(
            f"{volume.name} has no usable spacing or directions; correct its header or export it "
            "again."
        )
    turn = ornt_transform(present, axcodes2ornt(_SUPERIOR_POSTERIOR_LEFT))
    data = apply_orientation(volume.data, turn)
    affine = volume.affine @ inv_ornt_aff(turn, volume.shape)
    return data, _transform_as_read(affine, data.shape), affine


def _transform_as_read(affine: NDArray[np.float64], shape: tuple[int, ...]) -> dict[str, Any]:
    """Return where :func:`placed` puts voxels with axes S, P, L: around their centre, unturned."""
    scale = np.linalg.norm(affine[:3, :3], axis=0)
    middle = (np.array(shape) - 1) / 2
    right, anterior, superior = (affine @ [*middle, 1])[:3]
    return {
        "scale": scale,
        "translate": np.array([superior, -anterior, -right]) - scale * middle,
        "units": ("mm",) * 3,
        "axis_labels": _SUPERIOR_POSTERIOR_LEFT,
    }


def _notes_of(layer: Image, affine: NDArray[np.float64], shape: tuple[int, ...]) -> Iterator[str]:
    """Say what the reader noted, and where the patient's place was not taken from what is seen.

    Reports repeat it: no name of a file or layer, which may be a patient's, is in it.
    """
    metadata = layer.metadata
    yield from map(str, metadata.get(NOTES, ()))
    if metadata.get("affine") is None:
        yield (
            "The scan does not say how the patient lies in it: its axes were taken as right, "
            "anterior and superior."
        )
    elif metadata.get(READ_SHAPE) is not None:
        here = assumed_affine(transform_of(layer))
        there = assumed_affine(_transform_as_read(affine, shape))
        if not np.allclose(here, there, rtol=_SAME, atol=_MOVED_MM):
            yield (
                "The scan was moved, turned or scaled in napari after it was read: labels and "
                "maps lie on it as it is shown, but are computed and saved with the place and the "
                "spacing that its file gives."
            )


def linear_of(transform: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the part of :func:`transform_of` that turns, shears and scales, ``(3, 3)``."""
    from napari.utils.transforms import Affine

    parts = {name: transform[name] for name in ("rotate", "shear") if name in transform}
    return Affine(scale=transform.get("scale", np.ones(3)), **parts).linear_matrix


def _check_as_read(read: Any, shape: tuple[int, ...], name: str) -> None:
    if read is not None and tuple(read) != shape:
        raise InputError(
            f"{name} was cropped or resampled in napari, so that nobody knows where its voxels lie "
            "in the patient; crop the file itself, and open that."
        )


def _same_grid(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Tell whether two affines are of grids whose axes are those of the other, turned."""
    try:
        between = np.linalg.inv(other) @ one
    except np.linalg.LinAlgError:
        return False
    turn = np.abs(between[:3, :3])
    return bool(np.allclose(turn, turn > _HALF, atol=_SAME) and np.allclose(turn.sum(0), 1))


def _matrix(known: Any, name: str) -> NDArray[np.float64]:
    try:
        matrix = np.asarray(known, dtype=np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape != (4, 4):
        raise InputError(
            f"{name} has no valid affine in its metadata (4 x 4 numbers); open the scan again."
        )
    return matrix


def _millimetres(units: Any) -> list[float]:
    import pint

    factors = []
    for unit in units or ("pixel",) * 3:
        try:
            factors.append(float(pint.get_application_registry()(str(unit)).to("mm").magnitude))
        except (pint.DimensionalityError, pint.UndefinedUnitError):
            factors.append(1.0)
    return factors
