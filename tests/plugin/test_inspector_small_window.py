"""What the inspector shows is read in full in a small window, in both themes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QApplication

from napari_sparseseg.plugin.inspector.token_tab import PRUNED
from napari_sparseseg.volume import Volume

from .conftest import WAIT
from .test_inspector_compare import opened, press

SMALL = (1280, 800)
RIM = QColor("#808080")
_BARS = 4
_WHAT = 2


def test_tables_are_read_in_full(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, _, inspector = opened(qtbot, dock_of, scan)
    viewer.window.resize(*SMALL)
    press(qtbot, inspector)
    QApplication.processEvents()
    window = viewer.__wrapped__.window._qt_window
    assert window.width() == SMALL[0]

    fates = inspector.compare.findings.fates
    assert not fates.horizontalScrollBar().isVisible()
    assert fates.columnWidth(_BARS) >= 60
    assert not inspector.compare.findings.structures.horizontalScrollBar().isVisible()

    inspector.pages.setCurrentWidget(inspector.notes)
    QApplication.processEvents()
    table = inspector.notes.table
    assert table.rowCount()
    for row in range(table.rowCount()):
        needed = table.fontMetrics().horizontalAdvance(table.item(row, _WHAT).text())
        assert needed + 8 <= table.columnWidth(_WHAT)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_squares_beside_the_neighbours_have_a_rim(
    qtbot: Any, dock_of: Any, scan: Volume, theme: str
):
    viewer, _, inspector = opened(qtbot, dock_of, scan)
    viewer.theme = theme
    inspector.pages.setCurrentWidget(inspector.tokens)
    with qtbot.waitSignal(inspector.token_chosen, timeout=WAIT):
        inspector.tokens.keys[PRUNED].click()
    QApplication.processEvents()

    picture = inspector.tokens.view.around.grab().toImage()
    pixels = [picture.pixelColor(x, y) for x in range(picture.width()) for y in range(20)]
    assert sum(color == RIM for color in pixels) >= 40  # at least one square of 12 pixels


def test_a_very_small_volume_is_not_zero(qtbot: Any, dock_of: Any, scan: Volume):
    _, _, inspector = opened(qtbot, dock_of, scan)
    found = press(qtbot, inspector)
    first, *others = found.comparison.classes
    small = replace(first, millilitres=0.004, reference_millilitres=0.001)

    comparison = replace(found.comparison, classes=(small, *others))
    inspector.show_inspection(replace(found, comparison=comparison))

    rows = {row[0]: row for row in inspector.compare.findings.structures.texts()}
    assert rows[small.name][3:] == ["0.004", "0.001", "+0.003"]
