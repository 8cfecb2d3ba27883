"""Where layers lie: from an image layer to a volume, and from a token grid back to a layer.

Two spaces meet here. The patient's space is RAS millimetres; an image layer keeps its affine to
it in ``metadata["affine"]``. napari's world is what the canvas shows; it can only slice along
array axes, so layers are placed in it without any rotation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.errors import InputError
from napari_sparseseg.volume import Volume, check_shape

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sparseseg.tokens import TokenGrid

TRANSFORM = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
"""Attributes that place a layer in napari's world."""

_SUPERIOR_POSTERIOR_LEFT = ("S", "P", "L")


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
    assumed : bool
        True where the layer knows no affine to the patient, so that its axes were taken as
        right, anterior, superior.
    """

    layer_id: object
    name: str
    data: Any
    affine: NDArray[np.float64]
    source_affine: NDArray[np.float64]
    assumed: bool

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
        check_shape(tuple(data.shape), layer.name)
        known = layer.metadata.get("affine")
        affine = (
            assumed_affine(transform_of(layer)) if known is None else _matrix(known, layer.name)
        )
        source = _matrix(layer.metadata.get("source_affine", affine), layer.name)
        return cls(layer.unique_id, layer.name, data, affine, source, known is None)

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
            If they cannot be segmented.
        """
        volume = Volume(np.asarray(self.data), self.affine, self.name).validated()
        data = turned(volume.data, self.affine, self.source_affine)
        return Volume(data, self.source_affine, self.name)

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
    matrix[:3, :3] = _linear(transform)
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
    scale = np.linalg.norm(affine[:3, :3], axis=0)
    middle = (np.array(data.shape) - 1) / 2
    right, anterior, superior = (affine @ [*middle, 1])[:3]
    transform = {
        "scale": scale,
        "translate": np.array([superior, -anterior, -right]) - scale * middle,
        "units": ("mm",) * 3,
        "axis_labels": _SUPERIOR_POSTERIOR_LEFT,
    }
    return data, transform, affine


@dataclass(frozen=True, eq=False)
class TokenPlacement:
    """A token grid as seen from an image layer.

    Token arrays have axes R, A, S; an image layer may have any of the 48 orders and directions.
    :meth:`arrange` brings a token array into those of the layer, so that it can lie on it without
    a rotation.

    Attributes
    ----------
    order : tuple of int
        For each axis of the layer the token axis along it.
    flipped : tuple of int
        Axes of the layer that run against their token axis.
    step : ndarray
        ``(3,)`` size of a token in voxels of the layer.
    first : ndarray
        ``(3,)`` centre of the first token, after :meth:`arrange`, as an index of the layer.
    """

    order: tuple[int, ...]
    flipped: tuple[int, ...]
    step: NDArray[np.float64]
    first: NDArray[np.float64]

    @classmethod
    def of(cls, grid: TokenGrid, image_affine: NDArray[np.float64]) -> TokenPlacement:
        """Compare a token grid with the image that it was laid over.

        Parameters
        ----------
        grid : TokenGrid
            The grid.
        image_affine : ndarray
            ``(4, 4)``, index of the image layer to RAS mm.
        """
        to_index = np.linalg.inv(image_affine) @ grid.affine
        order = np.abs(to_index[:3, :3]).argmax(axis=1)
        step = to_index[range(3), order]
        last = np.array(grid.shape)[order] - 1
        return cls(
            order=tuple(order.tolist()),
            flipped=tuple(np.flatnonzero(step < 0).tolist()),
            step=np.abs(step),
            first=to_index[:3, 3] + np.where(step < 0, step * last, 0.0),
        )

    def arrange(self, tokens: NDArray[Any]) -> NDArray[Any]:
        """Bring an array on the token grid into the axes of the layer; nothing is copied."""
        return np.flip(tokens.transpose(self.order), self.flipped)

    def transform(self, image: Mapping[str, Any]) -> dict[str, Any]:
        """Return where a token layer lies, given the :func:`transform_of` its image layer."""
        return {
            **image,
            "scale": np.asarray(image["scale"]) * self.step,
            "translate": np.asarray(image["translate"]) + _linear(image) @ self.first,
        }

    def affine(self, image_affine: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the affine of an arranged token array, token index to RAS mm."""
        to_index = np.diag([*self.step, 1.0])
        to_index[:3, 3] = self.first
        return image_affine @ to_index


def _linear(transform: Mapping[str, Any]) -> NDArray[np.float64]:
    from napari.utils.transforms import Affine

    parts = {name: transform[name] for name in ("rotate", "shear") if name in transform}
    return Affine(scale=transform.get("scale", np.ones(3)), **parts).linear_matrix


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
