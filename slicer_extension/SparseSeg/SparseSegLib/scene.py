"""Results of the engine in a Slicer scene; no Qt, and the scene is passed in.

A panel does this::

    colors = slicer.modules.colors.logic()
    writer = ResultWriter(slicer.mrmlScene, colors, slicer.util.RenderBlocker)
    source = read_volume(volume_node, roi_node)              # -> "open", then "run"
    nodes = writer.show(volume_node, source, answer, nodes)  # nodes: of the last run, or None
    writer.show_map(nodes, ("kept", None), opacity)          # None instead of a key: no map
    writer.show_3d(nodes, True)
    writer.remove(nodes)

``fingerprint(volume_node, roi_node) == source.fingerprint`` says that the engine has this very
volume already, so that a run needs no new ``open``. ``writer.find(volume_node)`` gives the nodes of
a result again after a scene was loaded. What cannot be shown is a SceneError, for the user to read.

Where results lie: in the space of the volume's own node and under the same parent transform, placed
by the voxels that they stand for. So they are right in RAS, they move with the volume when its
transform moves, and they are right too when the transform was moved, hardened or taken away while
the engine worked. A result already shown follows the transform node as any segmentation does: if
the volume alone is hardened or put elsewhere later, the next ``show`` or ``preview`` follows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from SparseSegLib.errors import SceneError
from SparseSegLib.overlay import Overlay
from SparseSegLib.segments import show_surface
from SparseSegLib.volumes import Source, fingerprint, read_volume
from SparseSegLib.writing import (
    COLORS,
    ROLE,
    SCAN,
    SEGMENTATION,
    STAGE,
    TABLE,
    Writing,
    remove_node,
)

if TYPE_CHECKING:
    from SparseSegLib.answers import Grid, RunAnswer, TokenMap

__all__ = [
    "OPACITY", "MapKey", "ResultNodes", "ResultWriter", "SceneError", "Source", "fingerprint",
    "read_volume",
]  # fmt: skip

MapKey = tuple[str, int | None]
"""Kind and stage of a map, ``TokenMap.key``."""

OPACITY = {"categories": 1.0, "shades": 0.5}
"""By ``TokenMap.type``, at which a map is best seen at first: categories have clear colours."""


@dataclass
class ResultNodes:
    """The nodes of one volume's result, by ID; those that the user removed are made again.

    Attributes
    ----------
    volume : str
        The volume that was segmented.
    segmentation, table : str
        The structures, and the figures of the run; "" before the first run.
    maps : dict
        The token map volume of each kind and stage, in the order in which they are offered.
    """

    volume: str
    segmentation: str = ""
    table: str = ""
    maps: dict[MapKey, str] = field(default_factory=dict)


class ResultWriter:
    """Writes results into a scene, and fills the same nodes again on the next run.

    Parameters
    ----------
    scene : vtkMRMLScene
        Where to.
    color_logic : vtkSlicerColorLogic
        ``slicer.modules.colors.logic()``; it makes the legends.
    blocker : callable
        Gives the context in which nodes are changed, ``slicer.util.RenderBlocker`` in Slicer.
    """

    def __init__(
        self,
        scene: Any,
        color_logic: Any,
        blocker: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._scene = scene
        self._color_logic = color_logic
        self._blocker = blocker
        self._overlay = Overlay(scene)

    def find(self, volume_node: Any) -> ResultNodes | None:
        """Return the result of a volume that the scene holds, also after it was loaded."""
        nodes = ResultNodes(volume_node.GetID())
        for node in self._owned(nodes.volume):
            role, stage = node.GetAttribute(ROLE), node.GetAttribute(STAGE)
            if role == SEGMENTATION:
                nodes.segmentation = nodes.segmentation or node.GetID()
            elif role == TABLE:
                nodes.table = nodes.table or node.GetID()
            else:
                nodes.maps.setdefault((role, int(stage) if stage else None), node.GetID())
        return nodes if nodes.segmentation or nodes.table or nodes.maps else None

    def show(
        self, volume_node: Any, source: Source, answer: RunAnswer, nodes: ResultNodes | None = None
    ) -> ResultNodes:
        """Show the answer of a run.

        Parameters
        ----------
        volume_node : vtkMRMLScalarVolumeNode
            The volume that was segmented.
        source : Source
            What the engine got of it.
        answer : RunAnswer
            What it answered.
        nodes : ResultNodes, optional
            The result that the new one takes the place of; its nodes are filled again, so what the
            user set on them stays, and maps that the new answer lacks are removed.

        Returns
        -------
        ResultNodes
            The nodes that show it.

        Raises
        ------
        SceneError
            If the volume is gone or has another shape now, or the answer does not fit it. The
            scene is as before then.
        """
        self._check(volume_node, source, answer.grid, answer.maps)
        if answer.labels.shape != source.array_ijk.shape:
            raise _misfit(source)
        before, after = nodes or ResultNodes(""), ResultNodes(volume_node.GetID())
        with self._blocker(), self._writing(volume_node, source) as writing:
            after.segmentation = writing.labels(answer, before.segmentation)
            for token_map in answer.maps:
                old = before.maps.get(token_map.key, "")
                after.maps[token_map.key] = writing.map(answer.grid, token_map, old)
            after.table = writing.table(answer, before.table)
            self._remove_maps(before.maps[key] for key in before.maps.keys() - after.maps.keys())
        return after

    def preview(
        self,
        volume_node: Any,
        source: Source,
        grid: Grid,
        token_map: TokenMap,
        nodes: ResultNodes | None = None,
    ) -> ResultNodes:
        """Show one map ahead of its run: fill the map of the same kind and nothing else.

        Parameters
        ----------
        volume_node, source, nodes
            As for :meth:`show`.
        grid : Grid
            Where the map lies, from ``open``.
        token_map : TokenMap
            The answer of ``preview``.

        Returns
        -------
        ResultNodes
            ``nodes``, with the map.

        Raises
        ------
        SceneError
            As :meth:`show`.
        """
        self._check(volume_node, source, grid, (token_map,))
        shown = nodes or ResultNodes(volume_node.GetID())
        with self._blocker(), self._writing(volume_node, source) as writing:
            old = shown.maps.get(token_map.key, "")
            shown.maps[token_map.key] = writing.map(grid, token_map, old)
        return shown

    def show_map(self, nodes: ResultNodes, key: MapKey | None, opacity: float = 1.0) -> None:
        """Lay one map over the scan in every slice view, with its legend, or none.

        Parameters
        ----------
        nodes : ResultNodes
            A result.
        key : tuple or None
            Kind and stage of the map; None, or a map that is not there, shows none and gives the
            views back what they showed.
        opacity : float
            From 0 to 1; :data:`OPACITY` says where to start.
        """
        maps = set(nodes.maps.values())
        wanted = self._scene.GetNodeByID("" if key is None else nodes.maps.get(key, ""))
        with self._blocker():
            if wanted is None:
                self._overlay.hide(maps)
            else:
                self._overlay.show(wanted, opacity, maps, nodes.volume)
            # after the layers: a view draws the legend of a volume that it shows already
            for node in filter(None, map(self._scene.GetNodeByID, maps)):
                self._show_legend(node, node is wanted)

    def show_3d(self, nodes: ResultNodes, shown: bool) -> None:
        """Show the segments in 3D, made on demand; they follow each new run until hidden."""
        segmentation = self._scene.GetNodeByID(nodes.segmentation)
        if segmentation is not None:
            with self._blocker():
                show_surface(segmentation, shown)

    def remove(self, nodes: ResultNodes) -> None:
        """Remove a result, whole: also its displays, colours and legends."""
        with self._blocker():
            self._remove_maps(nodes.maps.values())
            for node_id in (nodes.segmentation, nodes.table):
                remove_node(self._scene, self._scene.GetNodeByID(node_id))

    def _writing(self, volume_node: Any, source: Source) -> Writing:
        return Writing(self._scene, self._color_logic, volume_node, source)

    def _owned(self, volume_id: str) -> Iterable[Any]:
        """Give the top nodes of a volume's results."""
        for number in range(self._scene.GetNumberOfNodes()):
            node = self._scene.GetNthNode(number)
            role = node.GetAttribute(ROLE)
            if role not in (None, COLORS) and node.GetNodeReferenceID(SCAN) == volume_id:
                yield node

    def _show_legend(self, node: Any, shown: bool) -> None:
        legend = self._color_logic.GetColorLegendDisplayNode(node)
        if legend is not None:
            legend.SetVisibility(shown)

    def _remove_maps(self, node_ids: Iterable[str]) -> None:
        gone = set(node_ids)
        self._overlay.hide(gone)
        for node_id in gone:
            remove_node(self._scene, self._scene.GetNodeByID(node_id))

    def _check(
        self, volume_node: Any, source: Source, grid: Grid, maps: Iterable[TokenMap]
    ) -> None:
        """Refuse, before anything is changed, what cannot be shown."""
        if volume_node.GetScene() is not self._scene:
            raise SceneError(
                f"{source.name} was removed from the scene while it was segmented; load it again."
            )
        image = volume_node.GetImageData()
        if image is None or image.GetDimensions() != source.shape:
            raise SceneError(
                f"{source.name} has another size than when it was sent; segment it again."
            )
        if any(token_map.data.shape != tuple(grid.shape) for token_map in maps):
            raise _misfit(source)


def _misfit(source: Source) -> SceneError:
    return SceneError(f"The engine's answer does not fit {source.name}; segment it again.")
