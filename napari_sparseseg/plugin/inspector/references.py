"""Labels layers as references: true classes on the grid of the scan that was segmented."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sparseseg.errors import InputError
from napari_sparseseg.plugin.geometry import transform_of
from napari_sparseseg.plugin.layers import is_result
from napari_sparseseg.plugin.writers import source_volume
from napari_sparseseg.volume import Volume

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Labels

    from napari_sparseseg.plugin.geometry import Scan


def reference_layers(viewer: napari.Viewer) -> list[Labels]:
    """Return the labels layers that are no result of ours."""
    from napari.layers import Labels

    return [x for x in viewer.layers if isinstance(x, Labels) and not is_result(x)]


def reference_of(layer: Labels, image: Image, scan: Scan) -> Volume:
    """Return the classes of a labels layer, placed in the patient.

    Parameters
    ----------
    layer : Labels
        The true classes. One that knows no affine to the patient but lies on the image voxel by
        voxel, as one painted in napari does, takes the place of the scan.
    image : Image
        The layer that was segmented.
    scan : Scan
        What it was when it was segmented.

    Raises
    ------
    InputError
        If it is not 3-D.
    """
    data = np.asarray(layer.data[0] if layer.multiscale else layer.data)
    if data.ndim != 3:
        raise InputError(f"{layer.name} has {data.ndim} dimensions; choose 3-D labels.")
    metadata = dict(layer.metadata)
    if "affine" not in metadata and _on(layer, data.shape, image, scan):
        metadata |= {"affine": scan.affine, "source_affine": scan.source_affine}
    return source_volume(data, {**transform_of(layer), "name": layer.name, "metadata": metadata})


def _on(layer: Labels, shape: tuple[int, ...], image: Image, scan: Scan) -> bool:
    """Tell whether the voxels of a layer are those of the image."""
    if shape != tuple(scan.data.shape):
        return False
    corners: Any = [np.zeros(3), *np.diag(shape)]
    return all(
        np.allclose(layer.data_to_world(corner), image.data_to_world(corner)) for corner in corners
    )
