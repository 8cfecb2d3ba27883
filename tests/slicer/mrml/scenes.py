"""Scenes to test in, answers to show in them, and where things lie by plain arithmetic."""

from __future__ import annotations

from collections import Counter
from itertools import permutations, product
from types import SimpleNamespace
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from SparseSegLib.answers import Grid, LegendEntry, RunAnswer, Structure, TokenMap
from SparseSegLib.volumes import array_to_matrix, fill_volume, matrix_to_array

SHAPE = (12, 10, 14)
REPORT = {
    "notice": "Research use only, not for diagnosis.",
    "model": "brain-mr-stp",
    "sparsifier": "stp",
    "setting": {"name": "keep ratio", "value": 0.5},
    "device": "cpu",
    "precision": "float32",
    "tokens": {"total": 24, "air": 4, "kept": 10, "pruned": 10, "exited": 0, "reactivated": 0},
    "gmacs": {"run": 12.5, "dense": 20.25, "encoder": 2.0, "encoder_dense": 4.0},
    "seconds": {"total": 1.5, "network": 1.25},
    "peak_memory_mb": 512.4,
}
CODE = (
    "Segmentation category and type - DICOM master list~SCT^123037004^Anatomical Structure"
    "~SCT^{}~{}~Anatomic codes - DICOM master list~^^~^^"
)
HIPPOCAMPUS = CODE.format("5366008^Hippocampus", "^^")
PAROTID = CODE.format("45289007^Parotid gland", "SCT^7771000^Left")
STRUCTURES = (
    Structure(1, "hippocampus", "#ffd92e", HIPPOCAMPUS, 6, 0.006, 0.875),
    Structure(2, "left parotid", "#1fa35c", PAROTID, 0, 0.0, None),
    Structure(3, "a thing of no code", "#4653c4", None, 4, 0.004, None),
)
KEPT_COLORS = {1: "#0b0924d0", 2: "#d3436e90", 3: "#00c89628"}


def rig() -> SimpleNamespace:
    """Make an empty scene with the logics that a scene in Slicer has."""
    application = slicer.vtkSlicerApplicationLogic()
    scene = slicer.vtkMRMLScene()
    application.SetMRMLScene(scene)
    logics = {
        "Colors": slicer.vtkSlicerColorLogic(),
        "Volumes": slicer.vtkSlicerVolumesLogic(),
        "Segmentations": slicer.vtkSlicerSegmentationsModuleLogic(),
        "Markups": slicer.vtkSlicerMarkupsLogic(),
    }
    for name, logic in logics.items():
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(scene)
        application.SetModuleLogic(name, logic)
    return SimpleNamespace(scene=scene, application=application, **logics)


def count_nodes(scene: Any) -> Counter:
    """Count the nodes of a scene by class."""
    return Counter(scene.GetNthNode(n).GetClassName() for n in range(scene.GetNumberOfNodes()))


# Volumes


def orientations() -> list[np.ndarray]:
    """Give the 48 ways in which voxel axes can lie along the patient's, (3, 3) each."""
    return [
        np.eye(3)[list(order)] * signs
        for order in permutations(range(3))
        for signs in product((1, -1), repeat=3)
    ]


def affine_with(axes: np.ndarray) -> np.ndarray:
    """Give the affine of a volume with some axes, uneven spacing and an odd origin."""
    affine = np.eye(4)
    affine[:3, :3] = axes * (1.5, 2.0, 0.75)
    affine[:3, 3] = (-21.0, 13.5, 40.25)
    return affine


def turned(seed: int) -> np.ndarray:
    """Give axes that are oblique to the patient's."""
    axes, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return axes


def rigid(seed: int) -> np.ndarray:
    """Give a rotation and translation, (4, 4)."""
    matrix = np.eye(4)
    matrix[:3, :3] = turned(seed) * np.sign(np.linalg.det(turned(seed)))
    matrix[:3, 3] = np.random.default_rng(seed).uniform(-60, 60, 3)
    return matrix


def add_volume(scene: Any, affine: np.ndarray, shape: tuple[int, ...] = SHAPE) -> Any:
    """Add a volume of noise."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
    noise = np.random.default_rng(0).integers(0, 200, shape).astype(np.int16)
    fill_volume(node, noise, affine)
    node.CreateDefaultDisplayNodes()
    return node


def add_transform(scene: Any, matrix: np.ndarray, parent: Any = None) -> Any:
    """Add a linear transform."""
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "transform")
    move(node, matrix)
    node.SetAndObserveTransformNodeID(parent.GetID() if parent else None)
    return node


def move(transform: Any, matrix: np.ndarray) -> None:
    """Set a linear transform."""
    transform.SetMatrixTransformToParent(array_to_matrix(matrix))


# Answers


def labels_of(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Label a few voxels so that no turn or flip of the array looks like it."""
    labels = np.zeros(shape, dtype=np.uint8)
    labels[1, 2, 3:6] = 1
    labels[4, 2, 3] = 1
    labels[1, 5, 7:9] = 1
    labels[3, 6, 2:6] = 3
    return labels


def grid_over(affine: np.ndarray, shape: tuple[int, ...] = SHAPE, patch: int = 4) -> Grid:
    """Divide a volume into tokens of some voxels along its own axes."""
    to_voxel = np.diag([patch, patch, patch, 1.0])
    to_voxel[:3, 3] = (patch - 1) / 2
    return Grid(tuple(-(-n // patch) for n in shape), (patch,) * 3, affine @ to_voxel)


def kept_map(shape: tuple[int, ...], seed: int = 0) -> TokenMap:
    """Give a map of categories; 0 is air."""
    data = np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)
    legend = tuple(
        LegendEntry(value, f"state {value}", color, int((data == value).sum()))
        for value, color in KEPT_COLORS.items()
    )
    return TokenMap("kept", None, "kept / pruned", "Where.", data, "categories", legend, (0, 1), ())


def depth_map(shape: tuple[int, ...], seed: int = 0) -> TokenMap:
    """Give a map that counts from 0, with gaps; -1 is air."""
    data = np.random.default_rng(seed).choice([-1, 0, 3, 6], shape).astype(np.int16)
    legend = tuple(
        LegendEntry(value, f"{value} of 6 blocks", color, None)
        for value, color in ((0, "#44015480"), (3, "#21918c80"), (6, "#fde72580"))
    )
    return TokenMap("depth", None, "depth", "How deep.", data, "categories", legend, (0, 1), ())


def importance_map(shape: tuple[int, ...], stage: int = 1, seed: int = 0) -> TokenMap:
    """Give a map in shades; NaN was not scored."""
    rng = np.random.default_rng(seed)
    data = np.where(rng.random(shape) < 0.2, np.nan, rng.random(shape)).astype(np.float32)
    colormap = tuple(f"#{n:02x}{n:02x}{255 - n:02x}ff" for n in range(256))
    title = f"importance at block {3 * stage}"
    return TokenMap("importance", stage, title, "Rank.", data, "shades", (), (0, 1), colormap)


def answer_with(
    grid: Grid, labels: np.ndarray | None = None, seed: int = 0, stages: int = 2
) -> RunAnswer:
    """Give an answer with every kind of map."""
    scores = (importance_map(grid.shape, stage, seed) for stage in range(1, stages + 1))
    maps = (kept_map(grid.shape, seed), *scores, depth_map(grid.shape, seed))
    return RunAnswer(
        labels_of() if labels is None else labels, STRUCTURES, maps, "pruned", REPORT, grid
    )


# Where nodes lie


def to_world(node: Any) -> np.ndarray:
    """Give what the parent transforms of a node do, (4, 4)."""
    matrix = vtk.vtkMatrix4x4()
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(
        node.GetParentTransformNode(), None, matrix
    )
    return matrix_to_array(matrix)


def values_in_world(node: Any) -> dict[tuple[float, ...], float]:
    """Give the value of a volume node at each RAS position, rounded to 1/1000 mm."""
    image, matrix = node.GetImageData(), vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    values = vtk_to_numpy(image.GetPointData().GetScalars())
    return dict(
        zip(_keys(image, to_world(node) @ matrix_to_array(matrix)), values.tolist(), strict=True)
    )


def segment_in_world(node: Any, name: str) -> set[tuple[float, ...]]:
    """Give the RAS positions of the voxels of a segment, rounded to 1/1000 mm."""
    image, matrix = slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4()
    segment_id = node.GetSegmentation().GetSegmentIdBySegmentName(name)
    node.GetBinaryLabelmapRepresentation(segment_id, image)
    image.GetImageToWorldMatrix(matrix)
    values = vtk_to_numpy(image.GetPointData().GetScalars())
    keys = _keys(image, to_world(node) @ matrix_to_array(matrix))
    return {key for key, value in zip(keys, values.tolist(), strict=True) if value}


def expected_values(data: np.ndarray, affine: np.ndarray) -> dict[tuple[float, ...], float]:
    """Give the value of an IJK array at each RAS position, without Slicer."""
    index = np.argwhere(np.ones(data.shape, dtype=bool))
    places = index @ affine[:3, :3].T + affine[:3, 3]
    return dict(zip(map(_key, places), data[tuple(index.T)].tolist(), strict=True))


def expected_voxels(labels: np.ndarray, value: int, affine: np.ndarray) -> set[tuple[float, ...]]:
    """Give the RAS positions of the voxels of a label, without Slicer."""
    places = np.argwhere(labels == value) @ affine[:3, :3].T + affine[:3, 3]
    return set(map(_key, places))


def _keys(image: Any, affine: np.ndarray) -> list[tuple[float, ...]]:
    """Give the RAS position of each voxel in the order of VTK's memory: I runs fastest."""
    i0, i1, j0, j1, k0, k1 = image.GetExtent()
    return [
        _key(affine[:3, :3] @ (i, j, k) + affine[:3, 3])
        for k in range(k0, k1 + 1)
        for j in range(j0, j1 + 1)
        for i in range(i0, i1 + 1)
    ]


def _key(place: np.ndarray) -> tuple[float, ...]:
    return tuple((np.round(place, 3) + 0.0).tolist())
