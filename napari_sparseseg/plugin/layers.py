"""Engine results as napari layers: made once for each image, then updated in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg import colors, maps
from napari_sparseseg.plugin.geometry import TRANSFORM, Scan, transform_of
from napari_sparseseg.plugin.sight import first_met
from napari_sparseseg.plugin.token_placement import TokenPlacement

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer
    from napari.utils import DirectLabelColormap

    from napari_sparseseg.session import Segmentation

SEGMENTATION, TOKENS = "segmentation", "tokens"
ROLES = ("importance", "dependencies", "kept", "depth", "reactivations", TOKENS, SEGMENTATION)
"""The layers that a result can have, from the bottom up; of the maps those that its trace has."""

_SHADES = {
    "colormap": colors.SHADES, "contrast_limits": (0, 1), "interpolation2d": "nearest",
    "blending": "translucent", "opacity": colors.SHADES_OPACITY,
}  # fmt: skip
_CONTOUR = 1  # voxels: at two, small structures are all line
_KEPT_OPACITY = 0.5  # so that the contours of a kept result can be told from those of the new one


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
        The map that is visible, one of :data:`maps.KINDS` or :data:`maps.NONE`.
    stage : int
        Stage, from 1, whose importance is shown.
    token : int
        Token whose dependencies are shown, its place in the flattened token grid.

    Parameters
    ----------
    viewer : ViewerModel
        Where to add them.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layers: dict[str, Layer] = {}
        self._ahead = False
        self._picked = False
        self.result: Segmentation | None = None
        self.map: str = "kept"
        self.stage = 1
        self.token = 0
        self._image: Image | None = None

    def __getitem__(self, role: str) -> Any:
        """Return the layer of a role (see :data:`ROLES`), of class Image or Labels."""
        return self._layers[role]

    def __contains__(self, role: str) -> bool:
        """Tell whether the layer of a role is in the viewer."""
        layer = self._layers.get(role)
        return layer is not None and layer in self._viewer.layers

    def show(self, image: Image, scan: Scan, result: Segmentation) -> None:
        """Show a result: fill the layers that are there, add and remove what its trace asks for.

        Parameters
        ----------
        image : Image
            The layer that was segmented; the new layers lie on it.
        scan : Scan
            What was segmented.
        result : Segmentation
            What came out.
        """
        before, selected = self.result, list(self._viewer.layers.selection)
        trace = result.trace
        self.result, self._ahead = result, False
        self._scores = maps.scores(trace)
        self._placement = TokenPlacement.of(trace.grid, scan.affine)
        self._follow(image)
        self.stage = min(self.stage, max(1, len(trace.stages)))
        self._remove_all_but([view.kind for view in trace.views])
        on_image = transform_of(image)
        on_tokens = self._placement.transform(on_image)
        self._fill(TOKENS, maps.token_ids(trace), on_tokens, image, scan)
        if before is None or before.trace.grid.shape != trace.grid.shape:
            self._picked = False
            self.token = self._nearest_token()
        for view in trace.views:
            self._fill(view.kind, self._values(view.kind), on_tokens, image, scan)
        self._fill(SEGMENTATION, result.labels.data, on_image, image, scan)
        self._describe(result)
        selected = [layer for layer in selected if layer in self._viewer.layers]
        if before is None or not selected:
            selected = [self._layers[TOKENS]]
        self._viewer.layers.selection = selected

    def _follow(self, image: Image) -> None:
        """Lie on the image from now on, wherever the user moves it in napari."""
        if image is self._image:
            return
        self._image = image
        for name in TRANSFORM:
            getattr(image.events, name).connect(self._on_moved)

    def _on_moved(self, event: Any = None) -> None:
        image = self._image
        if image is None or image not in self._viewer.layers:
            return
        on_image = transform_of(image)
        on_tokens = self._placement.transform(on_image)
        for role, layer in self._layers.items():
            if role in self:
                _place(layer, on_image if role == SEGMENTATION else on_tokens)

    def keep(self, title: str) -> None:
        """Leave the present layers alone from now on; the next result makes new ones.

        Parameters
        ----------
        title : str
            Added to their names.
        """
        self.restore()
        for role in ROLES:
            if role in self and role != TOKENS:
                layer = self._layers.pop(role)
                layer.name = f"{layer.name} ({title})"
                layer.visible = layer.visible and role == SEGMENTATION
                layer.opacity *= _KEPT_OPACITY if role == SEGMENTATION else 1

    def preview(self, states: NDArray[np.uint8]) -> None:
        """Show a map in the values of :func:`maps.preview_map` in place of the kept tokens."""
        self._ahead = True
        if "kept" in self:
            self._layers["kept"].data = self._placement.arrange(states)

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
            One of :data:`maps.KINDS` or :data:`maps.NONE`.
        stage : int
            From 1.
        """
        entered, self.map = which != self.map, which
        if stage != self.stage:
            self.stage = stage
            self._show_stage()
        for kind in maps.KINDS:
            if kind in self:
                self._layers[kind].visible = kind == which
        if entered and not self._picked and TOKENS in self:
            self.token = self._nearest_token()  # the user may have gone to another slice
            self._show_token()
        self._mark_token()

    def pick(self, world: tuple[float, ...]) -> bool:
        """Choose the token at a place in napari's world; tell whether there is one."""
        label = _value(self[TOKENS], world) if TOKENS in self else 0
        if label:
            self.look_at(label - 1)
        return bool(label)

    def look_at(self, token: int) -> None:
        """Choose the token whose dependencies are shown, its place in the flattened token grid."""
        self.token, self._picked = token, True
        self._show_token()
        self._mark_token()

    def token_at(self, world: tuple[float, ...]) -> dict[str, Any] | None:
        """Return the row of :func:`maps.token_table` for the token at a place in napari's world."""
        if TOKENS not in self:
            return None
        layer = self[TOKENS]
        label, rows = _value(layer, world), layer.features
        return rows.iloc[label - 1].to_dict() if 0 < label <= len(rows) else None

    def met_by(self, event: Any) -> tuple[float, ...] | None:
        """Return the place that a mouse event points at, in napari's world.

        In 3-D that is where the line of sight first meets a structure; None if it meets none.
        """
        if len(event.dims_displayed) == 2:
            return tuple(event.position)
        if SEGMENTATION not in self:
            return None
        layer = self[SEGMENTATION]
        return first_met(layer, event.position, event.view_direction, event.dims_displayed)

    def structure_at(self, world: tuple[float, ...]) -> str | None:
        """Return the name of the structure at a place in napari's world, None in background."""
        if SEGMENTATION not in self or self.result is None:
            return None
        label = _value(self[SEGMENTATION], world)
        return self.result.classes[label] if 0 < label < len(self.result.classes) else None

    def _values(self, kind: str) -> NDArray[Any]:
        assert self.result is not None
        return maps.values_of(self.result.trace, kind, self.stage, self.token, self._scores)

    def _remove_all_but(self, kinds: Sequence[str]) -> None:
        for kind in maps.KINDS:
            if kind not in kinds:
                if kind in self:
                    self._viewer.layers.remove(self._layers[kind])
                self._layers.pop(kind, None)

    def _fill(
        self, role: str, data: NDArray[Any], place: dict[str, Any], image: Image, scan: Scan
    ) -> None:
        # a copy of the labels: what the user paints must not change the result
        data = (
            scan.on_layer(data).copy(order="C")
            if role == SEGMENTATION
            else self._placement.arrange(data)
        )
        place = {**place, "metadata": self._metadata(role, image, scan)}
        if role not in self:
            layer = self._layers[role] = self._make(role, data, place, f"{image.name} {role}")
            above = [self._layers[r] for r in ROLES[ROLES.index(role) + 1 :] if r in self]
            layers = self._viewer.layers
            layers.insert(layers.index(above[0]) if above else len(layers), layer)
            return
        layer = self._layers[role]
        layer.data = data
        layer.metadata = place.pop("metadata")
        _place(layer, place)
        if role in maps.KINDS:
            layer.visible = role == self.map

    def _make(self, role: str, data: NDArray[Any], place: dict[str, Any], name: str) -> Layer:
        from napari.layers import Image, Labels

        look = {"name": name, "visible": role not in maps.KINDS or role == self.map}
        if role in maps.SHADED:
            layer = Image(data, **look, **_SHADES, **place)
            layer.colorbar.visible = True
            return layer
        labels = Labels(data, **look, **place, opacity=1.0, blending="translucent")
        if role == SEGMENTATION:
            labels.contour = _CONTOUR
        else:
            labels.editable = False
        return labels

    def _metadata(self, role: str, image: Image, scan: Scan) -> dict[str, Any]:
        """Say where a layer lies in the patient, for saving it, and where it comes from."""
        result = self.result
        assert result is not None
        facts = {"role": role, "image": image.name, "report": result.report}
        if role == SEGMENTATION:
            facts["classes"] = result.classes
            facts |= {key: image.metadata.get(key, "") for key in ("source", "part")}
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
        for kind in set(maps.KINDS) - set(maps.SHADED):
            if kind in self:
                entries = maps.legend_of(trace, kind)
                if kind == "kept":
                    ahead = maps.preview_legend(trace.left_stage, len(trace.stages), trace.fate)
                    entries = ahead + entries
                known = {entry.value: entry.color for entry in entries}
                # napari draws a negative value like 0 unless it has a colour of its own
                self[kind].colormap = _colormap({maps.AIR: "transparent", **known})
        self._mark_token()
        self._show_stage()

    def _show_stage(self) -> None:
        if self.result is None:
            return
        if "importance" in self:
            self["importance"].data = self._placement.arrange(self._values("importance"))
        if TOKENS in self:
            self[TOKENS].features = maps.token_table(self.result.trace, self._scores, self.stage)

    def _show_token(self) -> None:
        if "dependencies" in self:
            self["dependencies"].data = self._placement.arrange(self._values("dependencies"))

    def _mark_token(self) -> None:
        if TOKENS in self:
            # Clear colours, not opacity 0: napari reads the value under the pointer either way,
            # but with several layers selected it leaves out those of opacity 0.
            marked = {self.token + 1: colors.CHOSEN} if self.map == "dependencies" else {}
            self[TOKENS].colormap = _colormap(marked)

    def _nearest_token(self) -> int:
        """Choose the token nearest the middle of the slice that is shown."""
        assert self.result is not None
        layer, dims = self[TOKENS], self._viewer.dims
        middle = layer.extent.world.mean(axis=0)
        aside = list(dims.not_displayed)
        middle[aside] = np.asarray(dims.point)[aside]
        offset = np.indices(layer.data.shape).T - np.asarray(layer.world_to_data(middle))
        offset[..., aside] = 1000 * np.rint(offset[..., aside])  # first those in the slice
        distance = np.linalg.norm(offset * layer.scale, axis=-1).T
        ordered = np.empty(distance.size)
        ordered[layer.data.ravel() - 1] = distance.ravel()
        trace = self.result.trace
        return maps.nearest_attending(trace, ordered.reshape(trace.grid.shape))


def _colormap(known: dict[int, str]) -> DirectLabelColormap:
    from napari.utils import DirectLabelColormap

    colors: dict[int | None, str] = {None: "transparent", 0: "transparent"}
    colors.update(known.items())
    return DirectLabelColormap(color_dict=colors)


def _place(layer: Layer, place: Mapping[str, Any]) -> None:
    """Move a layer; what is as it should be is left alone, for each change draws all again."""
    for attribute, value in place.items():
        if not _same(getattr(layer, attribute), value):
            setattr(layer, attribute, value)


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
