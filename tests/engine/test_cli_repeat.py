"""``sparseseg segment --from-report``: the run of a report, and whether it gives the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from checks import snapshot
from cli_checks import TINY, Sparseseg, assert_refused

from napari_sparseseg.files import read_volume, write_volume
from napari_sparseseg.volume import Volume
from tests.dicom.series import AXIAL, header, write_series

SETTINGS = (*TINY, "--keep-ratio", "0.4", "--sparsifier", "random")


@pytest.fixture
def report(sparseseg: Sparseseg, scan: Path) -> Path:
    """Segment the scan with a control; gives the report of it."""
    path = scan.with_name("run.json")
    answer = sparseseg("segment", scan, scan.with_name("first.nii.gz"), *SETTINGS, "--report", path)
    assert (answer.code, answer.err) == (0, "")
    return path


def change(report: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(report.read_text())
    edit(data)
    report.write_text(json.dumps(data))


def test_a_report_is_enough_to_repeat_a_run(sparseseg: Sparseseg, scan: Path, report: Path) -> None:
    again, second = scan.with_name("again.nii.gz"), scan.with_name("second.json")
    answer = sparseseg("segment", scan, again, "--from-report", report, "--report", second)

    assert (answer.code, answer.err) == (0, "")
    assert "Repeated the labels are the same as those of the report\n" in answer.out
    assert "Changed" not in answer.out
    np.testing.assert_array_equal(
        read_volume(again).data, read_volume(scan.with_name("first.nii.gz")).data
    )
    old, new = (json.loads(path.read_text()) for path in (report, second))
    measured = ("seconds", "peak_memory_mb", "memory")
    assert {k: v for k, v in new.items() if k not in measured} == {
        k: v for k, v in old.items() if k not in measured
    }
    assert old["setting"] == {"name": "keep ratio", "value": 0.4}


def test_other_labels_end_with_1_and_a_sentence(
    sparseseg: Sparseseg, scan: Path, report: Path
) -> None:
    change(report, lambda data: data["checksums"].update(labels="0" * 64))
    change(report, lambda data: data["versions"].update(torch="1.0"))
    again = scan.with_name("again.nii.gz")

    answer = sparseseg("segment", scan, again, "--from-report", report)

    assert (answer.code, answer.err) == (1, "")
    assert "Repeated the labels differ from those of the report\n" in answer.out
    assert "Changed  torch was 1.0 and is " in answer.out
    assert again.exists()


def test_what_no_option_sets_comes_from_the_report_too(
    sparseseg: Sparseseg, scan: Path, report: Path
) -> None:
    change(report, lambda data: data.update(seed=6, overlap=0.5))
    change(report, lambda data: data["means"].update(pack_windows=False))
    again, second = scan.with_name("again.nii.gz"), scan.with_name("second.json")

    sparseseg("segment", scan, again, "--from-report", report, "--report", second)

    old, new = (json.loads(path.read_text()) for path in (report, second))
    assert {key: new[key] for key in ("seed", "overlap", "means")} == {
        key: old[key] for key in ("seed", "overlap", "means")
    }


def test_another_scan_is_refused_unless_it_is_meant(
    sparseseg: Sparseseg, scan: Path, report: Path
) -> None:
    volume, other = read_volume(scan), scan.with_name("other.nii.gz")
    write_volume(Volume(volume.data[:, ::-1], volume.affine), other)
    again = scan.with_name("again.nii.gz")

    refused = sparseseg("segment", other, again, "--from-report", report)
    assert_refused(refused, "not the scan of the report")
    assert not again.exists()

    answer = sparseseg("segment", other, again, "--from-report", report, "--other-scan")
    assert answer.code == 0
    assert "Repeated none: the settings of the report were used on another scan\n" in answer.out


@pytest.mark.parametrize(
    ("edit", "options", "match"),
    [
        (lambda d: d.update(weights_sha256="1" * 64), (), "has other weights than those"),
        (lambda d: d.update(weights_sha256="1" * 64, model="x"), (), "x, which is not installed"),
        (lambda d: d.update(device="cuda:7"), (), "made on 'cuda:7', which is not available"),
        (lambda d: d.pop("checksums"), (), "does not tell which scan"),
        (lambda d: d.pop("means"), (), "does not hold what a repetition needs"),
        (lambda d: d.update(overlap="0.1"), (), "does not hold what a repetition needs"),
        (lambda d: d.update(seed=1e400), (), "does not hold what a repetition needs"),
        (lambda d: None, ("--keep-ratio", "0.5"), "--keep-ratio 0.5 contradicts the report"),
        (lambda d: None, ("--sparsifier", "truncated"), "--sparsifier truncated contradicts"),
        (lambda d: None, ("--precision", "bfloat16"), "--precision bfloat16 contradicts"),
        (lambda d: None, ("--part", "2"), "--part 2 contradicts the report, which says that there"),
        (lambda d: None, ("--model", "tiny-dtop"), "tiny-dtop has other weights"),
    ],
)
def test_what_cannot_be_repeated_is_refused(
    sparseseg: Sparseseg,
    scan: Path,
    report: Path,
    edit: Callable[[dict[str, Any]], object],
    options: tuple[str, ...],
    match: str,
) -> None:
    change(report, edit)
    before = snapshot(scan.parent)
    answer = sparseseg(
        "segment", scan, scan.with_name("again.nii.gz"), "--from-report", report, *options
    )
    assert_refused(answer, match)
    assert snapshot(scan.parent) == before


@pytest.mark.parametrize("text", ["", "[]", "{", '{"report": 3}', "[" * 100_000, "\0"])
def test_what_is_no_report_is_refused(sparseseg: Sparseseg, scan: Path, text: str) -> None:
    path = scan.with_name("run.json")
    path.write_text(text)
    answer = sparseseg("segment", scan, scan.with_name("again.nii.gz"), "--from-report", path)
    assert_refused(answer, "run.json")


def test_a_report_is_not_replaced_by_what_is_made_of_it(
    sparseseg: Sparseseg, scan: Path, report: Path
) -> None:
    text = report.read_text()
    page = report.with_suffix(".html")  # whose data are the report
    answer = sparseseg(
        "segment", scan, scan.with_name("again.nii.gz"), "--from-report", page, "--report", report,
        "--overwrite",
    )  # fmt: skip
    assert_refused(answer, "is the scan itself or another result")
    assert report.read_text() == text


def test_other_scan_alone_is_refused(sparseseg: Sparseseg, scan: Path) -> None:
    answer = sparseseg("segment", scan, scan.with_name("again.nii.gz"), "--other-scan")
    assert_refused(answer, "goes with --from-report")


def test_the_part_comes_from_the_report(
    sparseseg: Sparseseg, scan: Path, make_scan: Callable[..., Volume]
) -> None:
    data = np.rint(make_scan((20, 18, 16), margin=1).data).astype(np.int16)
    folder, many = scan.with_name("dicom"), scan.with_name("many.nii.gz")
    affine = AXIAL @ np.diag([1.4, 1.25, 0.4, 1])
    for number in (2, 7):
        voxels = data[:, :, :: 1 if number == 2 else 2]
        write_series(folder, voxels, affine, shared=header("MR", number))
    nib.save(nib.Nifti1Image(np.stack([data, data[::-1]], -1), np.eye(4)), many)
    for source, part in ((folder, "7"), (many, "2")):
        first, again, report = (
            scan.with_name(f"{part}-{name}") for name in ("first.nii", "again.nii", "run.json")
        )
        made = sparseseg("segment", source, first, "--part", part, "--report", report, *SETTINGS)
        assert made.code == 0, made.err
        assert json.loads(report.read_text())["part"] == part

        answer = sparseseg("segment", source, again, "--from-report", report)

        assert (answer.code, answer.err) == (0, "")
        assert "the labels are the same" in answer.out
        refused = sparseseg("segment", source, first, "--part", "1", "--from-report", report)
        assert_refused(refused, f"--part 1 contradicts the report, which says {part}; ")
