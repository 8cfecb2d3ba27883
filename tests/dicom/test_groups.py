"""Which DICOM slices make one scan, and what is no scan at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

from napari_sparseseg.errors import ChoiceNeeded
from napari_sparseseg.files import parts, read_volume
from napari_sparseseg.files.dicom import source_files
from tests.dicom.series import (
    AXIAL,
    Change,
    assert_one_sentence,
    assert_refused,
    header,
    only_part,
    values,
    write_series,
)

CORONAL = np.array([[-0.7, 0, 0, 90], [0, 0, 3.0, 80], [0, -0.8, 0, -30], [0, 0, 0, 1]])


def always(keyword: str, value: object) -> Change:
    def change(_: int, item: Dataset) -> None:
        setattr(item, keyword, value)

    return change


def write_phases(
    folder: Path, mark: Callable[[int, int, Dataset], None], *, phases: int = 3
) -> list[np.ndarray]:
    """Write several scans of one place as one series; `mark` gets phase, slice and dataset."""
    shared, scans = header("MR"), []
    for phase in range(phases):
        scans.append(values((4, 5, 6), seed=phase))

        def change(k: int, item: Dataset, phase: int = phase) -> None:
            item.InstanceNumber = 1 + phase + phases * k
            mark(phase, k, item)

        write_series(folder, scans[-1], shared=shared, change=change, names=f"{9 - phase}")
    return scans


def test_several_series_are_listed_and_one_is_chosen(tmp_path: Path) -> None:
    first, second = values(seed=1), values((5, 4, 6), seed=2)
    write_series(tmp_path / "a", first, shared=header("MR", 12))
    write_series(tmp_path / "b" / "c", second, CORONAL, shared=header("CT", 2))
    listed = parts(tmp_path)
    assert [(part.key, part.problem) for part in listed] == [("2", ""), ("12", "")]
    assert [part.title for part in listed] == [
        "CT, 6 slices of 5 x 4, 0.7 x 0.8 x 3 mm, coronal",
        "MR, 7 slices of 9 x 8, 0.7 x 0.8 x 2.5 mm, axial",
    ]
    np.testing.assert_array_equal(read_volume(tmp_path, part="12").data, first)
    volume = read_volume(tmp_path, part="2")
    np.testing.assert_array_equal(volume.data[:, :, ::-1], second)
    assert volume.name == "CT series 2"

    with pytest.raises(ChoiceNeeded) as caught:
        read_volume(tmp_path)
    assert_one_sentence(str(caught.value))
    assert f"choose one of: 2 ({listed[0].title}), 12 ({listed[1].title})." in str(caught.value)
    assert_refused(tmp_path, "holds no series '3'; choose one of: 2 (", part="3")


def test_files_of_a_part_come_in_the_order_of_its_slices(tmp_path: Path) -> None:
    paths = write_series(tmp_path, values(), order=[3, 0, 6, 5, 1, 2, 4], shared=header(number=1))
    write_series(tmp_path, values((3, 3, 3)), shared=header(number=2))
    expected = [paths[[3, 0, 6, 5, 1, 2, 4].index(k)] for k in range(7)]
    assert source_files(tmp_path, "1") == tuple(expected)
    assert source_files(paths[0]) == tuple(expected)
    with pytest.raises(ChoiceNeeded):
        source_files(tmp_path)


def test_series_of_one_number_get_keys_of_their_own(tmp_path: Path) -> None:
    for seed in range(3):
        write_series(tmp_path / str(seed), values((3, 4, 5), seed), shared=header("MR", 4))
    keys = [part.key for part in parts(tmp_path)]
    assert keys == ["4.1", "4.2", "4.3"]
    read = sorted(int(read_volume(tmp_path, part=key).data[0, 0, 0]) for key in keys)
    assert read == sorted(int(values((3, 4, 5), seed)[0, 0, 0]) for seed in range(3))


@pytest.mark.parametrize("other", [(values((9, 8, 5)), CORONAL), (values((6, 8, 5)), AXIAL)])
def test_one_series_of_two_kinds_of_slices_is_two_scans(
    tmp_path: Path, other: tuple[np.ndarray, np.ndarray]
) -> None:
    shared = header()
    write_series(tmp_path, values(), shared=shared)
    write_series(tmp_path, *other, shared=shared, change=lambda k, i: later(i), names="b")
    assert [part.key for part in parts(tmp_path)] == ["3.1", "3.2"]
    np.testing.assert_array_equal(read_volume(tmp_path, part="3.1").data, values())
    assert read_volume(tmp_path, part="3.2").data.size == other[0].size


def later(item: Dataset) -> None:
    item.InstanceNumber += 100


@pytest.mark.parametrize(
    ("keyword", "label", "of_phase"),
    [
        ("EchoTime", "echo", lambda phase: 4.6 * (phase + 1)),
        ("TemporalPositionIdentifier", "time", lambda phase: phase + 1),
        ("DiffusionBValue", "b-value", lambda phase: 500.0 * phase),
        ("AcquisitionNumber", "acquisition", lambda phase: phase + 8),
        ("TriggerTime", "phase", lambda phase: 30 * phase),
        ("ImageType", "image type", lambda phase: ["ORIGINAL", "PRIMARY", "MFP"[phase]]),
    ],
)
def test_scans_of_one_place_are_told_apart(
    tmp_path: Path, keyword: str, label: str, of_phase: Callable[[int], object]
) -> None:
    scans = write_phases(tmp_path, lambda phase, _, i: setattr(i, keyword, of_phase(phase)))
    listed = parts(tmp_path)
    assert [part.key for part in listed] == ["3.1", "3.2", "3.3"]
    read = [read_volume(tmp_path, part=part.key).data for part in listed]
    for number, part in enumerate(listed, start=1):
        assert part.title.endswith(f", {label} {number} of 3") and not part.problem
    for scan in scans:
        assert any(np.array_equal(scan, data) for data in read)
    assert_refused(tmp_path, "holds 3 series")


def test_phases_that_only_their_order_tells_apart(tmp_path: Path) -> None:
    """The trigger time of a heart scan differs from slice to slice, and tells nothing apart."""
    scans = write_phases(
        tmp_path, lambda phase, k, i: setattr(i, "TriggerTime", 30 * phase + 7 * k + 1)
    )
    for key, scan in zip(("3.1", "3.2", "3.3"), scans, strict=True):
        np.testing.assert_array_equal(read_volume(tmp_path, part=key).data, scan)


def test_echoes_of_several_times(tmp_path: Path) -> None:
    def mark(phase: int, _: int, item: Dataset) -> None:
        item.EchoTime, item.TemporalPositionIdentifier = phase % 2 + 1, phase // 2 + 1

    scans = write_phases(tmp_path, mark, phases=4)
    titles = [part.title for part in parts(tmp_path)]
    assert sorted(title.split("axial, ")[1] for title in titles) == [
        f"echo {echo} of 2, time {time} of 2" for echo in (1, 2) for time in (1, 2)
    ]
    read = {part.title: read_volume(tmp_path, part=part.key).data for part in parts(tmp_path)}
    for phase, scan in enumerate(scans):
        (title,) = (t for t in titles if f"echo {phase % 2 + 1} of 2, time {phase // 2 + 1}" in t)
        np.testing.assert_array_equal(read[title], scan)


def test_files_that_are_there_twice_are_left_out_with_a_note(tmp_path: Path) -> None:
    for path in write_series(tmp_path, values())[2:5]:
        (tmp_path / "copies").mkdir(exist_ok=True)
        (tmp_path / "copies" / path.name).write_bytes(path.read_bytes())
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.data, values())
    assert volume.notes == ("3 slices are there more than once; the copies were left out.",)


def test_a_copy_that_differs_is_refused(tmp_path: Path) -> None:
    path = write_series(tmp_path, values())[2]
    content = bytearray(path.read_bytes())
    content[-5] ^= 0x55
    (tmp_path / "copy").write_bytes(content)
    assert_refused(tmp_path, "pass for the same but differ")


def test_the_same_pixels_under_another_name_are_a_copy(tmp_path: Path) -> None:
    shared = header()
    write_series(tmp_path, values(), shared=shared)
    write_series(tmp_path, values(), shared=shared, change=lambda k, _: k == 4, names="again")
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.data, values())
    assert volume.notes == ("1 slice is there twice; the copy was left out.",)


def test_another_slice_at_a_place_is_refused(tmp_path: Path) -> None:
    shared = header()
    write_series(tmp_path, values(), shared=shared)
    write_series(tmp_path, values(seed=9), shared=shared, change=lambda k, _: k == 4, names="b")
    assert "different slices at 1 place" in only_part(tmp_path).problem
    assert_refused(tmp_path, "different slices at 1 place")


def test_a_slice_that_cannot_be_compared_is_no_copy(tmp_path: Path) -> None:
    shared = header()
    path = write_series(tmp_path, values(), shared=shared)[4]
    write_series(tmp_path, values(), shared=shared, change=lambda k, _: k == 4, names="again")
    path.write_bytes(path.read_bytes()[:-20])
    assert "different slices at 1 place" in only_part(tmp_path).problem


def test_slices_of_one_identity_at_several_places_are_no_copies(tmp_path: Path) -> None:
    write_series(tmp_path, values(), change=always("SOPInstanceUID", generate_uid()))
    np.testing.assert_array_equal(read_volume(tmp_path).data, values())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (always("Modality", "SEG"), "holds a segmentation"),
        (always("SOPClassUID", "1.2.840.10008.5.1.4.1.1.66.4"), "holds a segmentation"),
        (always("Modality", "RTDOSE"), "holds a radiation dose"),
        (always("PhotometricInterpretation", "PALETTE COLOR"), "holds colour images"),
        (always("SamplesPerPixel", 3), "holds colour images"),
        (always("ModalityLUTSequence", [Dataset()]), "through a table"),
        (always("BitsAllocated", 1), "in an unusual way"),
        (always("HighBit", 11), "in an unusual way"),
    ],
)
def test_what_is_no_scan_is_listed_with_the_reason(
    tmp_path: Path, change: Change, match: str
) -> None:
    write_series(tmp_path, values((4, 4, 3)), change=change)
    problem = only_part(tmp_path).problem
    assert match in problem
    assert_one_sentence(problem)
    assert_refused(tmp_path, match, part="3")
    assert_refused(tmp_path, match)


def test_the_only_scan_beside_what_is_none_is_read(tmp_path: Path) -> None:
    write_series(tmp_path, values(), shared=header(number=1))
    write_series(tmp_path, values(), shared=header(number=2), change=always("SamplesPerPixel", 3))
    assert [bool(part.problem) for part in parts(tmp_path)] == [False, True]
    np.testing.assert_array_equal(read_volume(tmp_path).data, values())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (always("ImageType", ["DERIVED", "SECONDARY", "MPR"]), "derived from others"),
        (always("SOPClassUID", SecondaryCaptureImageStorage), "secondary captures"),
    ],
)
def test_derived_images_with_a_place_are_read_with_a_note(
    tmp_path: Path, change: Change, match: str
) -> None:
    write_series(tmp_path, values(), change=change)
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.data, values())
    (note,) = volume.notes
    assert match in note


def test_nothing_about_the_patient_is_told(tmp_path: Path) -> None:
    shared = header(number=1)
    shared.add_new("Modality", "LO", "DOE^JANE")
    write_series(tmp_path, values(), shared=shared)
    other = header(number=2)
    other.add_new("ImageType", "LO", ["DERIVED", "Doe^Jane^1970"])
    write_series(tmp_path, values(), shared=other)
    (tmp_path / "x.dcm").write_bytes(b"Doe^Jane^1970".ljust(128) + b"DICM" + b"Doe^Jane^1970")
    told = [*map(str, parts(tmp_path))]
    for key in ("1", "2"):
        volume = read_volume(tmp_path, part=key)
        told += [volume.name, *volume.notes]
    assert not any("Doe" in text or "DOE" in text or "1970" in text for text in told)
    assert read_volume(tmp_path, part="1").name == "Image series 1"
