"""From millimetres in the patient to napari's view, and the other way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

    from napari_sparseseg.plugin.geometry import Scan


def to_world(image: Image, scan: Scan, point: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return where a point of the patient lies in napari's world.

    Parameters
    ----------
    image : Image
        The layer that was segmented.
    scan : Scan
        What it was when it was segmented.
    point : ndarray
        ``(3,)`` RAS mm.
    """
    index = np.linalg.inv(scan.affine) @ [*point, 1.0]
    return np.asarray(image.data_to_world(index[:3]), dtype=np.float64)


def from_world(image: Image, scan: Scan, world: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the RAS millimetres of a point in napari's world."""
    return (scan.affine @ [*image.world_to_data(world), 1.0])[:3]


def show_place(viewer: napari.Viewer, world: NDArray[np.float64]) -> None:
    """Bring the slice of a point into view, and the point into the middle of the canvas.

    A layer of more dimensions gives the viewer leading axes that the point knows nothing of: they
    stay where they are.
    """
    leading = viewer.dims.ndim - len(world)
    for axis, value in enumerate(world, start=leading):
        viewer.dims.set_point(axis, float(value))
    center = list(viewer.scene.camera.center)
    for place, axis in enumerate(viewer.dims.displayed, start=3 - len(viewer.dims.displayed)):
        if axis >= leading:
            center[place] = float(world[axis - leading])
    viewer.scene.camera.center = tuple(center)
