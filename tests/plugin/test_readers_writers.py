"""Files in and labels out: the geometry of the input file survives the way through napari."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer

from napari_sparseseg.errors import InputError, OutputError
from napari_sparseseg.files import read_volume, write_volume
from napari_sparseseg.plugin.geometry import Scan
from napari_sparseseg.plugin.layers import ResultLayers
from napari_sparseseg.plugin.readers import get_reader
from napari_sparseseg.plugin.writers import write_labels
from napari_sparseseg.volume import Volume

from .results import ORIENTATIONS, make_result, marked_volume

ENDINGS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")


def read(path: Path) -> Layer:
    reader = get_reader(str(path))
    assert reader is not None
    (data,) = reader(str(path))
    return Layer.create(*data)


@pytest.mark.parametrize("ending", ENDINGS)
def test_reader_reads_every_format(tmp_path: Path, ending: str):
    volume = marked_volume(ORIENTATIONS[29], (1.0, 1.5, 2.5), tilt=0.2)
    path = tmp_path / f"scan{ending}"
    write_volume(volume, path)

    layer = read(path)

    assert isinstance(layer, Image)
    assert layer.name == "scan"
    assert layer.metadata["source"] == str(path)
    for at in ((0, 0, 0), (4, 3, 2)):
        point = layer.metadata["affine"] @ [*at, 1]
        index = np.rint(np.linalg.inv(volume.affine) @ point)[:3].astype(int)
        assert layer.data[at] == volume.data[tuple(index)]


@pytest.mark.parametrize("name", ["scan.tif", "scan.nii.txt", "scan"])
def test_reader_leaves_other_files_alone(name: str):
    assert get_reader(name) is None


def test_reader_takes_several_scans(tmp_path: Path):
    paths = [str(tmp_path / name) for name in ("a.nii.gz", "b.mha")]
    for path in paths:
        write_volume(marked_volume(ORIENTATIONS[0], (1, 1, 1)), path)

    names = [data[1]["name"] for data in get_reader(paths)(paths)]

    assert names == ["a", "b"]
    assert get_reader([*paths, "c.tif"]) is None


def test_damaged_file_gets_a_sentence(tmp_path: Path):
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(b"no scan at all")

    with pytest.raises(InputError, match=r"scan\.nii\.gz cannot be read"):
        get_reader(str(path))(str(path))


def test_unusable_geometry_gets_a_sentence(tmp_path: Path):
    path = tmp_path / "flat.nii"
    image = nib.Nifti1Image(np.ones((4, 5, 6), np.float32), np.eye(4))
    image.set_sform(np.diag([1.0, 0.0, 1.0, 1.0]), code=1)
    nib.save(image, path)

    with pytest.raises(InputError, match="spacing"):
        get_reader(str(path))(str(path))


def test_bright_outliers_do_not_darken_the_scan(tmp_path: Path):
    data = np.random.default_rng(0).uniform(0, 100, (40, 40, 40)).astype(np.float32)
    data[0, 0, 0] = 1e6
    write_volume(Volume(data, np.eye(4)), tmp_path / "scan.nii.gz")

    low, high = read(tmp_path / "scan.nii.gz").contrast_limits

    assert 0 <= low < 1
    assert 99 < high < 101


@pytest.mark.parametrize("number", range(0, 48, 5))
def test_saved_labels_have_the_grid_of_the_input_file(tmp_path: Path, number: int):
    volume = marked_volume(ORIENTATIONS[number], (0.9, 1.1, 3.3), tilt=0.3)
    write_volume(volume, tmp_path / "scan.nii.gz")
    image = read(tmp_path / "scan.nii.gz")
    scan = Scan.of(image)
    truth = (scan.volume().data > 9000).astype(np.uint8)
    layers = ResultLayers(viewer := ViewerModel())
    viewer.add_layer(image)
    layers.show(image, scan, make_result(scan.volume(), truth))

    data, meta, _ = layers["segmentation"].as_layer_data_tuple()
    saved = write_labels(str(tmp_path / "labels.nii.gz"), data, meta)

    source, labels = (nib.load(tmp_path / name) for name in ("scan.nii.gz", "labels.nii.gz"))
    assert saved == [str(tmp_path / "labels.nii.gz")]
    assert np.array_equal(labels.affine, source.affine)
    assert labels.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(labels.dataobj), np.asarray(source.dataobj) > 9000)


def test_volume_for_the_engine_is_that_of_the_file(tmp_path: Path):
    write_volume(marked_volume(ORIENTATIONS[17], (0.9, 1.1, 3.3)), tmp_path / "scan.nrrd")
    stored = read_volume(tmp_path / "scan.nrrd")

    volume = Scan.of(read(tmp_path / "scan.nrrd")).volume()

    assert np.array_equal(volume.data, stored.data)
    assert np.array_equal(volume.affine, stored.affine)


def test_saved_token_map_lies_on_the_token_grid(tmp_path: Path):
    volume = marked_volume(ORIENTATIONS[40], (0.9, 1.1, 3.3))
    write_volume(volume, tmp_path / "scan.nii")
    image = read(tmp_path / "scan.nii")
    layers = ResultLayers(viewer := ViewerModel())
    viewer.add_layer(image)
    result = make_result(volume, np.zeros(volume.shape, np.uint8))
    layers.show(image, Scan.of(image), result)

    for role in ("kept", "depth"):
        data, meta, _ = layers[role].as_layer_data_tuple()
        write_labels(str(tmp_path / f"{role}.nii.gz"), data, meta)

    depth = nib.load(tmp_path / "depth.nii.gz")
    assert np.array_equal(np.asarray(depth.dataobj), result.trace.depth)
    np.testing.assert_allclose(depth.affine, result.trace.grid.affine, atol=1e-5)


def test_labels_of_nothing_known_keep_their_place_in_the_viewer(tmp_path: Path):
    layer = Labels(np.eye(4, dtype=int)[None] * 300, scale=(3, 2, 1), translate=(7, 8, 9))
    data, meta, _ = layer.as_layer_data_tuple()

    write_labels(str(tmp_path / "labels.nii.gz"), data, meta)

    saved = nib.load(tmp_path / "labels.nii.gz")
    assert saved.get_data_dtype() == np.int16
    assert np.array_equal(np.asarray(saved.dataobj), layer.data)
    np.testing.assert_allclose(
        saved.affine, [[3, 0, 0, 7], [0, 2, 0, 8], [0, 0, 1, 9], [0, 0, 0, 1]]
    )


@pytest.mark.parametrize("shape", [(4, 4), (2, 4, 4, 4)])
def test_labels_that_are_not_3d_are_refused(tmp_path: Path, shape: tuple[int, ...]):
    data, meta, _ = Labels(np.ones(shape, int), name="drawn").as_layer_data_tuple()

    with pytest.raises(OutputError, match=f"drawn has {len(shape)} dimensions"):
        write_labels(str(tmp_path / "labels.nii.gz"), data, meta)

    assert list(tmp_path.iterdir()) == []


def test_labels_replace_a_file_that_napari_asked_about(tmp_path: Path):
    path = tmp_path / "labels.nii.gz"
    path.write_text("older")
    data, meta, _ = Labels(np.ones((3, 3, 3), int)).as_layer_data_tuple()

    write_labels(str(path), data, meta)

    assert nib.load(path).shape == (3, 3, 3)


def test_opened_file_can_be_segmented_and_saved(tmp_path: Path, qtbot: Any, dock_of: Any):
    from .conftest import WAIT, ball

    source = Volume(ball((40, 44, 36)), np.diag([-3.0, 3.0, -3.0, 1.0]), "head")
    write_volume(source, tmp_path / "head.nii.gz")
    viewer, dock = dock_of()
    viewer.open(str(tmp_path / "head.nii.gz"), plugin="napari-sparseseg")

    with qtbot.waitSignal(dock.segmented, timeout=WAIT) as blocker:
        dock.controls.segment_button.click()
    viewer.layers["head segmentation"].save(str(tmp_path / "out.nii.gz"), plugin="napari-sparseseg")

    saved = nib.load(tmp_path / "out.nii.gz")
    assert np.array_equal(saved.affine, nib.load(tmp_path / "head.nii.gz").affine)
    assert np.array_equal(np.asarray(saved.dataobj), blocker.args[0].labels.data)
    assert blocker.args[0].report["volume"]["orientation"] == "LAI"
