"""The tab "Safety" in a real window: a planted failure is its first note."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel

from napari_sparseseg.analysis.notes import safety_notes
from napari_sparseseg.network.sparsifiers.dtop import EarlyExit
from napari_sparseseg.plugin.dock import open_dock
from napari_sparseseg.report import NOTICE
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import register_model
from tests.analysis.planted import (
    SPOT,
    SPOT_ROW,
    TOP_ROW,
    leaving_out,
    planted_scan,
    trained_model,
    true_labels,
)

from .conftest import WAIT
from .test_inspector_compare import add_labels, choose, opened, press


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the registry one model, whose rule leaves out the only token with the spot."""
    register_model(trained_model(tmp_path))
    monkeypatch.setenv("SPARSESEG_WEIGHTS", str(tmp_path))
    rule = leaving_out(SPOT_ROW, TOP_ROW)
    monkeypatch.setattr(EarlyExit, "decide", lambda self, *seen: rule(*seen))


def test_a_planted_failure_is_the_first_note(
    qtbot: Any, planted: None, make_napari_viewer_proxy: Callable[..., Any]
):
    def window(**options: Any) -> tuple[Any, Any]:
        viewer = make_napari_viewer_proxy(**options)
        return viewer, open_dock(viewer)

    viewer, dock, inspector = opened(qtbot, window, planted_scan())
    tab = inspector.notes
    inspector.pages.setCurrentWidget(tab)
    assert NOTICE in [label.text() for label in tab.findChildren(QLabel) if label.isVisible()]
    assert tab.table.rowCount() == 0

    with qtbot.waitSignal(inspector.inspected, timeout=WAIT):
        tab.button.click()

    first = tab.notes[0]
    assert first.structure == "spot"
    assert first.fate == "exited at stage 1"
    texts = tab.table.texts()
    assert texts[0][:2] == ["1", "spot"]
    assert texts[0][2] == f"{first.voxels} voxels differ in a token exited at stage 1"
    assert tab.table.item(0, 2).toolTip() == first.text
    # the spot, the shell that grew into it, and the shell at the top
    assert [note.structure for note in tab.notes] == ["spot", "shell", "shell"]
    assert len(texts) == 3
    assert tab.summary.text().startswith("3 places listed, worst first: 3 where tokens that were")

    # a click goes there: to the spot, which lies around this point of the patient
    item = tab.table.item(0, 2)
    where = tab.table.visualItemRect(item).center()
    qtbot.mouseClick(tab.table.viewport(), Qt.MouseButton.LeftButton, pos=where)
    image = viewer.layers["planted"]
    index = np.array(image.world_to_data(viewer.dims.point))
    place = (image.metadata["affine"] @ [*index, 1])[:3]
    centre = planted_scan().affine @ [*((part.start + part.stop - 1) / 2 for part in SPOT), 1]
    np.testing.assert_allclose(place, centre[:3], atol=1.5)
    assert inspector.token == first.token

    # the spin box asks anew
    tab.low.setValue(1.0)
    expected = safety_notes(dock.shown.result, dock.shown.dense.result, 1.0)
    qtbot.waitUntil(lambda: inspector.inspection.low == 1.0, timeout=WAIT)
    assert [note.text for note in tab.notes] == [note.text for note in expected]
    assert inspector.inspection.notes == tab.notes
    tab.low.setValue(0.6)
    qtbot.waitUntil(lambda: inspector.inspection.low == 0.6, timeout=WAIT)
    assert len(tab.notes) == 3

    # against the truth, the errors are put down to what was left out
    truth = Volume(true_labels(), planted_scan().affine, "truth")
    reference = add_labels(viewer, truth)
    choose(inspector.compare, ("reference", reference.unique_id))
    press(qtbot, inspector)
    verdict = inspector.compare.findings.verdict.text()
    assert "errors gather there" in verdict
    assert "leaving tokens out caused most of them" in verdict
    assert tab.notes[0].text == first.text


def test_without_a_result_it_says_what_to_do(qtbot: Any, dock_of: Any):
    _, dock = dock_of(show=True)
    inspector = dock.open_inspector()
    for tab in (inspector.compare, inspector.notes):
        inspector.pages.setCurrentWidget(tab)
        qtbot.waitUntil(tab.isVisible, timeout=WAIT)
        visible = [label.text() for label in tab.findChildren(QLabel) if label.isVisible()]
        assert "Segment a scan first." in visible
        assert not (tab.button.isEnabled() and tab.button.isVisible())

    # the key reaches the tab from anywhere in the window, and no action of napari's has it too
    window = inspector.window()
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow, timeout=WAIT)
    qtbot.keyClick(window, Qt.Key.Key_M, Qt.KeyboardModifier.AltModifier)
    assert dock.message.text() == "Segment a scan first."
