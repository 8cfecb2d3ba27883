"""A segmentation that the engine has written to a file, read by Slicer's own reader."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest

pytest.importorskip("slicer_core", reason="needs Slicer's scene: run `make test-slicer`")

import slicer

from tests.slicer.mrml import scenes

WRITE = """
import sys
import numpy as np
from napari_sparseseg.files import write_labels
from napari_sparseseg.structures import Structure
from napari_sparseseg.volume import Volume

folder = sys.argv[1]
structures = [
    Structure(1, "hippocampus", "#ffd92e"),
    Structure(2, "left parotid", "#1fa35c"),
    Structure(3, "noyau caud\\u00e9 \\u5c3e\\u72b6\\u6838", "#4653c4"),
]
labels = Volume(np.load(f"{folder}/labels.npy"), np.load(f"{folder}/affine.npy"))
write_labels(labels, structures, f"{folder}/engine.seg.nrrd")
"""


@pytest.mark.parametrize("axes", [scenes.orientations()[n] for n in (0, 13, 30)])
def test_slicer_reads_segments_where_the_engine_put_them(
    scene, python, environment, tmp_path, axes
):
    affine, labels = scenes.affine_with(axes), scenes.labels_of()
    np.save(tmp_path / "labels.npy", labels)
    np.save(tmp_path / "affine.npy", affine)
    subprocess.run([python, "-c", WRITE, str(tmp_path)], env=environment, check=True)

    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = slicer.vtkMRMLSegmentationStorageNode()
    scene.AddNode(storage)
    storage.SetFileName(str(tmp_path / "engine.seg.nrrd"))
    assert storage.ReadData(node)

    segments = [
        node.GetSegmentation().GetNthSegment(n)
        for n in range(node.GetSegmentation().GetNumberOfSegments())
    ]
    names = ["hippocampus", "left parotid", "noyau caudé 尾状核"]
    assert [s.GetName() for s in segments] == names
    assert [s.GetLabelValue() for s in segments] == [1, 2, 3]
    colors = [tuple(round(255 * c) for c in s.GetColor()) for s in segments]
    assert colors == [(0xFF, 0xD9, 0x2E), (0x1F, 0xA3, 0x5C), (0x46, 0x53, 0xC4)]
    entry = slicer.vtkSlicerTerminologyEntry()
    logic = slicer.vtkSlicerTerminologiesModuleLogic()
    assert logic.DeserializeTerminologyEntry(segments[1].GetTerminology(), entry)
    assert entry.GetTypeObject().GetCodeValue() == "45289007"
    assert entry.GetTypeModifierObject().GetCodeMeaning() == "Left"
    assert node.GetSegmentation().GetNumberOfLayers() == 1
    for value, name in enumerate(names, start=1):
        expected = scenes.expected_voxels(labels, value, affine)
        assert scenes.segment_in_world(node, name) == expected
