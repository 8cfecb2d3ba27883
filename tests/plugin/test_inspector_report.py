"""The report button: a page and its data of the shown result, and where they cannot be written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QObject, QUrl, Slot
from qtpy.QtGui import QDesktopServices

from napari_sparseseg.plugin.inspector.report_button import point_of_view
from napari_sparseseg.volume import Volume

from .conftest import WAIT
from .window import add, segment


class Opener(QObject):
    """Stands for the program that opens files."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[Path] = []

    @Slot(QUrl)
    def open(self, url: QUrl) -> None:
        self.opened.append(Path(url.toLocalFile()))


def choose_file(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setattr(
        "qtpy.QtWidgets.QFileDialog.getSaveFileName", lambda *_: (str(path), "Pages (*.html)")
    )


def test_report_is_written_and_opened(
    qtbot: Any, dock_of: Any, scan: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    viewer, dock = dock_of()
    add(viewer, scan)
    inspector = dock.open_inspector()
    assert not inspector.report.isEnabled()
    result = segment(qtbot, dock)
    inspector.choose_token(30)
    asked: list[str] = []
    dock.runner.progressed.connect(lambda done, total, what: asked.append(what))

    choose_file(monkeypatch, tmp_path / "ball <1>")
    with qtbot.waitSignal(inspector.inspected, timeout=WAIT):
        inspector.report.click()

    page, data = tmp_path / "ball <1>.html", tmp_path / "ball <1>.json"
    facts = json.loads(data.read_text())
    assert facts["report"] == json.loads(json.dumps(result.report))
    assert facts["compared_with"] == "dense twin"
    comparison = inspector.inspection.comparison
    dices = {name: row["dice"] for name, row in facts["comparison"]["classes"].items()}
    assert dices == {row.name: row.dice for row in comparison.classes}
    assert f"{result.report['gmacs']['run']:,.1f}" in page.read_text()
    assert facts["sweep"] is None
    assert dock.shown.dense.request.setting == 1
    assert "Writing the report" in asked

    opener = Opener()
    QDesktopServices.setUrlHandler("file", opener, "open")
    try:
        link = dock.message.text().split('href="')[1].split('"')[0]
        dock.message.linkActivated.emit(link)
    finally:
        QDesktopServices.unsetUrlHandler("file")
    assert opener.opened == [page]

    # the dialog has asked about the page, so that both are replaced; nothing runs again
    asked.clear()
    page.write_text("old")
    choose_file(monkeypatch, page)
    inspector.report.click()
    qtbot.waitUntil(lambda: not dock.runner.busy, timeout=WAIT)
    assert page.read_text() != "old"
    assert not [what for what in asked if "ncoding" in what]

    choose_file(monkeypatch, tmp_path / "missing" / "page.html")
    inspector.report.click()
    assert not dock.runner.busy
    assert dock.message.text().count(".") and "missing" in dock.message.text()
    assert not (tmp_path / "missing").exists()


def test_cancelling_while_it_is_written_leaves_no_file(
    qtbot: Any, dock_of: Any, scan: Volume, tmp_path: Path, hold: Any
):
    viewer, dock = dock_of()
    add(viewer, scan)
    segment(qtbot, dock)
    inspector = dock.open_inspector()
    gate = hold(dock.runner, "Writing the report")
    inspector.report.write(tmp_path / "page.html")
    qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)

    with qtbot.waitSignal(dock.runner.cancelled, timeout=WAIT):
        dock.controls.cancel_button.click()
        gate.open()

    assert dock.message.text() == "Cancelled; nothing was changed."
    assert list(tmp_path.iterdir()) == []


def test_it_says_what_the_panel_says(qtbot: Any, dock_of: Any, scan: Volume, tmp_path: Path):
    viewer, dock = dock_of()
    add(viewer, scan)
    segment(qtbot, dock)
    inspector = dock.open_inspector()
    curve, notes = inspector.curve, inspector.notes
    with qtbot.waitSignal(inspector.inspected, timeout=WAIT):
        inspector.compare.button.click()
    curve.random.setChecked(False)
    curve.settings.setText("0.2")
    curve.tolerance.setValue(100)
    with qtbot.waitSignal(curve.swept, timeout=WAIT):
        curve.run_button.click()

    notes.low.setValue(1.0)
    inspector.report.write(tmp_path / "page.html")  # at once: the list may still be of before
    qtbot.waitUntil(lambda: not dock.runner.busy, timeout=WAIT)

    facts = json.loads((tmp_path / "page.json").read_text())
    assert facts["low_confidence"] == 1.0
    qtbot.waitUntil(lambda: inspector.inspection.low == 1.0, timeout=WAIT)
    assert [note["text"] for note in facts["notes"]] == [note.text for note in notes.notes]
    page = " ".join((tmp_path / "page.html").read_text().split())
    assert "costs no more than 1 mean Dice (to the dense twin) on this scan is 0.2." in page
    assert curve.proposal.text().startswith("Keep ratio 0.2 is the smallest within 100 points")


def test_point_of_view_is_where_the_inspector_goes(dock_of: Any, scan: Volume, qtbot: Any):
    viewer, dock = dock_of()
    image = add(viewer, scan)
    segment(qtbot, dock)
    inspector, shown = dock.open_inspector(), dock.shown
    place = (scan.affine @ [20, 30, 10, 1])[:3]

    inspector.go_to(place)
    # napari's slider stops at slices: no further from the place than half of one
    assert point_of_view(viewer, image, shown.request.scan) == pytest.approx(place, abs=1.5)

    inspector.go_to(place + np.array([1000, 0, 0]))
    inside = point_of_view(viewer, image, shown.request.scan)
    assert inside == pytest.approx([(scan.affine @ [59, 0, 0, 1])[0], *place[1:]], abs=1.5)
