"""What is worth knowing of a scan and its run, and the memory that a run may take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from napari.layers import Image

from napari_sparseseg.plugin import preferences
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.session import Session
from napari_sparseseg.volume import Volume

from .conftest import ball
from .window import add, segment

NOTES = (
    "The sform and the qform of the file differ by up to 3.2 mm; the sform was used.",
    "7 slices are there more than once; the copies were left out.",
)


def test_notes_of_the_chosen_scan_are_shown_in_full(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock = dock_of(show=True)
    add(viewer, scan)
    assert dock.about.isHidden()
    told = add(viewer, Volume(scan.data, scan.affine, "told", NOTES))
    assert told.metadata["notes"] == NOTES
    dock.controls.image.setCurrentIndex(dock.controls.image.findText("told"))

    assert dock.about.text() == f"• {NOTES[0]}\n• {NOTES[1]}"
    assert dock.about.isVisible()
    result = segment(qtbot, dock)
    assert dock.about.text() == f"• {NOTES[0]}\n• {NOTES[1]}"
    assert dock.message.isHidden()  # they are not told twice
    assert list(NOTES) == result.report["notes"]

    dock.controls.image.setCurrentIndex(dock.controls.image.findText("ball"))
    assert dock.about.isHidden()


def test_a_scan_of_unknown_place_is_told_as_soon_as_it_is_chosen(dock_of: Any):
    viewer, dock = dock_of()
    image = viewer.add_layer(Image(ball(), scale=(2, 2, 2), name="raw"))
    assert dock.about.text().startswith("The scan does not say how the patient lies in it")

    viewer.layers.remove(image)
    assert dock.about.isHidden()


def test_steps_that_a_run_took_for_want_of_memory_are_told(
    qtbot: Any, dock_of: Any, scan: Volume, monkeypatch: pytest.MonkeyPatch
):
    step = "The graphics card ran out of memory; the windows were computed one at a time."
    real = Session.run

    def run(self: Session, *args: Any, **kwargs: Any) -> Any:
        result = real(self, *args, **kwargs)
        result.report["notes"] = [*NOTES, step]
        return result

    monkeypatch.setattr(Session, "run", run)
    viewer, dock = dock_of()
    add(viewer, Volume(scan.data, scan.affine, "ball", NOTES))
    segment(qtbot, dock)
    assert dock.message.text() == step

    add(viewer, Volume(scan.data, scan.affine, "other"))
    dock.controls.all_button.click()
    qtbot.waitUntil(lambda: not dock.busy, timeout=120_000)
    lines = dock.message.text().splitlines()
    assert lines[0] == "Segmented 2 scans."
    assert lines[1:4] == [f"ball: {note}" for note in (*NOTES, step)]
    assert lines[-1] == f"other: {step}"


def test_memory_budget_is_kept_and_reaches_the_engine(
    qtbot: Any, dock_of: Any, scan: Volume, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    given: list[Any] = []
    real = Segmenter.__init__

    def init(self: Segmenter, *args: Any, **kwargs: Any) -> None:
        given.append(kwargs.get("memory_gb"))
        real(self, *args, **kwargs)

    monkeypatch.setattr(Segmenter, "__init__", init)
    viewer, dock = dock_of()
    add(viewer, scan)
    assert dock.controls.memory.text() == "automatic"
    segment(qtbot, dock)
    dock.controls.memory.setValue(6.5)
    assert dock.controls.memory.text() == "6.5 GB"
    assert not dock.runner.follows  # the session was planned with another budget
    segment(qtbot, dock)

    assert given == [None, 6.5]
    assert preferences.load().memory_gb == 6.5
    _, again = dock_of()
    assert again.controls.memory.value() == 6.5
    again.controls.memory.setValue(0)
    assert preferences.load().memory_gb == 0


def test_a_budget_that_is_too_small_is_one_sentence(qtbot: Any, dock_of: Any):
    viewer, dock = dock_of()
    viewer.add_layer(Image(ball((200, 200, 200)), scale=(4, 4, 4), name="large"))
    dock.controls.memory.setValue(0.1)

    with qtbot.waitSignal(dock.refused, timeout=120_000) as blocker:
        dock.controls.segment_button.click()

    assert "memory" in blocker.args[0]
    assert ";" in blocker.args[0]
    assert len(viewer.layers) == 1
