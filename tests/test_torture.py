"""The evidence of reliability: how attempts are counted, and the page and exit code of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.torture import __main__ as command
from benchmarks.torture.page import defects, make_page
from benchmarks.torture.rows import Row
from benchmarks.torture.suites import rows_of
from napari_sparseseg.errors import InputError
from tests.faults.cycles import Cycles, Held, grown

SENTENCE = "The scan is damaged; export it again."


def refuse(message: str) -> None:
    raise InputError(message)


def crash() -> None:
    raise KeyError("voxels")


def test_an_attempt_is_handled_refused_or_a_defect() -> None:
    row = Row("all")
    row.attempt(lambda: None)
    row.attempt(lambda: refuse(SENTENCE))
    row.attempt(lambda: refuse(SENTENCE))
    row.attempt(crash)
    row.attempt(lambda: refuse("Error 7"))

    assert (row.tried, row.handled, row.refused) == (5, 1, 2)
    assert row.defects == ["KeyError: 'voxels'", "no sentence to act on: Error 7"]
    assert row.messages == [SENTENCE]


def test_problems_of_one_attempt_are_one_defect() -> None:
    row = Row("two")
    row.count([])
    row.count(["a file was left", "a thread was left"])

    assert (row.handled, row.defects) == (1, ["a file was left; a thread was left"])


def ending(test: str, outcome: str, *messages: str, problem: str = "") -> dict[str, Any]:
    return {
        "file": "test_a.py", "test": test, "outcome": outcome, "messages": list(messages),
        "problem": problem,
    }  # fmt: skip


def test_tests_become_rows_by_their_names() -> None:
    endings = [
        ending("test_frames_are_read", "passed"),
        ending("test_frames_are_read", "passed"),
        ending("test_frames_are_read", "failed", problem="the third is missing"),
        ending("test_slices_are_refused", "passed", SENTENCE),
        ending("test_a_card_is_left", "skipped"),
    ]
    read, slices = rows_of(endings)

    assert (read.what, read.handled, read.refused) == ("frames are read", 2, 0)
    assert read.defects == ["the third is missing"]
    assert (slices.handled, slices.refused, slices.messages) == (0, 1, [SENTENCE])


def held(**changed: float) -> Held:
    facts = {"handles": 5, "threads": 2, "files": 3, "objects": 1000, "megabytes": 100.0}
    return Held(**(facts | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("after", "growth", "match"),
    [
        (held(), 7.0, ""),
        (held(megabytes=300.0), 7.0, ""),  # for a moment only
        (held(handles=4, objects=1049), 0.0, ""),
        (held(handles=6), 0.0, "handles: 5 before, 6 after"),
        (held(threads=3), 0.0, "threads"),
        (held(files=4), 0.0, "files"),
        (held(objects=1050), 0.0, "objects"),
        (held(), 9.0, "memory: 9.0 MB more"),
    ],
)
def test_what_fifty_rounds_may_hold(after: Held, growth: float, match: str) -> None:
    found = "; ".join(grown(Cycles("work", 50, held(), after, growth), 8.0))

    assert (match in found) if match else not found


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the path of results; the two areas of the command count how often they are tried."""
    rows = {"inputs": Row("sound files", handled=3), "faults": Row("killed", 7, 1, [], [SENTENCE])}
    rows["faults"].figures["kB"] = 1.5
    areas = {name: lambda torture, row=row: iter([row]) for name, row in rows.items()}
    monkeypatch.setattr(command, "AREAS", areas)
    return tmp_path / "results" / "reliability.json"


def run(results: Path, *options: str) -> tuple[int, str]:
    page = results.with_suffix(".md")
    arguments = ["run", "--out", str(results), "--to", str(page), *options]
    answer = CliRunner().invoke(command.app, arguments)
    return answer.exit_code, page.read_text()


def test_the_command_writes_what_it_tried_and_a_page(results: Path) -> None:
    code, page = run(results, "--rounds", "5")

    found = json.loads(results.read_text())
    assert code == 0
    assert found["areas"]["inputs"]["rounds"] == 5
    assert found["versions"]["numpy"] and found["machine"]["cores"]
    assert "Of 11 attempts **none** ended in a defect" in page
    assert "| killed | 8 | 7 | 1 | 0 | 1.5 |" in page
    assert f"killed: “{SENTENCE}”" in page
    assert page.count("Not tried yet.") == 4


def test_a_defect_is_on_the_page_and_makes_the_exit_code_1(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Row("killed", 7, defects=["labels.nii is half"])
    monkeypatch.setitem(command.AREAS, "faults", lambda torture: iter([row]))
    code, page = run(results)

    assert code == 1
    assert "**1** ended in a defect" in page
    assert "* killed: labels.nii is half" in page
    assert defects(json.loads(results.read_text())) == ["faults, killed: labels.nii is half"]


def test_areas_are_tried_by_name_or_where_they_are_missing(results: Path) -> None:
    run(results, "--only", "inputs", "--rounds", "1")
    run(results, "--missing", "--rounds", "2")

    areas = json.loads(results.read_text())["areas"]
    assert {name: area["rounds"] for name, area in areas.items()} == {"inputs": 1, "faults": 2}
    assert CliRunner().invoke(command.app, ["run", "--only", "weather"]).exit_code == 2


def test_the_shipped_page_is_the_one_of_the_shipped_results(repository: Path) -> None:
    results = repository / "benchmarks" / "results" / "reliability.json"
    if not results.exists():
        pytest.skip("nothing was tried yet")

    page = (repository / "docs" / "reliability.md").read_text()
    assert page == make_page(json.loads(results.read_text()))
