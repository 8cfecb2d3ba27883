"""Opening scans in napari: folders, series to choose from, slices that stand for their series."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication, QDialog, QProgressDialog

from napari_sparseseg.errors import InputError
from napari_sparseseg.files import write_volume
from napari_sparseseg.plugin import opening
from napari_sparseseg.plugin.parts_dialog import PartsDialog
from napari_sparseseg.plugin.readers import get_reader
from napari_sparseseg.plugin.runner import THREAD_NAME
from napari_sparseseg.volume import Volume

from .conftest import ball
from .series import NAME, write_series
from .window import segment

PLUGIN = "napari-sparseseg"


@pytest.fixture
def window(make_napari_viewer_proxy: Callable[..., Any]) -> Any:
    return make_napari_viewer_proxy(show=True)


def answer(act: Callable[[PartsDialog], Any]) -> list[PartsDialog]:
    """Do something in the dialog that opens next."""
    seen: list[PartsDialog] = []

    def look() -> None:
        dialog = QApplication.activeModalWidget()
        if isinstance(dialog, PartsDialog) and dialog.isVisible():
            seen.append(dialog)
            try:
                act(dialog)
            except BaseException:
                dialog.reject()  # else a failure would wait for somebody to answer
                raise
        else:
            QTimer.singleShot(20, look)

    QTimer.singleShot(20, look)
    return seen


def choose(*rows: int) -> Callable[[PartsDialog], None]:
    def act(dialog: PartsDialog) -> None:
        dialog.list.clearSelection()
        for row in rows:
            dialog.list.item(row).setSelected(True)
        dialog.accept()

    return act


def test_a_folder_is_one_scan_with_its_place_and_no_patient_data(
    tmp_path: Path, qtbot: Any, dock_of: Any
):
    write_series(tmp_path / "ct", ending="")
    viewer, dock = dock_of()
    (image,) = viewer.open(str(tmp_path / "ct"), plugin=PLUGIN)

    assert image.data.shape == (24, 28, 30)
    np.testing.assert_allclose(image.scale, (5, 4, 4))
    assert image.metadata["source"] == str(tmp_path / "ct")
    corner = np.linalg.inv(image.metadata["affine"]) @ [50, 60, 0, 1]  # DICOM: -50, -60 LPS
    assert sorted(np.rint(corner[:3]).astype(int) % np.array(image.data.shape)) == [0, 0, 0]
    assert NAME not in f"{image.name} {image.metadata}"
    assert segment(qtbot, dock).report["volume"]["orientation"] == "LPS"


@pytest.mark.parametrize("stack", [False, True])
def test_slices_dropped_on_napari_are_one_layer(tmp_path: Path, window: Any, stack: bool):
    first = write_series(tmp_path, 1)
    other = write_series(tmp_path, 2, shape=(20, 20, 9))

    window.open([str(path) for path in first], stack=stack, plugin=PLUGIN)
    assert [layer.data.shape for layer in window.layers] == [(24, 28, 30)]
    assert any("slice" in note for note in window.layers[0].metadata["notes"])

    window.open([str(path) for path in other[2:5]], stack=stack, plugin=PLUGIN)
    assert [layer.data.shape[0] for layer in window.layers] == [24, 9]
    window.open([str(first[7])], stack=stack, plugin=PLUGIN)
    assert len(window.layers) == 2
    assert list(window.layers.selection) == [window.layers[0]]


def test_the_user_chooses_among_series_and_sees_which_cannot_be_read(tmp_path: Path, window: Any):
    for number, missing in ((1, ()), (2, (4, 5)), (3, ())):
        write_series(tmp_path, number, shape=(20, 20, 10 + number), missing=missing)

    def look(dialog: PartsDialog) -> None:
        spoilt = dialog.list.item(1)
        assert not spoilt.flags() & Qt.ItemFlag.ItemIsSelectable
        assert "missing" in spoilt.toolTip()
        assert dialog.chosen()[0].part.key == "1"
        assert not dialog.filter.isVisible()
        assert "20 x 20" in dialog.list.item(0).text()
        choose(0, 1, 2)(dialog)

    seen = answer(look)
    layers = window.open(str(tmp_path), plugin=PLUGIN)

    assert len(seen) == 1
    assert [layer.metadata["part"] for layer in layers] == ["1", "3"]
    assert [layer.data.shape[0] for layer in layers] == [11, 13]


def test_cancelling_opens_nothing_and_complains_of_nothing(tmp_path: Path, window: Any):
    write_series(tmp_path, 1)
    write_series(tmp_path, 2)
    with notification_manager:
        notification_manager.records.clear()
        seen = answer(QDialog.reject)
        window.open(str(tmp_path), plugin=PLUGIN)

        assert seen
        assert not window.layers
        assert not notification_manager.records


def test_a_long_list_can_be_narrowed_down(tmp_path: Path, window: Any):
    data = np.stack([ball((12, 12, 12), seed) for seed in range(12)], axis=-1)
    nib.save(nib.Nifti1Image(data, np.diag([2.0, 2, 2, 1])), tmp_path / "many.nii.gz")

    def look(dialog: PartsDialog) -> None:
        assert dialog.filter.isVisible()
        assert dialog.chosen()
        dialog.filter.setText("frame  11")
        shown = [row for row in range(12) if not dialog.list.item(row).isHidden()]
        assert shown == [10]
        assert not dialog.chosen()  # the first is hidden now
        choose(10)(dialog)

    answer(look)
    (layer,) = window.open(str(tmp_path / "many.nii.gz"), plugin=PLUGIN)

    np.testing.assert_array_equal(np.sort(layer.data, None), np.sort(data[..., 10], None))
    assert layer.name == "many, frame 11 of 12"
    assert layer.metadata["part"] == "11"


def test_without_a_window_a_sentence_lists_what_there_is(tmp_path: Path):
    write_series(tmp_path / "ct", 1)
    write_series(tmp_path / "ct", 2)
    (tmp_path / "files").mkdir()
    for name in ("a.nii.gz", "b.mha"):
        write_volume(Volume(ball((9, 9, 9)), np.eye(4)), tmp_path / "files" / name)

    for folder, expected in (("ct", "2 series"), ("files", r"a\.nii\.gz, b\.mha")):
        with pytest.raises(InputError, match=expected) as caught:
            get_reader(str(tmp_path / folder))(str(tmp_path / folder))
        message = str(caught.value)
        assert message.endswith(".")
        assert ". " not in message
        assert ";" in message
        viewer = ViewerModel()
        with pytest.raises(InputError, match=expected):
            viewer.open(str(tmp_path / folder), plugin=PLUGIN)
        assert not viewer.layers


def test_only_folders_with_scans_are_claimed(tmp_path: Path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "notes.txt").write_text("no scan")
    assert get_reader(str(tmp_path / "text")) is None
    assert get_reader(str(tmp_path / "IM0001")) is None

    write_series(tmp_path / "deep" / "st0" / "se0", ending="")
    assert get_reader(str(tmp_path / "deep")) is not None
    write_volume(Volume(ball((9, 9, 9)), np.eye(4)), tmp_path / "text" / "scan.nrrd")
    (data, arguments, _) = get_reader(str(tmp_path / "text"))(str(tmp_path / "text"))[0]
    assert arguments["name"] == "scan"
    assert data.shape == (9, 9, 9)


def test_what_cannot_be_read_is_one_sentence_in_the_window(tmp_path: Path, window: Any):
    write_series(tmp_path / "ct", missing=(4, 5))
    (tmp_path / "bad.nii.gz").write_bytes(b"no scan at all")
    with notification_manager:
        for path, expected in (("ct", "missing"), ("bad.nii.gz", "cannot be read")):
            notification_manager.records.clear()
            window.open(str(tmp_path / path), plugin=PLUGIN)
            (record,) = notification_manager.records
            assert expected in record.message
            assert not hasattr(record, "exception")  # nothing to show a traceback of
    assert not window.layers


def test_a_pair_of_files_is_one_layer(tmp_path: Path, window: Any):
    image = nib.Nifti1Pair(ball((20, 20, 20)), np.diag([2.0, 2, 2, 1]))
    nib.save(image, tmp_path / "pair.hdr")

    window.open([str(tmp_path / f"pair{ending}") for ending in (".hdr", ".img")], plugin=PLUGIN)

    assert [layer.name for layer in window.layers] == ["pair"]


def test_a_scan_that_takes_long_is_read_beside_the_window_with_a_sign(
    tmp_path: Path, window: Any, monkeypatch: pytest.MonkeyPatch
):
    write_series(tmp_path / "ct")
    signs: list[str] = []
    drawn, real = threading.Event(), opening.read_volume

    def slow(*args: Any, **kwargs: Any) -> Volume:
        assert threading.current_thread().name == THREAD_NAME
        assert drawn.wait(60)
        return real(*args, **kwargs)

    def look() -> None:
        shown = QApplication.activeModalWidget()
        if isinstance(shown, QProgressDialog):
            signs.append(shown.labelText())
            drawn.set()
        else:
            QTimer.singleShot(20, look)

    monkeypatch.setattr(opening, "read_volume", slow)
    QTimer.singleShot(0, look)
    (layer,) = window.open(str(tmp_path / "ct"), plugin=PLUGIN)

    assert signs == ["Reading ct …"]
    assert layer.data.shape == (24, 28, 30)
    QApplication.processEvents()
    assert QApplication.activeModalWidget() is None


def test_a_relative_path_is_that_of_the_same_file(tmp_path: Path, window: Any):
    paths = write_series(tmp_path / "ct")
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        window.open(str(Path("ct") / paths[0].name), plugin=PLUGIN)
        window.open(str(paths[1]), plugin=PLUGIN)
    finally:
        os.chdir(here)
    assert len(window.layers) == 1
