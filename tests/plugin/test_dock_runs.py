"""Runs in the dock: the slider, the latest request, cancelling, and closing in the middle."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from napari_sparseseg import maps
from napari_sparseseg.volume import Volume

from .conftest import WAIT
from .window import STP_LAYERS, add, layer, move_slider, running, segment


def test_moving_the_slider_previews_at_once_and_then_segments(
    qtbot: Any, dock_of: Any, scan: Volume
):
    viewer, dock = dock_of()
    add(viewer, scan)
    segment(qtbot, dock)
    before = list(viewer.layers)
    labels = np.array(layer(viewer, "segmentation").data)
    viewer.dims.set_point(0, 60.0)
    point, zoom = viewer.dims.point, viewer.scene.camera.zoom

    open_tokens = {}
    with qtbot.waitSignal(dock.segmented, timeout=WAIT) as blocker:
        for ratio in (0.8, 0.4, 0.15):
            move_slider(dock, ratio)
            open_tokens[ratio] = np.array(layer(viewer, "kept").data) == 6
            assert dock.view.maps.note.text() == maps.PREVIEW_NOTE
    result = blocker.args[0]

    assert 0 < open_tokens[0.15].sum() < open_tokens[0.4].sum() < open_tokens[0.8].sum()
    assert not (open_tokens[0.15] & ~open_tokens[0.4]).any()
    assert not (open_tokens[0.4] & ~open_tokens[0.8]).any()
    assert result.report["setting"]["value"] == 0.15
    assert list(viewer.layers) == before
    assert not np.array_equal(layer(viewer, "segmentation").data, labels)
    assert np.count_nonzero(layer(viewer, "kept").data == 4) == result.trace.kept.sum()
    assert dock.view.maps.note.text() == result.trace.views[0].about
    assert (viewer.dims.point, viewer.scene.camera.zoom) == (point, zoom)


def test_latest_move_of_the_slider_wins(qtbot: Any, dock_of: Any, scan: Volume, hold: Any):
    viewer, dock = dock_of()
    add(viewer, scan)
    segment(qtbot, dock)
    shown: list[float] = []
    dock.segmented.connect(lambda result: shown.append(result.report["setting"]["value"]))

    gate = hold(dock.runner, "Encoding and decoding")
    move_slider(dock, 0.2)
    qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)
    move_slider(dock, 0.9)
    qtbot.wait(400)  # the slider rests: the run at 0.9 is asked for while that at 0.2 is held
    with qtbot.waitSignal(dock.segmented, timeout=WAIT):
        gate.open()
    qtbot.wait(100)

    assert shown == [0.9]
    assert not dock.runner.busy


def test_slider_without_a_session_runs_nothing(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock = dock_of()
    add(viewer, scan)

    move_slider(dock, 0.33)
    qtbot.wait(400)

    assert dock.controls.setting.value() == 0.35
    assert not dock.runner.busy
    assert len(viewer.layers) == 1


@pytest.mark.parametrize("step", ["Loading the model", "First encoder blocks",
                                  "Encoding and decoding"])  # fmt: skip
def test_cancelling_leaves_nothing(qtbot: Any, dock_of: Any, scan: Volume, hold: Any, step: str):
    viewer, dock = dock_of()
    add(viewer, scan)
    gate = hold(dock.runner, step)
    dock.controls.segment_button.click()
    qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)
    assert not dock.controls.segment_button.isEnabled()
    assert dock.controls.cancel_button.isEnabled()

    with qtbot.waitSignal(dock.runner.cancelled, timeout=WAIT):
        dock.controls.cancel_button.click()
        gate.open()

    assert [x.name for x in viewer.layers] == ["ball"]
    assert dock.message.text() == "Cancelled; nothing was changed."
    assert dock.controls.segment_button.isEnabled()
    assert not dock.controls.cancel_button.isEnabled()
    assert not dock.runner.follows
    assert running() == []
    segment(qtbot, dock)
    assert len(viewer.layers) == 1 + len(STP_LAYERS)


def test_cancelling_a_rerun_restores_what_was_shown(
    qtbot: Any, dock_of: Any, scan: Volume, hold: Any
):
    viewer, dock = dock_of()
    add(viewer, scan)
    segment(qtbot, dock)
    before = {role: np.array(layer(viewer, role).data) for role in STP_LAYERS}
    gate = hold(dock.runner, "Encoding and decoding")
    move_slider(dock, 0.1)
    qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)
    assert not np.array_equal(layer(viewer, "kept").data, before["kept"])

    with qtbot.waitSignal(dock.runner.cancelled, timeout=WAIT):
        dock.controls.cancel_button.click()
        gate.open()

    for role in STP_LAYERS:
        assert np.array_equal(layer(viewer, role).data, before[role], equal_nan=True), role
    assert dock.controls.setting.value() == 0.5
    assert dock.runner.follows


@pytest.mark.parametrize("show", [True, False])
def test_closing_the_window_in_a_run_ends_it(
    qtbot: Any, dock_of: Any, scan: Volume, hold: Any, show: bool
):
    viewer, dock = dock_of(show=show)
    add(viewer, scan)
    gate = hold(dock.runner, "Encoding and decoding")
    dock.controls.segment_button.click()
    qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)

    threading.Timer(0.3, gate.open).start()  # the closing waits for the thread
    viewer.close()
    qtbot.waitUntil(lambda: running() == [], timeout=WAIT)

    assert not dock.runner.follows


def test_closing_the_dock_in_a_run_ends_it(qtbot: Any, dock_of: Any, scan: Volume, hold: Any):
    viewer, dock = dock_of(show=True)
    add(viewer, scan)
    gate = hold(dock.runner, "First encoder blocks")
    dock.controls.segment_button.click()
    qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)

    threading.Timer(0.3, gate.open).start()
    viewer.window.remove_dock_widget(dock)

    assert running() == []
    assert [x.name for x in viewer.layers] == ["ball"]
