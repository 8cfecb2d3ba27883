"""While something runs: nothing of it is lost without a word, and nothing contradicts it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import Qt

from napari_sparseseg.plugin.inspector.panel import BUSY
from napari_sparseseg.volume import Volume

from .conftest import WAIT, ball
from .window import add, move_slider, press_alt, running, segment


def with_two_results(qtbot: Any, dock_of: Any, scan: Volume) -> tuple[Any, Any, Any]:
    """Segment at two settings, so that undo leads somewhere, and open the inspector."""
    viewer, dock = dock_of(show=True)
    add(viewer, scan)
    segment(qtbot, dock)
    with qtbot.waitSignal(dock.segmented, timeout=WAIT):
        move_slider(dock, 0.2)
    return viewer, dock, dock.open_inspector()


def begin_sweep(qtbot: Any, hold: Any, dock: Any, inspector: Any) -> Any:
    inspector.curve.random.setChecked(False)
    inspector.curve.settings.setText("0.5")
    gate = hold(dock.runner, "Run 2 of 3")
    inspector.curve.run_button.click()
    qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)
    return gate


def test_a_sweep_runs_to_its_end_whatever_is_pressed(
    qtbot: Any, dock_of: Any, scan: Volume, hold: Any, monkeypatch: pytest.MonkeyPatch
):
    viewer, dock, inspector = with_two_results(qtbot, dock_of, scan)
    shown, asked = dock.shown.answer, []
    monkeypatch.setattr(
        "qtpy.QtWidgets.QFileDialog.getSaveFileName", lambda *_: asked.append(1) or ("", "")
    )
    gate = begin_sweep(qtbot, hold, dock, inspector)

    for button in (dock.controls.undo_button, dock.controls.keep_button):
        assert not button.isEnabled()
    press_alt(viewer, Qt.Key.Key_Z)
    assert dock.shown.answer is shown
    for press in (
        inspector.report.click,
        inspector.compare.button.click,
        inspector.notes.button.click,
        inspector.curve.run,
    ):
        dock.message.dismiss()
        press()
        assert dock.message.text() == BUSY
    assert not asked

    with qtbot.waitSignal(inspector.curve.swept, timeout=WAIT):
        gate.open()
    assert dock.controls.undo_button.isEnabled()


def test_a_report_is_told_of_though_undo_is_pressed(
    qtbot: Any, dock_of: Any, scan: Volume, hold: Any, tmp_path: Path
):
    viewer, dock, inspector = with_two_results(qtbot, dock_of, scan)
    gate = hold(dock.runner, "Writing the report")
    inspector.report.write(tmp_path / "page.html")
    qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)

    press_alt(viewer, Qt.Key.Key_Z)
    gate.open()

    qtbot.waitUntil(lambda: not dock.runner.busy, timeout=WAIT)
    assert "Wrote the report" in dock.message.text()
    assert (tmp_path / "page.html").exists()


def test_all_scans_are_segmented_though_the_comparison_follows(
    qtbot: Any, dock_of: Any, scan: Volume
):
    viewer, dock, inspector = with_two_results(qtbot, dock_of, scan)
    with qtbot.waitSignal(inspector.inspected, timeout=WAIT):
        inspector.compare.button.click()
    inspector.compare.follow.click()
    for seed in (1, 2):
        add(viewer, Volume(ball(seed=seed), scan.affine, f"ball {seed}"))

    dock.controls.all_button.click()
    qtbot.waitUntil(lambda: not dock.batch.active, timeout=WAIT)

    assert dock.message.text() == "Segmented 3 scans."


def test_undo_takes_the_place_of_a_run(qtbot: Any, dock_of: Any, scan: Volume, hold: Any):
    viewer, dock, _ = with_two_results(qtbot, dock_of, scan)
    results: list[object] = []
    dock.segmented.connect(results.append)
    gate = hold(dock.runner, "Encoding and decoding")
    move_slider(dock, 0.8)
    qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)

    press_alt(viewer, Qt.Key.Key_Z)
    gate.open()
    qtbot.waitUntil(lambda: not running(), timeout=WAIT)

    assert dock.shown.request.setting == dock.controls.setting.value() == 0.5
    assert dock.message.text().startswith("Back to ")
    assert not results
    assert dock.controls.segment_button.isEnabled()
    assert not dock.controls.cancel_button.isEnabled()
    assert dock.controls.progress.format() == dock.view.summary()


def test_undo_takes_the_place_of_a_move_of_the_slider(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock, _ = with_two_results(qtbot, dock_of, scan)
    move_slider(dock, 0.8)

    press_alt(viewer, Qt.Key.Key_Z)

    assert not dock.busy
    assert dock.shown.request.setting == dock.controls.setting.value() == 0.5
    assert not dock.controls.undo_button.isEnabled()


def test_closing_the_inspector_stops_its_work_and_says_so(
    qtbot: Any, dock_of: Any, scan: Volume, hold: Any
):
    viewer, dock, inspector = with_two_results(qtbot, dock_of, scan)
    gate = begin_sweep(qtbot, hold, dock, inspector)

    with qtbot.waitSignal(dock.runner.cancelled, timeout=WAIT):
        viewer.window.remove_dock_widget(inspector)
        gate.open()

    assert dock.message.text() == "Cancelled; nothing was changed."
    assert dock.controls.undo_button.isEnabled()


def test_a_comparison_that_follows_leaves_the_slider_to_the_user(
    qtbot: Any, dock_of: Any, scan: Volume, hold: Any
):
    _, dock, inspector = with_two_results(qtbot, dock_of, scan)
    with qtbot.waitSignal(inspector.inspected, timeout=WAIT):
        inspector.compare.button.click()
    inspector.compare.follow.click()
    gate = hold(dock.runner, "Comparing")
    move_slider(dock, 0.8)
    qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)
    assert dock.shown.request.setting == 0.8
    assert dock.controls.setting.isEnabled()

    move_slider(dock, 0.4)
    gate.open()

    # the comparison of 0.8 may end before the slider rests; that of 0.4 follows in any case
    qtbot.waitUntil(lambda: dock.shown.request.setting == 0.4, timeout=WAIT)
    qtbot.waitUntil(
        lambda: getattr(inspector.inspection, "result", None) is dock.shown.result, timeout=WAIT
    )
