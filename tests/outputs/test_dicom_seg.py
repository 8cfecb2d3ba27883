"""DICOM segmentations, read back by highdicom and pydicom, voxel by voxel in RAS."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import apply_orientation, inv_ornt_aff

from napari_sparseseg.errors import OutputError
from napari_sparseseg.files.dicom_seg import write_dicom_seg
from napari_sparseseg.structures import Structure
from napari_sparseseg.volume import Volume
from tests.outputs.series import LPS, PATIENT, write_series

STRUCTURES = (
    Structure(1, "hippocampus", "#ffd92e"),
    Structure(2, "left parotid", "#1fa35c"),
    Structure(3, "noyau caudé 尾状核", "#4653c4"),
)
REPORT: dict[str, Any] = {
    "model": "tiny-stp",
    "weights_sha256": "ab" * 32,
    "sparsifier": "stp",
    "setting": {"name": "keep ratio", "value": 0.3},
    "versions": {"napari-sparseseg": "0.1.0"},
}
SHAPE = (6, 5, 4)


def oblique(turn: float = 0.0) -> np.ndarray:
    """Affine to RAS mm of a series: columns, rows, slices; turned about two axes."""
    c, s = np.cos(turn), np.sin(turn)
    about_x = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    about_z = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_x @ about_z @ np.diag([-0.8, -0.9, 2.5])
    affine[:3, 3] = (41.5, 17.25, -33)
    return affine


def make_labels(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    labels = np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)
    labels[:, :, 1] = 0  # a slice without segments
    return labels


def places(labels: np.ndarray, affine: np.ndarray) -> set[tuple[float, ...]]:
    """Millimetres and value of all labelled voxels; 0.05 mm tells voxels apart."""
    at = np.argwhere(labels > 0)
    points = at @ affine[:3, :3].T + affine[:3, 3]
    return {
        (*(np.round(point * 20).astype(int)), int(labels[tuple(i)]))
        for i, point in zip(at, points, strict=True)
    }


def read_places(path: Path) -> set[tuple[float, ...]]:
    """As highdicom's reader places them."""
    volume = highdicom.seg.segread(path).get_volume(combine_segments=True)
    return places(volume.array, LPS @ volume.affine)


def frame_places(path: Path) -> set[tuple[float, ...]]:
    """As the attributes of each frame place them, with pydicom alone."""
    file = pydicom.dcmread(path)
    frames = file.pixel_array.reshape(-1, file.Rows, file.Columns)
    (shared,) = file.SharedFunctionalGroupsSequence
    down, right = shared.PixelMeasuresSequence[0].PixelSpacing
    turn = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3))
    found: set[tuple[float, ...]] = set()
    for frame, facts in zip(frames, file.PerFrameFunctionalGroupsSequence, strict=True):
        affine = np.eye(4)
        affine[:3, 0], affine[:3, 1] = turn[1] * down, turn[0] * right
        affine[:3, 3] = facts.PlanePositionSequence[0].ImagePositionPatient
        number = facts.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found |= places(frame[:, :, None] * int(number), LPS @ affine)
    return found


def write(folder: Path, labels: Volume, files: list[Path], **options: Any) -> Path:
    path = folder / "seg.dcm"
    write_dicom_seg(labels, STRUCTURES, files, path, report=REPORT, **options)
    return path


@settings(max_examples=25, deadline=None)
@given(
    turn=st.sampled_from([0.0, 0.2, 0.7]),
    axes=st.permutations(range(3)),
    signs=st.tuples(*[st.sampled_from([1, -1])] * 3),
    seed=st.integers(0, 5),
)
def test_every_voxel_lies_where_its_label_lies(
    tmp_path_factory: pytest.TempPathFactory,
    turn: float,
    axes: list[int],
    signs: tuple[int, ...],
    seed: int,
) -> None:
    """For labels with axes in any order and direction, and files in any order."""
    folder = tmp_path_factory.mktemp("series")
    affine, data = oblique(turn), make_labels(seed=seed)
    files = write_series(folder, data.astype(np.int16), affine, seed)
    orientation = np.array(list(zip(axes, signs, strict=True)), dtype=float)
    turned = apply_orientation(data, orientation)
    labels = Volume(turned, affine @ inv_ornt_aff(orientation, data.shape))

    path = write(folder, labels, files)

    assert read_places(path) == frame_places(path) == places(data, affine)


def test_it_says_what_the_segments_are(tmp_path: Path) -> None:
    files = write_series(tmp_path, make_labels().astype(np.int16), oblique())

    file = pydicom.dcmread(write(tmp_path, Volume(make_labels(), oblique()), files))

    segments = file.SegmentSequence
    assert (file.Modality, file.SegmentationType) == ("SEG", "BINARY")
    assert [s.SegmentNumber for s in segments] == [1, 2, 3]
    assert [s.SegmentLabel for s in segments] == [s.name for s in STRUCTURES]
    types = [s.SegmentedPropertyTypeCodeSequence[0] for s in segments]
    assert [(t.CodingSchemeDesignator, t.CodeMeaning) for t in types] == [
        ("SCT", "Hippocampus"),
        ("SCT", "Parotid gland"),
        ("99SPARSESEG", "noyau caudé 尾状核"),
    ]
    assert types[0].CodeValue == "5366008"
    (side,) = types[1].SegmentedPropertyTypeModifierCodeSequence
    assert (side.CodeValue, side.CodeMeaning) == ("7771000", "Left")
    assert {s.SegmentedPropertyCategoryCodeSequence[0].CodeValue for s in segments} == {"123037004"}
    colors = [
        highdicom.color.CIELabColor.from_dicom_value(s.RecommendedDisplayCIELabValue).to_rgb()
        for s in segments
    ]
    np.testing.assert_allclose(colors, [s.rgb for s in STRUCTURES], atol=2)
    for segment in segments:
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == (
            "SparseSeg tiny-stp",
            "0.1.0",
        )
        assert "keep_ratio=0.3" in algorithm.AlgorithmParameters
        assert f"weights_sha256={'ab' * 32}" in algorithm.AlgorithmParameters


def test_it_belongs_to_the_series(tmp_path: Path) -> None:
    labels = make_labels()
    files = write_series(tmp_path, labels.astype(np.int16), oblique())
    slices = {str(pydicom.dcmread(f).SOPInstanceUID): pydicom.dcmread(f) for f in files}
    first = next(iter(slices.values()))

    file = pydicom.dcmread(write(tmp_path, Volume(labels, oblique()), files))

    for key in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "StudyDate", "PatientSex"):
        assert file[key].value == first[key].value
    assert str(file.PatientName) == PATIENT
    assert (file.SeriesInstanceUID, file.SeriesNumber) != (first.SeriesInstanceUID, 3)
    (referenced,) = file.ReferencedSeriesSequence
    assert {i.ReferencedSOPInstanceUID for i in referenced.ReferencedInstanceSequence} == {*slices}
    assert file.NumberOfFrames == sum(len(np.unique(labels[:, :, k])) - 1 for k in (0, 2, 3))
    for frame in file.PerFrameFunctionalGroupsSequence:
        (derivation,) = frame.DerivationImageSequence
        (image,) = derivation.SourceImageSequence
        position = slices[image.ReferencedSOPInstanceUID].ImagePositionPatient
        assert frame.PlanePositionSequence[0].ImagePositionPatient == position


def test_an_anonymised_series_will_do(tmp_path: Path) -> None:
    empty = ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "StudyTime", "StudyID")
    missing = ("PatientSex", "AccessionNumber", "ReferringPhysicianName", "SeriesNumber")
    tags = dict.fromkeys(empty, "") | dict.fromkeys(missing)
    files = write_series(tmp_path, make_labels().astype(np.int16), oblique(), **tags)

    path = write(tmp_path, Volume(make_labels(), oblique()), files)

    assert read_places(path) == places(make_labels(), oblique())
    assert str(pydicom.dcmread(path).PatientName) == ""


def test_where_nothing_was_found_it_has_empty_frames(tmp_path: Path) -> None:
    files = write_series(tmp_path, make_labels().astype(np.int16), oblique())

    path = write(tmp_path, Volume(np.zeros(SHAPE, np.uint8), oblique()), files)

    file = pydicom.dcmread(path)
    assert (file.NumberOfFrames, len(file.SegmentSequence)) == (3, 3)
    assert not file.pixel_array.any()
    assert read_places(path) == set()


def test_values_with_gaps_become_segments_without(tmp_path: Path) -> None:
    files = write_series(tmp_path, make_labels().astype(np.int16), oblique())
    labels = make_labels().astype(np.int32) * 1000
    known = [Structure(1000, "a", "#ff0000"), Structure(3000, "b", "#00ff00")]
    path = tmp_path / "seg.dcm"

    write_dicom_seg(Volume(labels, oblique()), known, files, path)

    file = pydicom.dcmread(path)
    expected = np.array([0, 1, 0, 2], np.uint8)[make_labels()]
    assert read_places(path) == places(expected, oblique())
    assert {s.SegmentAlgorithmType for s in file.SegmentSequence} == {"MANUAL"}


@pytest.mark.parametrize(
    ("tags", "match"),
    [
        ({"NumberOfFrames": 4}, "one slice with its place in each file"),
        ({"ImagePositionPatient": None}, "one slice with its place in each file"),
        ({"FrameOfReferenceUID": None}, "one slice with its place in each file"),
        ({"PixelSpacing": [0.9, 1.2]}, "do not lie on the grid"),
        ({"ImagePositionPatient": [0, 0, 0]}, "do not lie on the grid"),
        ({"Rows": 6}, "do not lie on the grid"),
        ({"StudyDate": "yesterday"}, "do not follow the standard"),
    ],
)
def test_a_series_that_does_not_fit_is_refused(
    tmp_path: Path, tags: dict[str, Any], match: str
) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of the wrong date that the test writes
        files = write_series(tmp_path, make_labels().astype(np.int16), oblique(), **tags)

        with pytest.raises(OutputError, match=match) as refused:
            write(tmp_path, Volume(make_labels(), oblique()), files)

    assert_sentence(refused.value)
    assert not list(tmp_path.glob("seg*")) and not list(tmp_path.glob(".*"))


def test_files_of_another_kind_or_of_two_series_are_refused(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir(), (tmp_path / "two").mkdir()
    one, two = (
        write_series(tmp_path / name, make_labels().astype(np.int16), oblique())
        for name in ("one", "two")
    )
    text = tmp_path / "text.dcm"
    text.write_text("no slice")
    labels = Volume(make_labels(), oblique())
    for files, match in [
        ([], "Only for a scan that is a DICOM series"),
        ([*one[:2], *two[2:]], "several DICOM series"),
        ([text], "cannot be read any more"),
        ([tmp_path / "gone.dcm"], "cannot be read any more"),
        (one[:3], "do not lie on the grid"),
    ]:
        with pytest.raises(OutputError, match=match) as refused:
            write(tmp_path, labels, files)
        assert_sentence(refused.value)


def test_labels_that_lie_elsewhere_are_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path, make_labels().astype(np.int16), oblique(0.2))
    shifted = oblique(0.2)
    shifted[2, 3] += 0.3
    for affine in (oblique(), shifted):
        with pytest.raises(OutputError, match="do not lie on the grid"):
            write(tmp_path, Volume(make_labels(), affine), files)


def test_an_existing_file_stays_unless_it_may_be_replaced(tmp_path: Path) -> None:
    files = write_series(tmp_path, make_labels().astype(np.int16), oblique())
    labels = Volume(make_labels(), oblique())
    (tmp_path / "seg.dcm").write_text("older")

    with pytest.raises(OutputError, match="exists already"):
        write(tmp_path, labels, files)
    assert (tmp_path / "seg.dcm").read_text() == "older"

    assert read_places(write(tmp_path, labels, files, overwrite=True))


def test_a_disk_that_fills_up_is_a_sentence(tmp_path: Path) -> None:
    """In one line, and nothing is left."""
    shape = (6, 5, 150)  # many frames: what is said of them is longer than any buffer
    files = write_series(tmp_path, np.zeros(shape, np.int16), oblique())
    labels = Volume(make_labels(shape), oblique())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OutputError) as caught:
            write_dicom_seg(labels, STRUCTURES, files, tmp_path / "labels.dcm")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_sentence(caught.value)
    assert not (tmp_path / "labels.dcm").exists()


def assert_sentence(error: Exception) -> None:
    message = str(error)
    assert message.endswith(".") and ". " not in message and ";" in message
