"""The ``sparseseg`` command: a run with a page for people, compared with its dense twin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checks import files_up_to, snapshot
from cli_checks import TINY, Sparseseg, assert_refused

from napari_sparseseg.files import read_volume


def run(sparseseg: Sparseseg, scan: Path, *options: object) -> tuple[np.ndarray, dict[str, Any]]:
    """Segment with a page; gives the labels and the data beside the page."""
    labels, page = scan.with_name("labels.nii.gz"), scan.with_name("page.html")
    arguments = ("segment", scan, labels, *TINY, "--report", page, "--overwrite")
    answer = sparseseg(*arguments, *options)
    assert (answer.code, answer.err) == (0, "")
    assert page.read_text().lstrip().lower().startswith("<!doctype html>")
    return read_volume(labels).data, json.loads(page.with_suffix(".json").read_text())


def test_a_page_compares_the_run_with_its_dense_twin(sparseseg: Sparseseg, scan: Path) -> None:
    sparse, facts = run(sparseseg, scan, "--keep-ratio", 0.2)
    dense = scan.with_name("dense.nii.gz")
    sparseseg("segment", scan, dense, *TINY, "--keep-ratio", 1)

    assert facts["report"]["setting"] == {"name": "keep ratio", "value": 0.2}
    assert facts["compared_with"] == "dense twin"
    twin = read_volume(dense).data
    voxels = facts["comparison"]["voxels"]
    assert voxels["added"] == ((sparse > 0) & (twin == 0)).sum()
    assert voxels["lost"] == ((sparse == 0) & (twin > 0)).sum()
    assert sum(voxels.values()) == (sparse != twin).sum() > 0
    page = scan.with_name("page.html").read_text()
    assert "Research use only, not for diagnosis." in page
    assert sorted(p.name for p in scan.parent.iterdir()) == [
        "dense.nii.gz", "labels.nii.gz", "page.html", "page.json", "scan.nii.gz"
    ]  # fmt: skip


def test_a_page_changes_neither_labels_nor_facts_of_the_run(
    sparseseg: Sparseseg, scan: Path
) -> None:
    labels, facts = run(sparseseg, scan, "--keep-ratio", 0.2)
    alone, report = scan.with_name("alone.nii.gz"), scan.with_name("alone.json")
    sparseseg("segment", scan, alone, *TINY, "--keep-ratio", 0.2, "--report", report)

    np.testing.assert_array_equal(labels, read_volume(alone).data)
    plain = json.loads(report.read_text())
    for key in ("tokens", "gmacs", "classes", "setting", "sparsifier", "volume"):
        assert facts["report"][key] == plain[key]


@pytest.mark.parametrize("options", [("--keep-ratio", 1), ("--model", "tiny-dense")])
def test_a_run_that_leaves_nothing_out_is_its_own_dense_twin(
    sparseseg: Sparseseg, scan: Path, options: tuple[object, ...]
) -> None:
    _, facts = run(sparseseg, scan, *options)

    assert facts["compared_with"] == "dense twin"
    assert facts["comparison"]["voxels"] == {"added": 0, "lost": 0, "changed": 0}
    assert facts["comparison"]["mean_dice"] == 1


def test_a_control_without_a_setting_is_compared_with_nothing(
    sparseseg: Sparseseg, scan: Path
) -> None:
    _, facts = run(sparseseg, scan, "--sparsifier", "truncated")

    assert facts["report"]["sparsifier"] == "truncated"
    assert facts["compared_with"] is None and facts["comparison"] is None


@pytest.mark.parametrize("taken", ["page.html", "page.json", "labels.json"])
def test_a_page_or_its_data_in_the_way_is_refused_before_the_work(
    sparseseg: Sparseseg, scan: Path, taken: str
) -> None:
    scan.with_name(taken).write_text("mine")
    before = snapshot(scan.parent)
    report = scan.with_name(taken).with_suffix(".html")
    arguments = ("segment", scan, scan.with_name("labels.nii"), "--model", "no such model")
    answer = sparseseg(*arguments, "--report", report)

    assert_refused(answer, f"{taken} exists already")
    assert snapshot(scan.parent) == before


def test_data_beside_a_page_never_replace_another_result(sparseseg: Sparseseg, scan: Path) -> None:
    trace = scan.with_name("trace")
    trace.mkdir()
    others = ("--trace", trace, "--report", trace / "trace.html")

    answer = sparseseg("segment", scan, scan.with_name("labels.nii"), *TINY, *others)

    assert_refused(answer, "trace.json is the scan itself or another result")


@pytest.mark.parametrize("old", [False, True], ids=["new outputs", "old outputs"])
def test_a_page_that_fails_takes_the_labels_back(
    sparseseg: Sparseseg, scan: Path, old: bool
) -> None:
    """The page, with its pictures, is the largest file."""
    labels, page = scan.with_name("labels.nii.gz"), scan.with_name("page.html")
    if old:
        labels.write_text("mine")
        page.write_text("mine")
    before = snapshot(scan.parent)
    with files_up_to(15_000):
        answer = sparseseg("segment", scan, labels, *TINY, "--report", page, "--overwrite")

    assert_refused(answer, "page.html")
    assert snapshot(scan.parent) == before
