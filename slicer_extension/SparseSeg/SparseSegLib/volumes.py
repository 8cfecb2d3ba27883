"""Volume nodes and numpy arrays: what is sent to the engine, and what is drawn of its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from SparseSegLib.errors import SceneError
from SparseSegLib.geometry import (
    box_corners,
    crop_box,
    cropped_affine,
    ijk_from_kji,
    kji_from_ijk,
)

Slices = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Source:
    """What the engine gets of a volume.

    Attributes
    ----------
    array_ijk : ndarray
        (I, J, K) voxels, or those of the region. A view of the node's own memory that cannot be
        written; save it before the node changes. It is in Fortran order, so saving copies nothing.
    affine : ndarray
        (4, 4): index into ``array_ijk`` to RAS millimetres of the world, parent transforms
        included.
    name : str
        Name of the volume.
    slices : tuple of slice
        Where in the volume ``array_ijk`` lies, along I, J and K.
    shape : tuple of int
        Voxels of the whole volume along I, J and K.
    fingerprint : tuple
        :func:`fingerprint` at the time of reading.
    """

    array_ijk: np.ndarray
    affine: np.ndarray
    name: str
    slices: Slices
    shape: tuple[int, ...]
    fingerprint: tuple


def read_volume(volume_node: Any, roi_node: Any = None) -> Source:
    """Read a volume, or what of it lies in a region.

    A parent transform that is linear, however many deep, is part of the affine: where a volume was
    turned to fit a patient, that is where its right and left are. One that bends space fits into
    no affine; then the volume is sent as it lies under it, and as the result is put under the same
    transform, it is bent the same way.

    Parameters
    ----------
    volume_node : vtkMRMLScalarVolumeNode
        The volume.
    roi_node : vtkMRMLMarkupsROINode, optional
        The region; it may be oblique and under a transform.

    Returns
    -------
    Source
        For ``open``: ``array_ijk``, ``affine`` and ``name`` are what the protocol asks for.

    Raises
    ------
    SceneError
        If the node holds no voxels, holds colours, or lies outside of the region.
    """
    array = ijk_from_kji(_voxels(volume_node))
    ijk_to_ras = world_affine(volume_node)
    slices = _region(array.shape, ijk_to_ras, roi_node)
    view = array[slices]
    view.flags.writeable = False
    return Source(
        view,
        cropped_affine(ijk_to_ras, slices),
        volume_node.GetName(),
        slices,
        array.shape,
        fingerprint(volume_node, roi_node),
    )


def fingerprint(volume_node: Any, roi_node: Any = None) -> tuple:
    """Tell what would be read, without reading it: equal means that the engine has it already.

    Parameters
    ----------
    volume_node, roi_node
        As for :func:`read_volume`.
    """
    image = volume_node.GetImageData()
    region = None if roi_node is None else _roi_corners(roi_node).tobytes()
    return (
        volume_node.GetID(),
        image.GetAddressAsString("vtkImageData") if image else None,
        image.GetMTime() if image else None,
        world_affine(volume_node).tobytes(),
        region,
    )


def node_affine(volume_node: Any) -> np.ndarray:
    """Return the affine of a volume node in its own space, below its parent transform."""
    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    return matrix_to_array(matrix)


def world_affine(volume_node: Any) -> np.ndarray:
    """Return the affine of a volume node in the world; see :func:`read_volume`."""
    parent = volume_node.GetParentTransformNode()
    if parent is None or not parent.IsTransformToWorldLinear():
        return node_affine(volume_node)
    matrix = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(matrix)
    return matrix_to_array(matrix) @ node_affine(volume_node)


def fill_volume(volume_node: Any, array_ijk: np.ndarray, affine: np.ndarray) -> None:
    """Put an array and its place into a volume node, which gets memory of its own.

    Parameters
    ----------
    volume_node : vtkMRMLScalarVolumeNode
        The node to fill.
    array_ijk : ndarray
        (I, J, K) values.
    affine : ndarray
        (4, 4): index to RAS in the space of the node.
    """
    image = vtk.vtkImageData()
    fill_image(image, array_ijk)
    volume_node.SetIJKToRASMatrix(array_to_matrix(affine))
    volume_node.SetAndObserveImageData(image)


def fill_image(image: Any, array_ijk: np.ndarray, start: tuple[int, ...] = (0, 0, 0)) -> None:
    """Put an array into VTK image data, which gets memory of its own.

    Parameters
    ----------
    image : vtkImageData
        The image to fill; its origin and spacing stay as they are.
    array_ijk : ndarray
        (I, J, K) values.
    start : tuple of int
        Index of the first voxel.
    """
    extent = [
        edge for at, n in zip(start, array_ijk.shape, strict=True) for edge in (at, at + n - 1)
    ]
    image.SetExtent(extent)
    values = np.ascontiguousarray(kji_from_ijk(array_ijk)).reshape(-1)
    image.GetPointData().SetScalars(numpy_to_vtk(values, deep=True))


def array_to_matrix(array: np.ndarray) -> Any:
    """Return a (4, 4) array as a vtkMatrix4x4."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(np.asarray(array, dtype=float).ravel().tolist())
    return matrix


def matrix_to_array(matrix: Any) -> np.ndarray:
    """Return a vtkMatrix4x4 as a (4, 4) array."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def _voxels(volume_node: Any) -> np.ndarray:
    """Return a KJI view of the voxels of a node."""
    image = volume_node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None:
        raise SceneError(f"{volume_node.GetName()} holds no voxels; load or choose another volume.")
    if image.GetNumberOfScalarComponents() != 1:
        raise SceneError(
            f"{volume_node.GetName()} holds {image.GetNumberOfScalarComponents()} numbers a voxel; "
            "choose a scan with one."
        )
    i, j, k = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(k, j, i)


def _region(shape: tuple[int, ...], ijk_to_ras: np.ndarray, roi_node: Any) -> Slices:
    if roi_node is None:
        i, j, k = (slice(0, n) for n in shape)
        return i, j, k
    return crop_box(shape, ijk_to_ras, _roi_corners(roi_node))


def _roi_corners(roi_node: Any) -> np.ndarray:
    """Return the corners of a region in the world, (8, 3)."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(roi_node.GetObjectToWorldMatrix())
    return box_corners(roi_node.GetSize(), matrix_to_array(matrix))
