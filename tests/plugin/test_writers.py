"""Labels out of the viewer with their names and colours, as other programs read them."""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from napari.components import ViewerModel
from napari.layers import Labels, Layer
from scipy.spatial.transform import Rotation

from napari_sparseseg.errors import OutputError
from napari_sparseseg.files import read_volume, write_volume
from napari_sparseseg.plugin.geometry import Scan
from napari_sparseseg.plugin.layers import ResultLayers
from napari_sparseseg.plugin.readers import get_reader, image_layer
from napari_sparseseg.plugin.writers import write_labels
from tests.outputs.series import LPS, write_series

from .results import CLASSES, COLORS, ORIENTATIONS, make_result, marked_volume


def opened(path: Path) -> Layer:
    reader = get_reader(str(path))
    assert reader is not None
    (data,) = reader(str(path))
    return Layer.create(*data)


def segmented(image: Layer, truth: np.ndarray) -> Labels:
    """Show labels, given on the grid of the file, as the result of a run on an image."""
    scan = Scan.of(image)
    result = make_result(scan.volume(), truth)
    counts = {name: {"voxels": int((truth == n).sum())} for n, name in enumerate(CLASSES)}
    result.report.update(
        model="tiny-stp", weights_sha256="ab" * 32, sparsifier="stp", setting=None,
        versions={"napari-sparseseg": "0.1.0"}, classes={n: counts[n] for n in CLASSES[1:]},
    )  # fmt: skip
    layers = ResultLayers(viewer := ViewerModel())
    viewer.add_layer(image)
    layers.show(image, scan, result)
    return layers["segmentation"]


def save(layer: Labels, path: Path) -> Path:
    data, meta, _ = layer.as_layer_data_tuple()
    assert write_labels(str(path), data, meta) == [str(path)]
    return path


def test_a_slicer_segmentation_has_names_and_colours_and_what_was_painted(tmp_path: Path) -> None:
    volume = marked_volume(ORIENTATIONS[29], (0.9, 1.1, 3.3), tilt=0.3)
    write_volume(volume, tmp_path / "scan.nii.gz")
    truth = np.zeros(volume.shape, np.uint8)
    truth[3:9, 4:8, 5:9] = 1
    layer = segmented(opened(tmp_path / "scan.nii.gz"), truth)
    layer.data[0, 0, 0] = 9

    path = save(layer, tmp_path / "labels.seg.nrrd")

    image = sitk.ReadImage(path)
    count = sum(key.endswith("_LabelValue") for key in image.GetMetaDataKeys())
    facts = {
        int(image.GetMetaData(f"Segment{n}_LabelValue")): image.GetMetaData(f"Segment{n}_Name")
        for n in range(count)
    }
    assert facts == {**{n: name for n, name in enumerate(CLASSES) if n}, 9: "label 9"}
    red, green, blue = (float(part) for part in image.GetMetaData("Segment0_Color").split())
    assert [round(255 * part) for part in (red, green, blue)] == list(bytes.fromhex(COLORS[1][1:]))
    back = read_volume(path)
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-4)
    np.testing.assert_array_equal(back.data == 1, truth == 1)
    assert (back.data == 9).sum() == 1


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_labels_of_nothing_known_go_to_every_format(tmp_path: Path, ending: str) -> None:
    layer = Labels(np.eye(4, dtype=int)[None] * 3, scale=(3, 2, 1))

    back = read_volume(save(layer, tmp_path / f"drawn{ending}"))

    np.testing.assert_array_equal(back.data, layer.data)
    assert back.spacing == (3, 2, 1)


def test_a_dicom_segmentation_lies_on_its_series(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 900, (9, 8, 7)).astype(np.int16)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec((0.3, -0.2, 0.4)).as_matrix() @ np.diag((-0.8, 0.9, -2.5))
    affine[:3, 3] = (9, -7, 3)
    (folder := tmp_path / "series").mkdir()
    write_series(folder, voxels, affine)
    (folder / "other").mkdir()
    write_series(folder / "other", voxels[..., ::2], affine, SeriesNumber=8)
    grid = read_volume(folder, part="3")
    image = Layer.create(*image_layer(grid, str(folder), "3"))
    truth = (np.random.default_rng(1).random(grid.shape) < 0.2).astype(np.uint8)
    layer = segmented(image, truth)

    path = save(layer, tmp_path / "labels.dcm")

    found = highdicom.seg.segread(path).get_volume(combine_segments=True)
    mine, expected = (
        {
            tuple(np.round(20 * (matrix @ [*at, 1])[:3]).astype(int))
            for at in np.argwhere(labels == 1)
        }
        for labels, matrix in ((found.array, LPS @ found.affine), (truth, grid.affine))
    )
    assert mine == expected
    assert len(mine) > 50
    (first, *_) = pydicom.dcmread(path).SegmentSequence
    assert (first.SegmentLabel, first.SegmentAlgorithmType) == (CLASSES[1], "AUTOMATIC")

    layer.data[0, 0, 0] = 1 - layer.data[0, 0, 0]  # painted: no longer what the model said
    (first, *_) = pydicom.dcmread(save(layer, tmp_path / "painted.dcm")).SegmentSequence
    assert first.SegmentAlgorithmType == "MANUAL"


def test_a_dicom_segmentation_needs_a_series(tmp_path: Path) -> None:
    volume = marked_volume(ORIENTATIONS[0], (1, 1, 1))
    write_volume(volume, tmp_path / "scan.nii.gz")
    layer = segmented(opened(tmp_path / "scan.nii.gz"), np.ones(volume.shape, np.uint8))
    data, meta, _ = layer.as_layer_data_tuple()

    with pytest.raises(OutputError, match="Only for a scan that is a DICOM series"):
        write_labels(str(tmp_path / "labels.dcm"), data, meta)

    assert [path.name for path in tmp_path.iterdir()] == ["scan.nii.gz"]
