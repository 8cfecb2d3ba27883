"""Slicer's path, the engine in Python and the command line answer alike, voxel by voxel in RAS."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MODEL, RATIO = "brain-mr-stp", 0.4
BY_ENGINE = f"""
import json, subprocess, sys, nibabel, numpy as np
from napari_sparseseg import Segmenter, Volume
affine = np.array(json.loads(sys.argv[1]))
scan = np.load("scan.npy")
result = Segmenter("{MODEL}", "cpu", "float32").segment(Volume(scan, affine), {RATIO})
from napari_sparseseg import maps
shown = maps.scores(result.trace)
np.savez("engine.npz", labels=result.labels.data, affine=result.trace.grid.affine,
         kept=maps.kept_map(result.trace), depth=maps.depth_map(result.trace),
         **{{f"importance_{{n}}": scores for n, scores in enumerate(shown, start=1)}})
nibabel.save(nibabel.Nifti1Image(scan, affine), "scan.nii.gz")
subprocess.run([sys.executable, "-m", "napari_sparseseg.cli", "segment", "scan.nii.gz",
                "labels.nii.gz", "--model", "{MODEL}", "--keep-ratio", "{RATIO}",
                "--device", "cpu", "--precision", "float32"], check=True)
read = nibabel.load("labels.nii.gz")
np.savez("cli.npz", labels=np.asarray(read.dataobj), affine=read.affine)
"""


def phantom(seed: int = 0) -> np.ndarray:
    """Give a lumpy ball that no flip or turn of the axes looks like."""
    axes = np.indices((40, 48, 36)) - np.array([20, 24, 18]).reshape(3, 1, 1, 1)
    ball = np.clip(16 - np.sqrt((axes**2).sum(axis=0)), 0, 8) * 20
    noise = np.random.default_rng(seed).normal(0, 8, ball.shape)
    return (ball + (ball > 0) * (noise + 2 * axes[0] + axes[1])).clip(0).astype(np.int16)


def turn(degrees: float) -> np.ndarray:
    """Turn about an axis that is oblique to all others."""
    x, y, z = np.array([2.0, -1.0, 3.0]) / np.sqrt(14)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    matrix = np.eye(4)
    matrix[:3, :3] += np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return matrix


def placed(axes: list[int], signs: tuple[int, ...]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = np.eye(3)[axes] * signs * (3.0, 2.5, 3.5)
    matrix[:3, 3] = 11.5, -23.0, 40.25
    return matrix


PLAIN = placed([0, 1, 2], (1, 1, 1))
CASES = {
    "plain": (PLAIN, None),
    "flipped": (placed([2, 0, 1], (-1, 1, -1)), None),
    "oblique": (turn(23.0) @ PLAIN, None),
    "transformed": (placed([0, 2, 1], (1, -1, 1)), turn(-31.0)),
}


@pytest.mark.parametrize("case", CASES)
def test_labels_and_maps_are_those_of_the_engine_and_the_command_line(
    app: Any, python: str, environment: dict[str, str], tmp_path: Path, case: str, monkeypatch
):
    import slicer
    from SparseSeg import SparseSegLogic

    from SparseSegLib.volumes import fill_volume
    from tests.slicer.mrml import scenes

    affine, transform = CASES[case]
    world = affine if transform is None else transform @ affine
    scan = phantom()
    np.save(tmp_path / "scan.npy", scan)
    subprocess.run(
        [python, "-c", BY_ENGINE, json.dumps(world.tolist())],
        cwd=tmp_path, env=environment, check=True, capture_output=True,
    )  # fmt: skip
    engine, cli = np.load(tmp_path / "engine.npz"), np.load(tmp_path / "cli.npz")

    for name in ("PYTHONPATH", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, environment[name])
    monkeypatch.setenv("SPARSESEG_PYTHON", python)
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
    fill_volume(volume, scan, affine)
    if transform is not None:
        node = scenes.add_transform(slicer.mrmlScene, transform)
        volume.SetAndObserveTransformNodeID(node.GetID())
    logic = SparseSegLogic()
    try:
        shown = logic.process(volume, model=MODEL, setting=RATIO, device="cpu", precision="float32")
    finally:
        logic.stop()

    assert len(np.unique(engine["labels"])) > 1
    assert (cli["labels"] == engine["labels"]).all()
    np.testing.assert_allclose(cli["affine"], world, atol=1e-4)
    segmentation = slicer.mrmlScene.GetNodeByID(shown.nodes.segmentation)
    for structure in shown.answer.structures:
        found = np.argwhere(on_grid(*segment(segmentation, structure.name), world, scan.shape))
        assert (found == np.argwhere(engine["labels"] == structure.value)).all()
    for (kind, stage), node_id in shown.nodes.maps.items():
        data = engine[kind if stage is None else f"{kind}_{stage}"]
        stored = np.nan_to_num(data + (kind == "depth"), nan=-1)  # as a volume has to hold it
        image = volume_in_world(slicer.mrmlScene.GetNodeByID(node_id))
        assert (on_grid(*image, engine["affine"], data.shape) == stored).all()


def volume_in_world(node: Any) -> tuple[np.ndarray, np.ndarray]:
    """Give the voxels of a volume node, and voxel index to RAS of the world."""
    from tests.slicer.mrml import scenes

    matrix = vtk_matrix()
    node.GetIJKToRASMatrix(matrix)
    return voxels_of(node.GetImageData()), scenes.to_world(node) @ array_of(matrix)


def segment(node: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Give the voxels of a segment as :func:`volume_in_world` those of a volume."""
    import slicer

    from tests.slicer.mrml import scenes

    image, matrix = slicer.vtkOrientedImageData(), vtk_matrix()
    segment_id = node.GetSegmentation().GetSegmentIdBySegmentName(name)
    node.GetBinaryLabelmapRepresentation(segment_id, image)
    image.GetImageToWorldMatrix(matrix)
    shift = np.eye(4)
    shift[:3, 3] = image.GetExtent()[::2]
    return voxels_of(image), scenes.to_world(node) @ array_of(matrix) @ shift


def on_grid(
    voxels: np.ndarray, affine: np.ndarray, wanted: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Put voxels where they lie on another grid, of which each must meet a voxel; 0 elsewhere."""
    result = np.zeros(shape, dtype=voxels.dtype)
    index = np.indices(voxels.shape).reshape(3, -1)
    to_grid = np.linalg.solve(wanted, affine)
    places = to_grid[:3, :3] @ index + to_grid[:3, 3:]
    rounded = places.round().astype(int)
    np.testing.assert_allclose(places, rounded, atol=1e-3)
    result[tuple(rounded)] = voxels.reshape(-1)
    return result


def voxels_of(image: Any) -> np.ndarray:
    from vtk.util.numpy_support import vtk_to_numpy

    i, j, k = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(k, j, i).transpose(2, 1, 0)


def vtk_matrix() -> Any:
    import vtk

    return vtk.vtkMatrix4x4()


def array_of(matrix: Any) -> np.ndarray:
    from SparseSegLib.volumes import matrix_to_array

    return matrix_to_array(matrix)


def test_headless_run_that_fails_raises_the_sentence(app: Any, monkeypatch: pytest.MonkeyPatch):
    import slicer
    from SparseSeg import SparseSegLogic

    from SparseSegLib.failures import WorkerError

    monkeypatch.setenv("SPARSESEG_PYTHON", "/no/such/python")
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
    logic = SparseSegLogic()

    with pytest.raises(WorkerError, match="/no/such/python"):
        logic.process(volume)
    logic.stop()


def test_headless_run_installs_nothing(app: Any, monkeypatch: pytest.MonkeyPatch):
    import slicer
    from SparseSeg import SparseSegLogic

    from SparseSegLib.failures import WorkerError

    monkeypatch.delenv("SPARSESEG_PYTHON", raising=False)
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
    logic = SparseSegLogic()

    with pytest.raises(WorkerError, match="The engine is not installed"):
        logic.process(volume)
    logic.stop()
