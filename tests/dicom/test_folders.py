"""What lies in folders beside DICOM slices, files with many frames, and the limits."""

from __future__ import annotations

import os
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGLSLossless

from napari_sparseseg.errors import InputError
from napari_sparseseg.files import dicom_headers, parts, read_volume, write_volume
from napari_sparseseg.files.dicom import source_files
from tests.dicom.series import (
    AXIAL,
    Change,
    assert_one_sentence,
    assert_refused,
    assert_same_place,
    compressed,
    header,
    only_part,
    save,
    values,
    write_enhanced,
    write_series,
)


def test_files_below_the_folder_and_without_endings_are_found(tmp_path: Path) -> None:
    paths = write_series(tmp_path, values())
    for k, path in enumerate(paths):
        (tmp_path / f"{k}").mkdir()
        path.rename(tmp_path / f"{k}" / "I.IMA")
    np.testing.assert_array_equal(read_volume(tmp_path).data, values())


def test_what_is_no_slice_is_passed_over(tmp_path: Path) -> None:
    write_series(tmp_path, values())
    (tmp_path / "notes.txt").write_text("a text")
    (tmp_path / "empty.dcm").touch()
    report = header("SR", 9)
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    save(report, tmp_path / "report.dcm")
    directory = header("", 1)
    directory.SOPClassUID = "1.2.840.10008.1.3.10"
    save(directory, tmp_path / "DICOMDIR")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "nowhere.dcm").symlink_to(tmp_path / "missing")
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.data, values())
    assert volume.notes == ()


@pytest.mark.parametrize("length", [140, 200, 400, 700])
def test_a_file_whose_header_is_cut_short_is_counted_in_a_note(tmp_path: Path, length: int) -> None:
    path = write_series(tmp_path, values())[0]
    (tmp_path / "damaged").write_bytes(path.read_bytes()[:length])
    (note,) = read_volume(tmp_path).notes
    assert note == "1 DICOM file of the folder could not be read and did not take part."


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("a text")
    assert_refused(tmp_path, "is a folder without DICOM images")
    with pytest.raises(InputError, match="without DICOM images"):
        parts(tmp_path)


def test_a_folder_of_too_many_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom_headers, "MAX_FILES", 6)
    write_series(tmp_path, values((3, 3, 6)))
    assert only_part(tmp_path).key == "3"
    (tmp_path / "folder").mkdir()
    assert_refused(tmp_path, "holds more than 6 files")


def test_a_folder_deep_below_is_not_looked_at(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*"a" * (dicom_headers.MAX_DEPTH + 1))
    write_series(tmp_path, values(), shared=header(number=1))
    write_series(deep, values(), shared=header(number=2))
    assert only_part(tmp_path).key == "1"


@pytest.mark.parametrize("name", ["slice.dcm", "slice.DCM", "IM0001", "1.2.840.4711"])
def test_one_slice_stands_for_its_series(tmp_path: Path, name: str) -> None:
    paths = write_series(tmp_path, values(), shared=header(number=1))
    write_series(tmp_path, values((3, 3, 3)), shared=header(number=2))
    write_series(tmp_path / "below", values((3, 3, 3)), shared=header(number=4))
    path = paths[2].rename(tmp_path / name)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.data, values())
    assert volume.name == "CT series 1"
    assert "one slice of a series" in volume.notes[0]
    assert only_part(path).key == "1"
    assert len(source_files(path)) == 7 and path in source_files(path)


def test_a_single_slice_alone_is_read(tmp_path: Path) -> None:
    shared = header()
    shared.SliceThickness = 2
    (path,) = write_series(tmp_path, values((4, 5, 1)), shared=shared)
    assert "one slice of a series" not in " ".join(read_volume(path).notes)


def test_a_file_that_only_looks_like_dicom_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "slice.dcm"
    path.write_bytes(bytes(128) + b"DICM" + b"x" * 99)
    assert_refused(path, "damaged or holds no image")
    path.write_bytes(b"hello")
    assert_refused(path, "unknown ending")


def test_other_formats_have_no_dicom_files(tmp_path: Path) -> None:
    write_series(tmp_path / "series", values())
    write_volume(read_volume(tmp_path / "series"), tmp_path / "scan.nii.gz")
    assert source_files(tmp_path / "scan.nii.gz") == ()


@pytest.mark.parametrize("phases", [1, 3])
def test_a_file_with_many_frames(tmp_path: Path, phases: int) -> None:
    path = write_enhanced(tmp_path / "enhanced.dcm", values(), phases=phases)
    listed = parts(path)
    assert [part.key for part in listed] == (["5"] if phases == 1 else ["5.1", "5.2", "5.3"])
    k = np.arange(7)
    for phase, part in enumerate(listed):
        volume = read_volume(path, part=part.key)
        expected = (values().astype(int) + 1000 * phase) * (k + 1) - 5
        assert_same_place(volume, expected, AXIAL)
        assert source_files(path, part.key) == (path,)
    assert [part.title for part in parts(tmp_path)] == [part.title for part in listed]


def test_a_compressed_file_with_many_frames(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "enhanced.dcm", values(), phases=2)
    plain = read_volume(path, part="5.2")
    item = pydicom.dcmread(path)
    item.compress(JPEGLSLossless, generate_instance_uid=False)
    item.save_as(path)
    packed = read_volume(path, part="5.2")
    np.testing.assert_array_equal(packed.data, plain.data)
    np.testing.assert_array_equal(packed.affine, plain.affine)


def test_many_frames_without_places_are_refused(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "enhanced.dcm", values())
    item = pydicom.dcmread(path)
    del item.PerFrameFunctionalGroupsSequence
    save(item, path)
    assert_refused(path, "many frames that does not say where each of them lies")


def test_a_header_that_claims_too_much_is_refused(tmp_path: Path) -> None:
    def claim(side: int, syntax: str = ExplicitVRLittleEndian) -> Change:
        def change(_: int, item: Dataset) -> None:
            item.Rows = item.Columns = side
            if syntax == JPEGLSLossless:
                compressed(item, syntax, b"\xff\xd8\xff\xf7")

        return change

    def refused(name: str, match: str, side: int, syntax: str = ExplicitVRLittleEndian) -> None:
        folder = tmp_path / name
        write_series(folder, values((2, 2, 3)), change=claim(side, syntax), syntax=syntax)
        tracemalloc.start()
        try:
            assert_refused(folder, match)
            assert tracemalloc.get_traced_memory()[1] < 20e6
        finally:
            tracemalloc.stop()

    refused("beyond", "too large (65535 x 65535 x 3 voxels)", 65535)
    refused("plain", "its pixels are damaged or cut short", 20000)
    refused("packed", "its pixels are damaged or cut short", 20000, JPEGLSLossless)


def test_a_file_that_unpacks_to_too_much_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom_headers, "MAX_INFLATED", 1 << 21)
    (path,) = write_series(
        tmp_path, values((9, 8, 1)), syntax=DeflatedExplicitVRLittleEndian,
        change=lambda _, item: setattr(item, "SliceThickness", 2),
    )  # fmt: skip
    assert read_volume(path).shape == (9, 8, 1)
    content = path.read_bytes()
    meta = pydicom.filereader.read_file_meta_info(path)
    start = 144 + meta.FileMetaInformationGroupLength
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(zlib.decompress(content[start:], -15)) + packer.compress(bytes(1 << 22))
    path.write_bytes(content[:start] + bomb + packer.flush())
    assert_refused(path, "damaged or holds no image")


def test_files_that_vanish_after_the_list_are_refused(tmp_path: Path) -> None:
    from napari_sparseseg.files.dicom import dicom_series

    paths = write_series(tmp_path, values())
    (series,) = dicom_series(tmp_path)
    paths[3].unlink()
    with pytest.raises(InputError, match="have vanished") as caught:
        series.read()
    assert_one_sentence(str(caught.value))


@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_may_not_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    paths = write_series(tmp_path / "series", values())
    locked = paths[2] if what == "file" else tmp_path / "series"

    def forbid(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(locked))

    if what == "file":
        monkeypatch.setattr(pydicom, "dcmread", forbid)
    else:
        monkeypatch.setattr(os, "walk", forbid)
    assert_refused(tmp_path / "series", "may not be read")


def fuzz(folder: Path, changes: list[tuple[float, int]]) -> None:
    """Change bytes of a sound slice; the series is read or refused in one sentence."""
    paths = write_series(folder, values((5, 4, 3)), syntax=ExplicitVRLittleEndian)
    content = bytearray(paths[1].read_bytes())
    for place, value in changes:
        content[132 + int(place * (len(content) - 133))] = value
    paths[1].write_bytes(content)
    try:
        volume = read_volume(folder)
    except InputError as error:
        message = str(error).replace(str(folder), "folder")
        assert message.endswith(".") and ". " not in message and ";" in message
    else:
        assert volume.data.ndim == 3 and np.isfinite(volume.affine).all()


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=9))
def test_a_damaged_slice_gives_a_volume_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[float, int]]
) -> None:
    fuzz(tmp_path_factory.mktemp("fuzz"), changes)
