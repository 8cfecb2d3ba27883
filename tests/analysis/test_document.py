"""The page of an inspection and its data: what they hold, in which order, and what never."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_sparseseg.analysis.document import NOTE_FIELD, PICTURED, middle, write_document
from napari_sparseseg.analysis.inspection import Inspection, inspect
from napari_sparseseg.analysis.planes import draw_planes
from napari_sparseseg.analysis.terms import terms
from napari_sparseseg.errors import Cancelled, OutputError
from napari_sparseseg.means import Means
from napari_sparseseg.methods import METHODS
from napari_sparseseg.progress import CancelToken
from napari_sparseseg.report import NOTICE, make_report
from napari_sparseseg.session import Segmentation
from napari_sparseseg.tokens import TokenGrid, TokenTrace
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import ModelInfo
from tests.analysis.sweeps import point, swept

SCRIPT = "<script>alert('class')</script>"
TITLE = "Made up <script>alert('title')</script> & co"
CLASSES, COLORS = ("background", "shell", SCRIPT), ("#000000", "#cd6d4f", "#1fa35c")
PATIENT = "DOE^JANE"
SHAPE = (48, 16, 16)
AFFINE = np.array([[1, 0, 0, 123.456], [0, 1, 0, -77.125], [0, 0, 2, 31.062], [0, 0, 0, 1.0]])
SHA = "5a" * 32
VOID = {"meta", "img", "source", "rect", "br", "link"}


@pytest.fixture(autouse=True, scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Register the made-up model, without weights: only what is known of it counts here."""
    folder = tmp_path_factory.mktemp("weights")
    entry = {
        "name": INFO.name,
        "file": INFO.path.name,
        "sha256": SHA,
        "metadata": INFO.metadata(),
    }
    (folder / "index.json").write_text(json.dumps({"models": [entry]}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSESEG_WEIGHTS", str(folder))
        yield


INFO = ModelInfo(
    "made-up-stp", TITLE, "stp", "made-up scans", 1.0, CLASSES, COLORS, 0.5, {}, "CC-BY-4.0",
    Path("made-up-stp.safetensors"),
)  # fmt: skip


def volume(data: np.ndarray) -> Volume:
    return Volume(data, AFFINE, PATIENT)


def make_trace() -> TokenTrace:
    """Six tokens along R, two along A and S: air, left at stage 1, at stage 2, then kept."""
    grid = TokenGrid.over(SHAPE, AFFINE)
    left, air = np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, bool)
    air[0], left[1], left[2] = True, 1, 2
    blocks = np.where(air, 0, np.where(left > 0, left, 3))
    confidence = np.full(grid.shape, 0.9, np.float32)
    confidence[air] = np.nan
    confidence[1, 1, 1] = 0.4
    return TokenTrace(
        grid, "stp", (1, 2), air, np.zeros((2, *grid.shape), np.float32), left,
        np.stack([blocks > block for block in range(3)]), confidence=confidence,
    )  # fmt: skip


def make_result(labels: np.ndarray, setting: float, trace: TokenTrace | None) -> Segmentation:
    report = make_report(
        INFO,
        weights_sha256=SHA,
        sparsifier="stp",
        setting={"name": "keep ratio", "value": setting},
        device="cpu",
        precision="float32",
        seed=3,
        means=Means(trace=False),
        overlap=0.25,
        part="2.1",
        notes=("The sform was used.",),
        labels=volume(labels),
        tokens=trace.counts() if trace else {},
        gmacs={"run": 12.5, "dense": 50.0, "encoder": 3.0, "encoder_dense": 30.0},
        seconds={"preprocess": 1.0, "first_stage": 0.25, "sparse_network": 2.0, "restore": 0.5},
        peak_memory_mb=1234.0,
        memory={"budget_mb": 2048.0, "estimate_mb": 300.25, "peak_mb": 120.0, "steps": []},
    )
    return Segmentation(volume(labels), CLASSES, COLORS, report, trace)


@pytest.fixture(scope="module")
def results() -> tuple[Volume, Segmentation, Segmentation]:
    """Give a scan, a run and its dense twin: they differ in 4 voxels of one structure."""
    rng = np.random.default_rng(0)
    grey = rng.normal(100, 10, SHAPE).astype(np.float32)
    dense = np.zeros(SHAPE, np.uint8)
    dense[8:40, 2:14, 2:14] = 1
    dense[18:22, 3:7, 3:7] = 2  # 64 voxels in a token that left at stage 2
    sparse = dense.copy()
    sparse[18, 3, 3:7] = 1
    return volume(grey), make_result(sparse, 0.3, make_trace()), make_result(dense, 1.0, None)


@pytest.fixture(scope="module")
def found(results: tuple[Volume, Segmentation, Segmentation]) -> Inspection:
    """Give what is found of the run, against its dense twin."""
    scan, sparse, dense = results
    return inspect(scan, sparse, dense=dense)


class Page(HTMLParser):
    """What a page holds; raises where tags do not match."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.sections: dict[str, str] = {}
        self.pictures: dict[str, list[bytes]] = {}
        self.style = ""
        self.here = ""
        self.source = file.read_text()
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        if self.here:
            self.sections[self.here] += " "  # a cell does not run into the next one
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.here = values["id"] or ""
            self.sections[self.here], self.pictures[self.here] = "", []
        for name in ("src", "srcset", "href", "action", "data", "poster"):
            if values.get(name):
                self.links.append(values[name] or "")
                png = b64decode((values[name] or "").partition("base64,")[2])
                self.pictures[self.here].append(png)

    def handle_endtag(self, tag: str) -> None:
        assert tag in VOID or self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.style += data
        elif self.here:
            self.sections[self.here] += data

    def text(self, section: str) -> str:
        """Return the words of a section, with single spaces."""
        return " ".join(self.sections[section].split())


def written(inspection: Inspection, folder: Path, **kwargs: Any) -> tuple[Page, dict[str, Any]]:
    file = folder / "page.html"
    write_document(inspection, file, **kwargs)
    assert sorted(folder.iterdir()) == [file, folder / "page.json"]
    return Page(file), json.loads((folder / "page.json").read_text(), parse_constant=pytest.fail)


OWN = (point(1, (1, 1)), point(0.5, (1, 0.99)), point(0.2, (0.9, 0.9)))
DRAWN = (OWN[0], point(0.5, (0.8, 0.7), sparsifier="random"))
SWEEP = swept(OWN, DRAWN)


@pytest.fixture(scope="module")
def written_once(
    found: Inspection, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Page, dict[str, Any]]:
    """Give the page and the data of the inspection, with a sweep."""
    return written(found, tmp_path_factory.mktemp("document"), sweep=SWEEP)


@pytest.fixture
def page(written_once: tuple[Page, dict[str, Any]]) -> Page:
    """Give the page of the inspection, with a sweep."""
    return written_once[0]


@pytest.fixture
def data(written_once: tuple[Page, dict[str, Any]]) -> dict[str, Any]:
    """Give the data beside the page."""
    return written_once[1]


def reference(inspection: Inspection, **kwargs: Any) -> Inspection:
    """Compare with a reference whose file bears the patient's name; all of it is shell."""
    truth = np.where(inspection.result.labels.data > 0, 1, 0).astype(np.int16)
    title = f"reference {PATIENT}.nii.gz"
    return inspect(inspection.scan, inspection.result, other=volume(truth), other_title=title,
                   **kwargs)  # fmt: skip


def test_page_is_one_file_that_loads_and_runs_nothing(page: Page):
    assert page.links
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {*page.tags}
    assert "url(" not in page.source and "@import" not in page.source
    assert "http:" not in page.source and "https:" not in page.source
    assert "prefers-color-scheme: dark" in page.style and "@media print" in page.style


def test_sections_come_in_the_order_in_which_they_matter(page: Page):
    assert [*page.sections] == [
        "run", "figures", "notes", "planes", "errors", "comparison", "structures", "curve", "terms",
    ]  # fmt: skip
    assert page.source.count(NOTICE) == 2
    assert page.source.index(NOTICE) < page.source.index('id="run"')


def test_what_was_run_is_told(page: Page):
    text = page.text("run")

    for fact in (TITLE, "made-up-stp", "STP + MTA", METHODS["stp"].source, "keep ratio 0.3",
                 "48 × 16 × 16 voxels of 1.00 × 1.00 × 2.00 mm, orientation RAS", "made-up scans",
                 "working spacing of 1 mm", "CC-BY-4.0", SHA, "cpu, float32"):  # fmt: skip
        assert fact in text


def test_facts_of_other_weights_are_not_told(found: Inspection, tmp_path: Path):
    report = {**found.result.report, "weights_sha256": "66" * 32}
    other = replace(found, result=replace(found.result, report=report))
    text = written(other, tmp_path)[0].text("run")

    assert "made-up-stp" in text and "66" * 32 in text
    assert "CC-BY-4.0" not in text and "made-up scans" not in text


def test_key_figures_are_those_of_the_report(page: Page):
    text = page.text("figures")

    # 24 tokens: 4 of air, 4 and 4 that left, 12 kept
    for figure in ("Tokens kept 12 of 20 that are not air", "Tokens pruned 8", "air 4 of 24",
                   "GMACs 12.50 of 50.00 dense, 25 %", "3.00 of 30.00 dense, 10 %",
                   "3.75 s 2.00 s behind the first stage", "1,234 MB"):  # fmt: skip
        assert figure in text


def test_notes_come_worst_first_each_with_its_planes(found: Inspection, page: Page):
    text = page.text("notes")

    # the spot lost to the shell, the shell grown by it, and a token that is unsure
    assert [note.voxels for note in found.notes] == [4, 4, 0]
    places = [text.index(" ".join(note.text.split())) for note in found.notes]
    assert places == sorted(places)
    # 4 of its 64 voxels went to the shell; the middle ones are (18, 3, 4) and (18, 3, 5)
    spot = tuple((AFFINE @ (18, 3, 4, 1))[:3].tolist())
    assert found.comparison is not None
    expected = draw_planes(found.scan, found.result.labels, COLORS, found.result.trace, spot,
                           found.comparison.difference, field=NOTE_FIELD)  # fmt: skip
    assert page.pictures["notes"][0] == expected
    assert "R 141.5, P 74.1, S 39.1 mm" in text
    assert len(page.pictures["notes"]) == 3


def test_notes_beyond_the_tenth_are_in_a_table(found: Inspection, tmp_path: Path):
    many = tuple(
        replace(found.notes[0], structure="shell", voxels=n, share=n / 100)
        for n in range(PICTURED + 3, 0, -1)
    )
    page, data = written(replace(found, notes=many), tmp_path)

    assert len(page.pictures["notes"]) == PICTURED
    assert "the first 10 of 13 are shown" in page.text("notes")
    table = page.text("notes").partition("The other notes")[2]
    assert re.findall(r"(1\d) shell", table) == ["11", "12", "13"]
    assert table.index("3.0 %") < table.index("2.0 %") < table.index("1.0 %")
    assert len(data["notes"]) == 13


def test_planes_go_through_the_middle_of_the_segmentation_or_the_point(
    found: Inspection, page: Page, tmp_path: Path
):
    def picture(place: tuple[float, float, float]) -> bytes:
        assert found.comparison is not None
        return draw_planes(found.scan, found.result.labels, COLORS, found.result.trace, place,
                           found.comparison.difference)  # fmt: skip

    chosen, _ = written(found, tmp_path, point=(140.0, -70.0, 40.0))

    # 8 to 39 along R, 2 to 13 along A and S
    centre = tuple((AFFINE @ (23.5, 7.5, 7.5, 1))[:3].tolist())
    assert page.pictures["planes"] == [picture(centre)]
    assert chosen.pictures["planes"] == [picture((140.0, -70.0, 40.0))]
    assert "Through R 140.0, P 70.0, S 40.0 mm." in chosen.text("planes")


def test_the_middle_of_no_structure_is_that_of_the_scan():
    nothing = np.zeros((3, 5, 7), np.uint8)

    assert middle(Volume(nothing, np.eye(4))) == (1, 2, 3)


def test_legend_names_what_the_planes_show(page: Page):
    text = page.text("planes")

    for entry in ("shell", SCRIPT, "token pruned at stage 1", "token pruned at stage 2",
                  "voxels changed, against the dense twin"):  # fmt: skip
        assert entry in text
    assert "voxels added" not in text and "voxels lost" not in text


def test_errors_are_told_by_the_fate_of_their_tokens(found: Inspection, page: Page):
    text = page.text("errors")

    assert found.attribution is not None and found.attribution.verdict in text
    # a sixth of all voxels each; a fifth of those that are not air; 4 errors in 2048 voxels
    assert "pruned at stage 2 4 2,048 17 % 4 100 % 2.0" in text
    assert "pruned at stage 2 20 % of the tissue 100 % of the errors" in text
    assert "pruned at stage 1 20 % of the tissue 0 % of the errors" in text
    assert "air 4 2,048 17 % 0 0 % 0.0" in text
    assert "air 0 %" not in text  # no bars for it
    widths = re.findall(r'class="(\w+)" x="220" y="\d+" width="([\d.]+)"', page.source)
    assert widths[2:4] == [("tissue", "68.0"), ("errors", "340.0")]
    assert "does not make" not in text


def test_errors_that_the_dense_twin_does_not_make_are_told_beside_a_reference(
    found: Inspection, results: tuple[Volume, Segmentation, Segmentation], tmp_path: Path
):
    page, _ = written(reference(found, dense=results[2]), tmp_path)

    assert "errors that the dense twin does not make, voxels" in page.text("errors")
    # 60 voxels of the structure that the reference calls shell; the dense twin errs there too
    assert "pruned at stage 2 4 2,048 17 % 60 100 % 29.3 0" in page.text("errors")
    assert "was not compared" not in page.text("notes")


def test_comparison_has_a_row_for_each_structure_that_is_there(
    found: Inspection, page: Page, tmp_path: Path
):
    text = page.text("comparison")

    # 60 of 64 voxels of 2 mm3 are left: Dice 120 / 124; the surface moves by 1 mm along R at most
    assert f"{SCRIPT} 0.968 1.0 0.12 0.13 −0.01" in text
    assert "0 voxels added, 0 lost, 4 changed." in text
    assert "In neither" not in text
    only_shell = np.where(found.result.labels.data > 0, 1, 0).astype(np.uint8)
    result = replace(found.result, labels=volume(only_shell))
    shell = inspect(found.scan, result, other=volume(only_shell), other_title="another run")
    text = written(shell, tmp_path)[0].text("comparison")
    assert "shell 1.000 0.0" in text and f"In neither: {SCRIPT}." in text


def test_tokens_of_each_structure_are_counted_by_stage(page: Page):
    text = page.text("structures")

    # the spot lies in one token; the shell in all but the 4 of air and the 4 at the other end
    assert "structure tokens pruned at stage 1 pruned at stage 2 kept air" in text
    assert f"{SCRIPT} 1 0 1 (100 %) 0 0" in text
    assert "shell 16 4 (25 %) 4 (25 %) 8 (50 %) 0" in text


def test_curve_comes_with_its_table_and_a_proposal(page: Page, data: dict[str, Any]):
    text = page.text("curve")

    # the mean falls by 0.005 at 0.5, and by 0.1 at 0.2
    assert "costs no more than 0.005 mean Dice (to the dense twin) on this scan is 0.5." in text
    assert "own, proposed 0.5 0.995 1.50 5.00 50 % 50" in text
    assert "random 0.5 0.750 1.50 5.00 50 % 50" in text
    assert len(page.pictures["curve"]) == 2 and len({*page.pictures["curve"]}) == 2
    assert all(png.startswith(b"\x89PNG") for png in page.pictures["curve"])
    assert [p["setting"] for p in data["sweep"]["points"]] == [1, 0.5, 0.2]


def test_a_run_that_was_compared_with_nothing_says_so(
    results: tuple[Volume, Segmentation, Segmentation], tmp_path: Path
):
    alone = inspect(results[0], results[1])
    page, data = written(replace(alone, notes=()), tmp_path)

    assert "not compared with its dense twin" in page.text("notes")
    assert "errors" not in page.sections and "comparison" not in page.sections
    assert data["comparison"] is None and data["compared_with"] is None


def test_names_are_escaped(page: Page, data: dict[str, Any]):
    assert "script" not in page.tags
    assert page.source.count("&lt;script&gt;") > 3
    assert SCRIPT in data["comparison"]["classes"]


def test_nothing_of_the_header_is_told(found: Inspection, tmp_path: Path):
    write_document(reference(found), tmp_path / "page.html")

    for file in tmp_path.iterdir():
        text = re.sub('base64,[^"]*', "", file.read_text())
        assert "shell" in text
        assert "DOE" not in text and "JANE" not in text
        assert str(tmp_path) not in text
        assert not any(str(abs(x)) in text for x in AFFINE[:3, 3])


def test_data_are_what_was_found(found: Inspection, data: dict[str, Any], tmp_path: Path):
    _, other = written(reference(found), tmp_path)

    assert data == json.loads(json.dumps({**found.to_dict(), "sweep": SWEEP.to_dict()}))
    assert data["report"] == found.result.report
    assert other["compared_with"] == "reference" and other["sweep"] is None


def test_nothing_is_written_where_one_file_cannot_be(found: Inspection, tmp_path: Path):
    (tmp_path / "page.json").write_text("older")

    with pytest.raises(OutputError, match="page.json exists already"):
        write_document(found, tmp_path / "page.html")

    assert [file.name for file in tmp_path.iterdir()] == ["page.json"]
    assert (tmp_path / "page.json").read_text() == "older"
    write_document(found, tmp_path / "page.html", overwrite=True)
    assert json.loads((tmp_path / "page.json").read_text())["notes"]


def test_a_page_that_cannot_be_made_leaves_the_older_one(found: Inspection, tmp_path: Path):
    for name in ("page.html", "page.json"):
        (tmp_path / name).write_text("older")
    broken = replace(
        found, result=replace(found.result, colors=("#000000", "no colour", "#ffffff"))
    )

    with pytest.raises(ValueError, match="no colour"):
        write_document(broken, tmp_path / "page.html", overwrite=True)

    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "page.html": "older", "page.json": "older",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["page.json", "page.pdf", "page"])
def test_other_endings_are_refused(found: Inspection, tmp_path: Path, name: str):
    with pytest.raises(OutputError, match=r"use \.html"):
        write_document(found, tmp_path / name)

    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("method", METHODS)
def test_terms_are_sentences_with_the_paper_of_the_method(method: str):
    found = terms(method, {"dense twin", "other", "confidence", "random"})

    names = [term.name.lower() for term in found]
    assert len(set(names)) == len(names)
    assert METHODS[method].fate in names
    assert {"dice", "hd95", "dense twin", "confidence", "random"} <= {*names}
    assert all(re.fullmatch(r"[A-Z0-9].*[^.]\.", term.text) for term in found)
    if METHODS[method].source:
        assert METHODS[method].source in {term.source for term in found}
    assert "dice" not in {term.name.lower() for term in terms(method, set())}


class Late(CancelToken):
    """Is set when it is asked for the last time."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self._times = times

    def raise_if_cancelled(self) -> None:
        self._times -= 1
        if not self._times:
            self.cancel()
        super().raise_if_cancelled()


def test_each_picture_is_told_of_and_cancelling_leaves_no_file(tmp_path: Path, found: Inspection):
    total, told = 1 + len(found.notes), []
    assert total > 1
    for times in range(1, total + 2):  # once a picture, and once before anything is written
        told.clear()
        with pytest.raises(Cancelled):
            write_document(
                found,
                tmp_path / "page.html",
                progress=lambda *step: told.append(step),
                cancel=Late(times),
            )
        assert list(tmp_path.iterdir()) == []
    assert told == [(step, total, "Writing the report") for step in range(total)]


def test_the_proposal_costs_what_the_user_allows(tmp_path: Path, found: Inspection):
    page, _ = written(found, tmp_path, sweep=SWEEP, tolerance=0.6)

    assert "costs no more than 0.6 mean Dice (to the dense twin) on this scan is 0.2." in page.text(
        "curve"
    )
