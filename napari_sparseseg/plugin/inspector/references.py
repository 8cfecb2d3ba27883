"""Labels layers as references: true classes on the grid of the scan that was segmented."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, eq=False)
class Reference:
    """A labels layer as a reference.

    Attributes
    ----------
    data : array-like
        Its voxels as the layer holds them (maybe lazily), 3-D.
    meta : dict
        Its name, and where it lies; see :func:`writers.source_volume`.
    """

    data: Any
    meta: dict[str, Any]

    @classmethod
    def of(cls, layer: Labels, image: Image, scan: Scan) -> Reference:
        """Look at a labels layer; its voxels are neither read nor copied.

        Parameters
        ----------
        layer : Labels
            The true classes. One that knows no affine to the patient but lies on the image voxel
            by voxel, as one painted in napari does, takes the place of the scan.
        image : Image
            The layer that was segmented.
        scan : Scan
            What it was when it was segmented.

        Raises
        ------
        InputError
            If it is not 3-D.
        """
        data = layer.data[0] if layer.multiscale else layer.data
        shape = tuple(data.shape)
        if len(shape) != 3:
            raise InputError(f"{layer.name} has {len(shape)} dimensions; choose 3-D labels.")
        metadata = dict(layer.metadata)
        if "affine" not in metadata and _on(layer, shape, image, scan):
            metadata |= {"affine": scan.affine, "source_affine": scan.source_affine}
        return cls(data, {**transform_of(layer), "name": layer.name, "metadata": metadata})

    def volume(self) -> Volume:
        """Read the classes, placed in the patient: seconds for a large scan."""
        return source_volume(np.asarray(self.data), self.meta)


def _on(layer: Labels, shape: tuple[int, ...], image: Image, scan: Scan) -> bool:
    """Tell whether the voxels of a layer are those of the image."""
    if shape != tuple(scan.data.shape):
        return False
    corners: Any = [np.zeros(3), *np.diag(shape)]
    return all(
        np.allclose(layer.data_to_world(corner), image.data_to_world(corner)) for corner in corners
    )
