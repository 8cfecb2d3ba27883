"""One change of the scene: the nodes of a result are made or filled; all of them, or none is made.

Each top node of a result (segmentation, token map volume, table) says by an attribute what it is
and by a reference which volume it is of, so that it is found again in a scene that was loaded. The
displays, colours and legends hang on these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from SparseSegLib.colors import (
    describe,
    fill_colors,
    has_shades,
    palette_of,
    set_range,
    stored_values,
)
from SparseSegLib.geometry import cropped_affine, token_ijk_to_ras
from SparseSegLib.segments import fill_segmentation
from SparseSegLib.tables import fill_table
from SparseSegLib.volumes import Source, fill_volume, node_affine

if TYPE_CHECKING:
    from types import TracebackType

    from SparseSegLib.answers import Grid, RunAnswer, TokenMap

ROLE, STAGE = "SparseSeg.Role", "SparseSeg.Stage"
"""Attributes: "segmentation", "table", "colors" or the kind of a map; and the stage of a map."""
SCAN, OWN_COLORS = "SparseSeg.Scan", "SparseSeg.Colors"
"""Roles of references: the volume that was segmented, and the colour table made for a map."""
_LEGEND_SIZE = 0.3, 0.3  # of a slice view: its text can be read
_LEGEND_SHADE = 0.6  # behind the text, which is white as much of a scan is
SEGMENTATION, TABLE, COLORS = "segmentation", "table", "colors"


class Writing:
    """A change of the result of one volume; used in a ``with``, which takes it back on failure.

    Parameters
    ----------
    scene : vtkMRMLScene
        The scene.
    color_logic : vtkSlicerColorLogic
        It makes the legends.
    volume_node : vtkMRMLScalarVolumeNode
        The volume.
    source : Source
        What the engine got of it.
    """

    def __init__(self, scene: Any, color_logic: Any, volume_node: Any, source: Source) -> None:
        self._scene = scene
        self._color_logic = color_logic
        self._volume = volume_node
        self._source = source
        self._made: list[Any] = []

    def __enter__(self) -> Writing:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if error is not None:
            for node in self._made:
                remove_node(self._scene, node)

    def labels(self, answer: RunAnswer, node_id: str) -> str:
        """Fill the segmentation, or make it, and return its ID."""
        node = self._node(node_id, "vtkMRMLSegmentationNode", SEGMENTATION, "segmentation")
        if node.GetDisplayNode() is None:
            node.CreateDefaultDisplayNodes()
            # a fill would hide the map below it
            node.GetDisplayNode().SetVisibility2DFill(False)
        # first the transform: the geometry of the reference is taken relative to it
        node.SetAndObserveTransformNodeID(self._volume.GetTransformNodeID())
        node.SetReferenceImageGeometryParameterFromVolumeNode(self._volume)
        start = tuple(along.start for along in self._source.slices)
        fill_segmentation(node, answer.labels, answer.structures, node_affine(self._volume), start)
        return node.GetID()

    def map(self, grid: Grid, token_map: TokenMap, node_id: str) -> str:
        """Fill the volume of a token map, its colours and its legend, and return its ID."""
        shades = has_shades(token_map)
        class_name = "vtkMRMLScalarVolumeNode" if shades else "vtkMRMLLabelMapVolumeNode"
        node = self._node(node_id, class_name, token_map.kind, token_map.title)
        if token_map.stage is not None:
            node.SetAttribute(STAGE, str(token_map.stage))
        node.SetDescription(token_map.about)
        node.SetAndObserveTransformNodeID(self._volume.GetTransformNodeID())
        here = cropped_affine(node_affine(self._volume), self._source.slices)
        fill_volume(
            node, stored_values(token_map), token_ijk_to_ras(grid, self._source.affine, here)
        )
        self._draw(node, token_map)
        return node.GetID()

    def table(self, answer: RunAnswer, node_id: str) -> str:
        """Fill the table of figures, or make it, and return its ID."""
        node = self._node(node_id, "vtkMRMLTableNode", TABLE, "results")
        fill_table(node, answer)
        return node.GetID()

    def _node(self, node_id: str, class_name: str, role: str, title: str) -> Any:
        """Return a top node of the result, made if it is not there."""
        node = self._scene.GetNodeByID(node_id)
        if node is not None and node.IsA(class_name):
            return node
        node = self._make(class_name, f"{self._source.name} {title}", role)
        node.SetNodeReferenceID(SCAN, self._volume.GetID())
        self._put_beside_volume(node)
        return node

    def _put_beside_volume(self, node: Any) -> None:
        """Put a node where the volume is in the tree of patients and studies, if it is in it."""
        hierarchy = self._scene.GetSubjectHierarchyNode()
        item, sibling = map(hierarchy.GetItemByDataNode, (node, self._volume))
        if item and sibling:
            hierarchy.SetItemParent(item, hierarchy.GetItemParent(sibling))

    def _draw(self, node: Any, token_map: TokenMap) -> None:
        """Give a map its colours and its legend, which is hidden at first."""
        if node.GetDisplayNode() is None:
            node.CreateDefaultDisplayNodes()
        # only our own table is written to: the user may have chosen another for the display
        display, colors = node.GetDisplayNode(), node.GetNodeReference(OWN_COLORS)
        if colors is not None:
            fill_colors(colors, palette_of(token_map))
        else:
            name = f"{self._source.name} {token_map.title} colors"
            colors = self._make("vtkMRMLColorTableNode", name, COLORS)
            fill_colors(colors, palette_of(token_map))
            node.SetNodeReferenceID(OWN_COLORS, colors.GetID())
            display.SetAndObserveColorNodeID(colors.GetID())
        if has_shades(token_map):
            display.SetInterpolate(0)
            set_range(display, *token_map.range)
        describe(self._legend(node), token_map)

    def _legend(self, node: Any) -> Any:
        legend = self._color_logic.GetColorLegendDisplayNode(node)
        if legend is None:
            legend = self._color_logic.AddDefaultColorLegendDisplayNode(node)
            legend.SetSize(*_LEGEND_SIZE)
            legend.GetLabelTextProperty().SetBackgroundOpacity(_LEGEND_SHADE)
            legend.SetVisibility(False)
        return legend

    def _make(self, class_name: str, name: str, role: str) -> Any:
        node = self._scene.AddNewNodeByClass(class_name, name)
        self._made.append(node)
        node.SetAttribute(ROLE, role)
        return node


def remove_node(scene: Any, node: Any) -> None:
    """Remove a top node of a result and all that hangs on it, which Slicer would leave behind."""
    if node is None or node.GetScene() is not scene:
        return
    colors = node.GetNodeReference(OWN_COLORS)
    storages = [user.GetStorageNode() for user in (node, colors) if user is not None]
    displays = []
    if node.IsA("vtkMRMLDisplayableNode"):
        displays = [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())]
    scene.RemoveNode(node)
    # the displays before their colours, which they would miss
    for other in (*displays, colors, *storages):
        if other is not None:
            scene.RemoveNode(other)
