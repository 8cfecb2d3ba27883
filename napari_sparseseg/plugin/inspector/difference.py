"""Where a result differs from what it is compared with: a layer, and the way there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from napari_sparseseg.analysis.compare import ADDED, CHANGED, LOST, SAME
from napari_sparseseg.analysis.patches import TokenIndex, middle_voxel
from napari_sparseseg.colors import DIFFERENCES
from napari_sparseseg.plugin.geometry import transform_of
from napari_sparseseg.plugin.layers import SEGMENTATION, ResultLayers

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Labels

    from napari_sparseseg.analysis.inspection import Inspection
    from napari_sparseseg.plugin.geometry import Scan
    from napari_sparseseg.plugin.inspector.comparing import Compared
    from napari_sparseseg.plugin.shown import Shown

ROLE = "difference"
KINDS = dict(zip((ADDED, LOST, CHANGED), ("added", "lost", "changed"), strict=True))
"""Names of the values of a difference map."""

COLORS = dict(zip(KINDS, DIFFERENCES, strict=True))
_OPACITY = 0.8


class DifferenceLayer(QObject):
    """The layer of the voxels that were added, lost or changed; there is one, or none.

    Attributes
    ----------
    visibility : Signal(bool)
        The user showed it, hid it or deleted it in napari's own list.

    Parameters
    ----------
    viewer : napari.Viewer
        Where it goes.
    """

    visibility = Signal(bool)

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._layer: Labels | None = None
        self._result: ResultLayers | None = None
        self._visible = True
        viewer.layers.events.removed.connect(self._on_removed)

    def show(self, image: Image, shown: Shown, compared: Compared) -> None:
        """Show the differences of a comparison, in place of those before.

        Parameters
        ----------
        image : Image
            The layer that was segmented.
        shown : Shown
            What is shown of it; the contours of the segmentation stay on top.
        compared : Compared
            The comparison.
        """
        from napari.layers import Labels
        from napari.utils import DirectLabelColormap

        self.remove()
        clear = "transparent"
        known: dict[int | None, str] = {None: clear, SAME: clear}
        known.update(COLORS.items())
        layer = Labels(
            compared.difference,
            name=f"{image.name} {ROLE}",
            visible=self._visible,
            opacity=_OPACITY,
            blending="translucent",
            colormap=DirectLabelColormap(color_dict=known),
            features={"index": [SAME, *KINDS], "difference": ["none", *KINDS.values()]},
            metadata=_metadata(image, shown.request.scan, compared.inspection),
            **transform_of(image),
        )
        layer.editable = False
        layer.events.visible.connect(self._on_visible)
        self._layer, self._result = layer, shown.layers
        self._insert(layer, shown.layers)

    def set_visible(self, visible: bool) -> None:
        """Show or hide the layer, and those to come; one that was deleted comes back."""
        self._visible = visible
        layer, result = self._layer, self._result
        if layer is None or result is None:
            return
        if visible and layer not in self._viewer.layers:
            self._insert(layer, result)
        layer.visible = visible

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        layer, self._layer = self._layer, None
        if layer is not None:
            layer.events.visible.disconnect(self._on_visible)
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def release(self) -> None:
        """Take the layer out, and follow the viewer no more."""
        self.remove()
        self._viewer.layers.events.removed.disconnect(self._on_removed)

    def _insert(self, layer: Labels, result: ResultLayers) -> None:
        """Put the layer below the contours of the segmentation; what is selected stays."""
        layers = self._viewer.layers
        selected = list(layers.selection)
        top = SEGMENTATION in result
        layers.insert(layers.index(result[SEGMENTATION]) if top else len(layers), layer)
        layers.selection = selected

    def _on_visible(self, event: Any = None) -> None:
        if self._layer is not None:
            self._visible = self._layer.visible
            self.visibility.emit(self._visible)

    def _on_removed(self, event: Any) -> None:
        if event.value is self._layer:
            self._visible = False
            self.visibility.emit(False)


def largest_difference(
    inspection: Inspection, structure: int
) -> tuple[int, NDArray[np.float64]] | None:
    """Find the token in which most voxels of a structure differ.

    Parameters
    ----------
    inspection : Inspection
        A comparison.
    structure : int
        Its class.

    Returns
    -------
    token : int
        Its place in the flattened token grid.
    point : ndarray
        ``(3,)`` RAS mm of the voxel nearest the centre of those that differ in it.

    None is returned if no voxel differs.
    """
    assert inspection.other is not None
    result = inspection.result
    mine, theirs = result.labels.data, inspection.other.data
    differs = (mine == structure) != (theirs == structure)
    index = TokenIndex.of(result.trace.grid, result.labels)
    counts = index.count(differs)
    if not counts.any():
        return None
    token = int(counts.argmax())
    box = index.box(token)
    affine = result.labels.affine
    return token, affine[:3, :3] @ middle_voxel(differs[box], box) + affine[:3, 3]


def _metadata(image: Image, scan: Scan, inspection: Inspection) -> dict[str, Any]:
    """Say where the layer lies in the patient, for saving it, and where it comes from."""
    facts = {
        "role": ROLE,
        "image": image.name,
        "report": inspection.result.report,
        "compared_with": inspection.other_title,
    }
    return {"affine": scan.affine, "source_affine": scan.source_affine, "sparseseg": facts}
