"""The inspector goes with its dock, and a new one works where an old one was."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_sparseseg.plugin.dock import open_dock
from napari_sparseseg.plugin.inspector.panel import Inspector
from napari_sparseseg.volume import Volume

from .conftest import WAIT
from .window import add, press_alt, segment


def open_inspectors(viewer: Any) -> list[Inspector]:
    QApplication.processEvents()
    return viewer.__wrapped__.window._qt_window.findChildren(Inspector)


def test_the_inspector_goes_with_its_dock(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock = dock_of(show=True)
    add(viewer, scan)
    segment(qtbot, dock)
    old = dock.open_inspector()
    assert open_inspectors(viewer) == [old]
    with qtbot.waitSignal(old.inspected, timeout=WAIT):
        old.compare.button.click()

    viewer.window.remove_dock_widget(dock)
    assert open_inspectors(viewer) == []
    assert "ball difference" not in viewer.layers
    add(viewer, Volume(scan.data, scan.affine, "later"))
    assert dock.controls.image.findText("later") == -1  # what was closed follows nothing

    # a new dock and its inspector answer to the same keys, and they alone
    fresh = open_dock(viewer.__wrapped__)
    fresh.controls.image.setCurrentIndex(fresh.controls.image.findText("later"))
    segment(qtbot, fresh)
    inspector = fresh.open_inspector()
    assert open_inspectors(viewer) == [inspector]
    press_alt(viewer, Qt.Key.Key_N)
    qtbot.waitUntil(lambda: inspector.token is not None, timeout=WAIT)
    assert old.token is None
    old.compare.compare()
    assert not dock.runner.busy


def test_closing_the_window_closes_both(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock = dock_of(show=True)
    add(viewer, scan)
    segment(qtbot, dock)
    closed: list[str] = []
    dock.closing.connect(lambda: closed.append("dock"))
    dock.open_inspector().closing.connect(lambda: closed.append("inspector"))

    viewer.close()

    assert sorted(closed) == ["dock", "inspector"]
