"""Undo, and the keys of the dock's buttons."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import Qt

from napari_sparseseg.plugin.controls import KEYS
from napari_sparseseg.plugin.inspector.panel import Inspector
from napari_sparseseg.volume import Volume

from .conftest import WAIT
from .window import add, click_method, layer, move_slider, press_alt, segment


def test_undo_leads_back_through_settings_and_methods_without_a_run(
    qtbot: Any, dock_of: Any, scan: Volume
):
    viewer, dock = dock_of(show=True)
    add(viewer, scan)
    first = segment(qtbot, dock)
    labels = np.array(layer(viewer, "segmentation").data)
    assert not dock.controls.undo_button.isEnabled()
    with qtbot.waitSignal(dock.segmented, timeout=WAIT):
        move_slider(dock, 0.2)
    click_method(qtbot, dock, "svit")
    runs: list[object] = []
    dock.segmented.connect(runs.append)

    press_alt(viewer, Qt.Key.Key_Z)

    assert dock.controls.choice().model.method == "stp"
    assert dock.controls.setting.value() == 0.2
    assert dock.view.results.figures["Keep ratio"] == "0.2"
    assert "ball reactivations" not in viewer.layers

    press_alt(viewer, Qt.Key.Key_Z)

    assert dock.shown.result is first
    assert dock.controls.setting.value() == 0.5
    assert np.array_equal(layer(viewer, "segmentation").data, labels)
    assert not dock.controls.undo_button.isEnabled()
    press_alt(viewer, Qt.Key.Key_Z)
    assert dock.shown.result is first
    assert not runs
    assert not dock.runner.busy

    # the session of another method was open: the slider still works on what is shown
    with qtbot.waitSignal(dock.segmented, timeout=WAIT) as blocker:
        move_slider(dock, 0.8)
    assert blocker.args[0].report["method"] == "stp"
    assert blocker.args[0].report["setting"]["value"] == 0.8


def test_buttons_show_their_keys_and_follow_them(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock = dock_of(show=True)
    add(viewer, scan)
    for name, key in KEYS.items():
        button = getattr(dock.controls, f"{name.lower()}_button")
        assert button.text() == f"{name} ({key})"

    with qtbot.waitSignal(dock.segmented, timeout=WAIT):
        press_alt(viewer, Qt.Key.Key_Return)
    press_alt(viewer, Qt.Key.Key_K)
    assert dock.shown.kept
    press_alt(viewer, Qt.Key.Key_I)
    (inspector,) = viewer.__wrapped__.window._qt_window.findChildren(Inspector)
    qtbot.waitUntil(inspector.isVisible, timeout=WAIT)
    assert dock.open_inspector() is inspector
