"""Engine results as napari layers: made once for each image, then updated in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.plugin import maps
from napari_sparseseg.plugin.geometry import Scan, TokenPlacement, transform_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer
    from napari.utils import DirectLabelColormap

    from napari_sparseseg.segmenter import Segmentation

SEGMENTATION, TOKENS = "segmentation", "tokens"
ROLES = (maps.IMPORTANCE, maps.KEPT, maps.DEPTH, TOKENS, SEGMENTATION)
"""The layers of a result, from the bottom up."""

_IMPORTANCE_OPACITY = 0.5
_CONTOUR = 1  # voxels: at two, small structures are all line


def is_result(layer: Any) -> bool:
    """Tell whether a layer shows a result of ours, so that it is not offered as a scan."""
    return "sparseseg" in layer.metadata


class ResultLayers:
    """The layers that show the result of one image.

    Attributes
    ----------
    result : Segmentation or None
        What they show.
    map : str
        The map that is visible, one of :data:`maps.MAPS`.
    stage : int
        Stage, from 1, whose importance is shown.

    Parameters
    ----------
    viewer : ViewerModel
        Where to add them.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layers: dict[str, Layer] = {}
        self._ahead = False
        self.result: Segmentation | None = None
        self.map = maps.KEPT
        self.stage = 1

    def __getitem__(self, role: str) -> Any:
        """Return the layer of a role (see :data:`ROLES`), of class Image or Labels."""
        return self._layers[role]

    def __contains__(self, role: str) -> bool:
        """Tell whether the layer of a role is in the viewer."""
        layer = self._layers.get(role)
        return layer is not None and layer in self._viewer.layers

    def show(self, image: Image, scan: Scan, result: Segmentation) -> None:
        """Show a result: fill the layers that are there, add those that are not.

        Parameters
        ----------
        image : Image
            The layer that was segmented; the new layers lie on it.
        scan : Scan
            What was segmented.
        result : Segmentation
            What came out.
        """
        first_time = self.result is None
        trace = result.trace
        self.result, self._ahead = result, False
        self.stage = min(self.stage, len(trace.stages))
        self._ranks = trace.percentile()
        self._placement = TokenPlacement.of(trace.grid, scan.affine)
        on_image = transform_of(image)
        on_tokens = self._placement.transform(on_image)
        for role, data in self._contents(scan, result).items():
            place = on_image if role == SEGMENTATION else on_tokens
            place = {**place, "metadata": self._metadata(role, image, scan, result)}
            self._fill(role, data, place, image.name)
        self._describe(result)
        if first_time:
            self._viewer.layers.selection.active = self._layers[TOKENS]

    def preview(self, states: NDArray[np.uint8]) -> None:
        """Show a map in the values of :func:`maps.preview_map` in place of the kept tokens."""
        self._ahead = True
        if maps.KEPT in self:
            self._layers[maps.KEPT].data = self._placement.arrange(states)

    def restore(self) -> None:
        """Take a preview back: show the tokens that the result kept."""
        if self._ahead and self.result is not None:
            self.preview(maps.kept_map(self.result.trace))
        self._ahead = False

    def choose(self, which: str, stage: int) -> None:
        """Make one map visible, or none, and show importance at one stage.

        Parameters
        ----------
        which : str
            One of :data:`maps.MAPS`.
        stage : int
            From 1.
        """
        self.map = which
        if stage != self.stage:
            self.stage = stage
            self._show_stage()
        for role in maps.MAPS:
            if role in self:
                self._layers[role].visible = role == which

    def token_at(self, world: tuple[float, ...]) -> dict[str, Any] | None:
        """Return the row of :func:`maps.token_table` for the token at a place in napari's world."""
        if TOKENS not in self:
            return None
        layer = self[TOKENS]
        label = _value(layer, world)
        return layer.features.iloc[label - 1].to_dict() if label else None

    def structure_at(self, world: tuple[float, ...]) -> str | None:
        """Return the name of the structure at a place in napari's world, None in background."""
        if SEGMENTATION not in self or self.result is None:
            return None
        label = _value(self[SEGMENTATION], world)
        return self.result.classes[label] if 0 < label < len(self.result.classes) else None

    def _contents(self, scan: Scan, result: Segmentation) -> dict[str, NDArray[Any]]:
        trace, arrange = result.trace, self._placement.arrange
        return {
            maps.IMPORTANCE: arrange(self._ranks[self.stage - 1]),
            maps.KEPT: arrange(maps.kept_map(trace)),
            maps.DEPTH: arrange(trace.depth),
            TOKENS: arrange(maps.token_ids(trace)),
            # a copy: what the user paints must not change the result
            SEGMENTATION: scan.on_layer(result.labels.data).copy(order="C"),
        }

    def _fill(self, role: str, data: NDArray[Any], place: dict[str, Any], name: str) -> None:
        if role not in self:
            self._layers[role] = self._make(role, data, place, f"{name} {role}")
            self._viewer.add_layer(self._layers[role])
            return
        layer = self._layers[role]
        layer.data = data
        for attribute, value in place.items():
            if attribute == "metadata" or not _same(getattr(layer, attribute), value):
                setattr(layer, attribute, value)

    def _make(self, role: str, data: NDArray[Any], place: dict[str, Any], name: str) -> Layer:
        from napari.layers import Image, Labels

        look = {"name": name, "visible": role not in maps.MAPS or role == self.map}
        if role == maps.IMPORTANCE:
            look |= {
                "colormap": "inferno", "contrast_limits": (0, 1), "interpolation2d": "nearest",
                "blending": "translucent", "opacity": _IMPORTANCE_OPACITY,
            }  # fmt: skip
            layer = Image(data, **look, **place)
            layer.colorbar.visible = True
            return layer
        labels = Labels(data, **look, **place, opacity=1.0, blending="translucent")
        if role == SEGMENTATION:
            labels.contour = _CONTOUR
        else:
            labels.editable = False
        return labels

    def _metadata(
        self, role: str, image: Image, scan: Scan, result: Segmentation
    ) -> dict[str, Any]:
        """Say where a layer lies in the patient, for saving it, and where it comes from."""
        facts = {"role": role, "image": image.name, "report": result.report}
        if role == SEGMENTATION:
            place = {"affine": scan.affine, "source_affine": scan.source_affine}
        else:
            grid = result.trace.grid
            place = {"affine": self._placement.affine(scan.affine), "source_affine": grid.affine}
        return {**place, "sparseseg": facts}

    def _describe(self, result: Segmentation) -> None:
        """Set what the result itself fixes: colours and tables."""
        trace = result.trace
        segmentation: Labels = self[SEGMENTATION]
        segmentation.colormap = _colormap(dict(enumerate(result.colors[1:], start=1)))
        segmentation.features = {
            "index": np.arange(len(result.classes)), "structure": np.array(result.classes),
        }  # fmt: skip
        states = maps.preview_legend(trace.pruned_stage, len(trace.stages))
        states += maps.kept_legend(trace)
        self[maps.KEPT].colormap = _colormap({entry.value: entry.color for entry in states})
        depths = maps.depth_legend(trace)
        self[maps.DEPTH].colormap = _colormap({entry.value: entry.color for entry in depths})
        # Clear colours, not opacity 0: napari reads the value under the pointer either way, but
        # with several layers selected it leaves out those of opacity 0.
        self[TOKENS].colormap = _colormap({1: "transparent"})
        self._show_stage()

    def _show_stage(self) -> None:
        if self.result is None:
            return
        if maps.IMPORTANCE in self:
            self[maps.IMPORTANCE].data = self._placement.arrange(self._ranks[self.stage - 1])
        if TOKENS in self:
            self[TOKENS].features = maps.token_table(self.result.trace, self._ranks, self.stage)


def _colormap(colors: dict[int, str]) -> DirectLabelColormap:
    from napari.utils import DirectLabelColormap

    known: dict[int | None, str] = {None: "transparent", 0: "transparent"}
    known.update(colors.items())
    return DirectLabelColormap(color_dict=known)


def _value(layer: Labels, world: tuple[float, ...]) -> int:
    """Return the label at a place, 0 outside; ``get_value`` knows only the slice that is shown."""
    index = tuple(np.rint(layer.world_to_data(world)).astype(int))
    inside = all(0 <= i < n for i, n in zip(index, layer.data.shape, strict=True))
    return int(layer.data[index]) if inside else 0


def _same(here: Any, there: Any) -> bool:
    """Compare two values of one attribute of :data:`geometry.TRANSFORM`."""
    return np.array_equal(
        np.asarray(getattr(here, "affine_matrix", here)),
        np.asarray(getattr(there, "affine_matrix", there)),
    )
