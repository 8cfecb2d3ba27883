"""What the tests of the panel look for in the scene."""

from __future__ import annotations


def nodes_of(kind: str) -> list:
    import slicer

    scene = slicer.mrmlScene
    found = [scene.GetNthNodeByClass(n, kind) for n in range(scene.GetNumberOfNodesByClass(kind))]
    return [node for node in found if node.GetClassName() == kind]


def results() -> list[str]:
    """Name the nodes that results are made of."""
    import slicer

    scene = slicer.mrmlScene
    nodes = (scene.GetNthNode(number) for number in range(scene.GetNumberOfNodes()))
    return sorted(node.GetID() for node in nodes if node.GetAttribute("SparseSeg.Role"))


def overlaid() -> str | None:
    """Return what lies over the scan: categories in the label layer, shades in the foreground."""
    (view,) = nodes_of("vtkMRMLSliceCompositeNode")
    return view.GetLabelVolumeID() or view.GetForegroundVolumeID()
