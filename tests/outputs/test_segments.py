"""Label maps as NRRD for 3D Slicer and tables of names, read back by other programs."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from napari_sparseseg.errors import OutputError
from napari_sparseseg.files import LABEL_SUFFIXES, read_volume, write_labels, write_names
from napari_sparseseg.structures import Structure, structures_of
from napari_sparseseg.volume import Volume
from tests.outputs.series import LPS

STRUCTURES = (
    Structure(1, "brainstem", "#ffd92e"),
    Structure(2, "right parotid", "#1fa35c"),
    Structure(4, "noyau caudé; 尾状核 := \\ |", "#000080"),
)
AFFINE = np.array([[0, -1.6, 0.9, 11], [0.5, 0, 0, -70.25], [0, 1.2, 1.2, 3.5], [0, 0, 0, 1.0]])


def make_labels() -> Volume:
    data = np.zeros((7, 6, 5), np.uint8)
    data[1:3, 2, 0:4] = 1
    data[6, 5, 4] = 4
    return Volume(data, AFFINE, "labels")


def itk_affine(image: sitk.Image) -> np.ndarray:
    """Index to RAS mm, from what ITK says of single points."""
    points = [image.TransformIndexToPhysicalPoint(tuple(map(int, i))) for i in np.eye(4, 3, -1)]
    affine = np.eye(4)
    affine[:3, 3] = points[0]
    affine[:3, :3] = (np.array(points[1:]) - points[0]).T
    return LPS @ affine


@pytest.mark.parametrize("ending", [".seg.nrrd", ".nrrd", ".nhdr"])
def test_itk_finds_voxels_place_and_segments(tmp_path: Path, ending: str) -> None:
    labels = make_labels()
    write_labels(labels, STRUCTURES, tmp_path / f"out{ending}")

    image = sitk.ReadImage(tmp_path / f"out{ending}")
    facts = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}

    assert np.array_equal(sitk.GetArrayFromImage(image).T, labels.data)
    assert image.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_allclose(itk_affine(image), AFFINE, atol=1e-6)
    assert facts["Segmentation_MasterRepresentation"] == "Binary labelmap"
    assert facts["Segmentation_ContainedRepresentationNames"] == "Binary labelmap|"
    for number, structure in enumerate(STRUCTURES):
        segment = {
            key.removeprefix(f"Segment{number}_"): value
            for key, value in facts.items()
            if key.startswith(f"Segment{number}_")
        }
        assert segment["Name"] == structure.name
        assert segment["LabelValue"] == str(structure.value)
        assert segment["Layer"] == "0"
        color = [round(255 * float(c)) for c in segment["Color"].split()]
        assert color == list(bytes.fromhex(structure.color[1:]))
    assert len({facts[f"Segment{n}_ID"] for n in range(3)}) == 3
    assert [facts[f"Segment{n}_Extent"] for n in range(3)] == [
        "1 2 2 2 0 3",
        "0 -1 0 -1 0 -1",
        "6 6 5 5 4 4",
    ]
    assert facts["Segment0_Tags"] == (
        "TerminologyEntry:Segmentation category and type - DICOM master list"
        "~SCT^123037004^Anatomical Structure~SCT^119238007^Brain stem~^^"
        "~Anatomic codes - DICOM master list~^^~^^|"
    )
    assert "~SCT^45289007^Parotid gland~SCT^24028007^Right~" in facts["Segment1_Tags"]
    assert facts.get("Segment2_Tags", "") == ""


@pytest.mark.parametrize("ending", [e for e in LABEL_SUFFIXES if e != ".dcm"])
def test_labels_come_back_from_every_format(tmp_path: Path, ending: str) -> None:
    write_labels(make_labels(), STRUCTURES, tmp_path / f"out{ending}")

    again = read_volume(tmp_path / f"out{ending}")

    assert np.array_equal(again.data, make_labels().data)
    np.testing.assert_allclose(again.affine, AFFINE, atol=1e-5)


def test_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"unknown ending; use one of .*\.seg\.nrrd, \.dcm"):
        write_labels(make_labels(), STRUCTURES, tmp_path / "out.seg")
    assert not list(tmp_path.iterdir())


def test_the_table_of_names_is_that_of_bids(tmp_path: Path) -> None:
    structures = structures_of(("background", "a\tb", "尾状核"), ("#000000", "#ff0000", "#00ff00"))

    write_names(structures, tmp_path / "out_dseg.tsv")

    with open(tmp_path / "out_dseg.tsv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert rows == [
        {"index": "1", "name": "a b", "color": "#ff0000"},
        {"index": "2", "name": "尾状核", "color": "#00ff00"},
    ]
    with pytest.raises(OutputError, match="exists already"):
        write_names(structures, tmp_path / "out_dseg.tsv")
