"""``sparseseg segment``: names, probabilities and segmentations beside plain labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from checks import snapshot
from cli_checks import TINY, Sparseseg, assert_refused

from napari_sparseseg.files import read_volume
from napari_sparseseg.volume import Volume
from tests.outputs.series import write_series


def test_the_labels_are_the_best_class_of_the_probabilities(
    sparseseg: Sparseseg, scan: Path
) -> None:
    labels, file = scan.with_name("labels.seg.nrrd"), scan.with_name("p.nii.gz")
    table = scan.with_name("labels.tsv")
    options = ("--probabilities", file, "--names", table, "--sparsifier", "random")
    answer = sparseseg("segment", scan, labels, *TINY, *options)

    assert (answer.code, answer.err) == (0, "")
    image, found = nib.load(file), read_volume(labels)
    values = np.asarray(image.dataobj)
    assert values.shape == (20, 18, 16, 5)
    np.testing.assert_allclose(image.affine, nib.load(scan).affine, atol=1e-6)
    np.testing.assert_allclose(found.affine, nib.load(scan).affine, atol=1e-6)
    chosen = np.take_along_axis(values, found.data[..., None].astype(int), -1)[..., 0]
    assert (values.max(-1) - chosen).max() < 1e-5
    assert len(np.unique(found.data)) > 2
    segments = sitk.ReadImage(labels)
    names = [segments.GetMetaData(f"Segment{n}_Name") for n in range(4)]
    assert names == ["shell", "core", "spot", "rest"]
    assert table.read_text().splitlines()[:2] == ["index\tname\tcolor", "1\tshell\t#f2f2f2"]


def test_some_classes_alone(sparseseg: Sparseseg, scan: Path) -> None:
    labels, one, two = (scan.with_name(n) for n in ("l.nii", "one.nii.gz", "two.nii"))
    of = ("--probability-of", "core", "--probability-of", "background")

    sparseseg("segment", scan, labels, *TINY, "--probabilities", one, *of[:2])
    sparseseg("segment", scan, labels, *TINY, "--probabilities", two, *of, "--overwrite")

    single, both = (np.asarray(nib.load(path).dataobj) for path in (one, two))
    assert (single.shape, both.shape) == ((20, 18, 16), (20, 18, 16, 2))
    assert np.array_equal(both[..., 0], single)
    assert one.read_bytes()[3:8] == bytes(5)  # the packed file tells neither its name nor when
    assert both[..., 1].max() == 1 and 0 < single.max() < 1


@pytest.mark.parametrize(
    ("output", "options", "match"),
    [
        ("l.nii", ("--probabilities", "p.nrrd"), "p.nrrd have an unknown ending; use .nii or"),
        ("l.nii", ("--probabilities", "l.nii"), "another result"),
        ("l.nii", ("--names", "l.nii"), "another result"),
        ("l.nii", ("--names", "no/where.tsv"), "is not an existing folder"),
        ("l.nii", ("--probability-of", "core"), "but no file for these"),
        ("l.nii", ("--probabilities", "p.nii", "--probability-of", "x"), "no class 'x'; choose"),
        ("l.dcm", (), "Only for a scan that is a DICOM series"),
        ("l.seg", (), ".mhd, .seg.nrrd, .dcm"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_work(
    sparseseg: Sparseseg,
    scan: Path,
    output: str,
    options: tuple[str, ...],
    match: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(scan.parent)
    before = snapshot(scan.parent)

    answer = sparseseg("segment", scan.name, output, *TINY, *options)

    assert_refused(answer, match)
    assert snapshot(scan.parent) == before


@pytest.mark.parametrize("failing", ["l.seg.nrrd", "n.tsv", "p.nii.gz", "r.json"])
def test_all_of_them_or_none(
    sparseseg: Sparseseg, scan: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of the name of one output appears while the work is done."""
    from napari_sparseseg.session import Session

    run = Session.run

    def run_while_another_program_works(*arguments: object, **options: object) -> object:
        (scan.parent / failing).mkdir()
        return run(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Session, "run", run_while_another_program_works)
    monkeypatch.chdir(scan.parent)
    outputs = ("--names", "n.tsv", "--probabilities", "p.nii.gz", "--report", "r.json")

    answer = sparseseg("segment", scan.name, "l.seg.nrrd", *TINY, *outputs)

    assert_refused(answer, failing)
    assert sorted(p.name for p in scan.parent.iterdir()) == sorted([failing, scan.name])


def test_a_dicom_series_gets_a_dicom_segmentation(
    sparseseg: Sparseseg, scan: Path, make_scan: Callable[..., Volume]
) -> None:
    """The same voxels as the labels of the same run as NIfTI, and of the one series of two."""
    folder, labels, same = (scan.with_name(name) for name in ("dicom", "l.dcm", "l.nii.gz"))
    folder.mkdir()
    data = np.rint(make_scan((20, 18, 16), margin=1).data).astype(np.int16)
    affine = np.array([[-1, 0, 0, 20], [0, 0, 1, -15], [0, -1, 0, 31], [0, 0, 0, 1.0]])
    write_series(folder, data, affine, SeriesNumber=2)
    (folder / "other").mkdir()
    write_series(folder / "other", data[..., ::2], affine, SeriesNumber=7)
    for path in (labels, same):
        answer = sparseseg("segment", folder, path, "--part", "2", *TINY)
        assert (answer.code, answer.err) == (0, "")

    found = highdicom.seg.segread(labels).get_volume(combine_segments=True)
    expected = read_volume(same)
    mine, theirs = (
        {
            (*np.round(20 * (matrix @ [*at, 1])[:3]).astype(int), int(values[tuple(at)]))
            for at in np.argwhere(values > 0)
        }
        for values, matrix in (
            (found.array, np.diag([-1.0, -1, 1, 1]) @ found.affine),
            (expected.data, expected.affine),
        )
    )
    assert mine == theirs
    assert len(mine) > 500
    segment = pydicom.dcmread(labels).SegmentSequence[0]
    assert segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == (
        "SparseSeg tiny-stp"
    )
