"""A planted failure is found: the first note names it, and its errors are put down to pruning."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_sparseseg.analysis.attribution import Share
from napari_sparseseg.analysis.document import write_document
from napari_sparseseg.analysis.inspection import Inspection, inspect
from napari_sparseseg.analysis.notes import safety_notes
from napari_sparseseg.analysis.patches import TokenIndex
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.session import Segmentation
from napari_sparseseg.volume import Volume
from tests.analysis.planted import (
    SPOT,
    SPOT_ROW,
    TOP_ROW,
    leaving_out,
    planted_scan,
    trained_model,
    true_labels,
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """A tiny network gains nothing from more threads, which wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Runs:
    """The planted run beside its dense twin, and what became of the tokens that left."""

    fate: str
    scan: Volume
    result: Segmentation
    dense: Segmentation

    def inspect(self, **options: Volume | str) -> Inspection:
        return inspect(self.scan, self.result, dense=self.dense, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=["dtop", "stp"])
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    model = trained_model(tmp_path_factory.mktemp("weights"), request.param)
    segmenter, scan = Segmenter(model, "cpu", "float32"), planted_scan()
    exits = model.method == "dtop"
    rule = leaving_out(SPOT_ROW, TOP_ROW, exits=exits)
    with pytest.MonkeyPatch.context() as patch, segmenter.open(scan) as session:
        patch.setattr(segmenter.network.sparsifier, "decide", rule)
        fate = f"{'exited' if exits else 'pruned'} at stage 1"
        return Runs(fate, scan, session.run(0.5), session.run(1.0))


def test_page_shows_it_first(runs: Runs, tmp_path: Path) -> None:
    inspection = runs.inspect()
    write_document(inspection, tmp_path / "page.html")
    page = unescape((tmp_path / "page.html").read_text())
    data = json.loads((tmp_path / "page.json").read_text())

    first, *others = inspection.notes
    places = [page.index(note.text) for note in (first, *others)]
    assert places == sorted(places)
    assert inspection.attribution is not None
    assert inspection.attribution.verdict in page
    assert data["notes"][0]["structure"] == first.structure == runs.result.classes[2]


def test_the_plan_worked(runs: Runs) -> None:
    """The dense twin has the spot and little else of its class, the result next to none of it.

    Two tokens left, and no other.
    """
    spot = runs.dense.labels.data == 2
    assert spot[SPOT].mean() > 0.9
    assert spot.sum() < 1.3 * spot[SPOT].size
    # what exits is shell; what is pruned is drawn blindly, and a voxel may come out as spot
    assert (runs.result.labels.data[SPOT] == 2).sum() <= (0 if "exited" in runs.fate else 6)
    trace = runs.result.trace
    tissue = np.flatnonzero(~trace.air)
    assert len(tissue) == 27
    assert np.flatnonzero(trace.left_stage).tolist() == tissue[[TOP_ROW, SPOT_ROW]].tolist()


def test_the_first_note_names_the_place(runs: Runs) -> None:
    first, second = (
        next(note for note in safety_notes(runs.result, runs.dense) if note.structure == name)
        for name in ("spot", "shell")
    )
    index = TokenIndex.of(runs.result.trace.grid, runs.scan)
    centre = runs.scan.affine @ [*((part.start + part.stop - 1) / 2 for part in SPOT), 1]

    assert first.structure == "spot"
    assert first.share > 0.75
    assert first.fate == runs.fate
    assert first.token == index.token_at(tuple(part.start for part in SPOT))
    assert first.tokens == (first.token,)
    np.testing.assert_allclose(first.place, centre[:3], atol=1.0)
    assert first.voxels > 50
    assert first.text.startswith("Spot: ")
    assert f"in a token {runs.fate}; " in first.text
    # more voxels differ at the top, but they are a small part of the shell
    assert second.structure == "shell"
    assert second.voxels > first.voxels
    assert second.share < 0.05


def test_without_the_dense_twin_only_doubt_can_be_noted(runs: Runs) -> None:
    for note in safety_notes(runs.result, low=1.01):
        assert (note.voxels, note.share) == (0, 0.0)
        assert note.confidence <= 1


def test_the_errors_are_put_down_to_the_tokens_that_left(runs: Runs) -> None:
    inspection = runs.inspect()
    assert inspection.attribution is not None
    assert inspection.comparison is not None
    shares = {share.fate: share for share in inspection.attribution.shares}

    assert inspection.other_title == "dense twin"
    spot = inspection.comparison.classes[1]
    assert spot.dice is not None
    assert spot.dice < 0.4
    left = shares[runs.fate]
    assert (left.tokens, left.voxels) == (2, 2 * 8**3)
    assert inspection.attribution.error_share(left) > 0.9
    verdict = inspection.attribution.verdict
    assert verdict.startswith("Every difference from the dense twin comes from leaving tokens out.")
    assert verdict.endswith("of the differences in it: differences gather there.")
    assert left.new_errors is None


def test_against_a_reference_the_lost_spot_is_new(runs: Runs) -> None:
    truth = Volume(true_labels().astype(np.int32), runs.scan.affine, "truth")
    inspection = runs.inspect(other=truth, other_title="reference truth")
    assert inspection.attribution is not None
    (left,) = (s for s in inspection.attribution.shares if s.fate == runs.fate)

    wrong = (runs.result.labels.data != truth.data) & (runs.dense.labels.data == truth.data)
    index = TokenIndex.of(runs.result.trace.grid, runs.scan)
    there = index.lift(runs.result.trace.left_stage) > 0
    assert isinstance(left, Share)
    assert left.new_errors == (wrong & there).sum() > 100
    assert "leaving tokens out caused most of them" in inspection.attribution.verdict
    assert inspection.notes == runs.inspect().notes


def test_all_of_it_can_be_written_as_json(runs: Runs) -> None:
    inspection = runs.inspect()
    text = json.dumps(inspection.to_dict(), allow_nan=False)
    facts = json.loads(text)

    assert set(facts) == {
        "report", "compared_with", "comparison", "attribution", "structures", "notes",
        "low_confidence",
    }  # fmt: skip
    assert facts["compared_with"] == "dense twin"
    assert facts["notes"][0]["structure"] == "spot"
    assert facts["notes"][0]["text"] == inspection.notes[0].text
    assert (facts["structures"][0]["name"], facts["structures"][0]["tokens"]) == ("shell", 27)
    assert "planted" not in text.replace(runs.result.report["model"], "")


def test_alone_a_result_is_compared_with_nothing(runs: Runs) -> None:
    inspection = inspect(runs.scan, runs.result)

    assert (inspection.other, inspection.other_title) == (None, "")
    assert (inspection.comparison, inspection.attribution) == (None, None)
    assert json.loads(json.dumps(inspection.to_dict()))["comparison"] is None


def test_another_grid_is_brought_to_the_scans_own_when_asked(runs: Runs) -> None:
    """The truth mirrored in memory, with the affine that says so, is the same truth."""
    affine = runs.scan.affine @ np.diag([-1.0, 1, 1, 1])
    affine[:3, 3] = (runs.scan.affine @ [33, 0, 0, 1])[:3]
    mirrored = Volume(true_labels()[::-1].copy(), affine, "truth")
    straight = runs.inspect(other=Volume(true_labels(), runs.scan.affine), other_title="truth")
    resampled = inspect(
        runs.scan, runs.result, dense=runs.dense, other=mirrored, other_title="t", resample=True
    )

    assert straight.comparison is not None
    assert resampled.comparison is not None
    assert resampled.comparison.classes == straight.comparison.classes
    assert resampled.attribution == straight.attribution
