"""The tab "Curve": a sweep in the window, its points, the proposed setting and its files."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Labels
from qtpy.QtWidgets import QMessageBox

from napari_sparseseg.analysis.sweep import SWEEP_FILES, read_settings
from napari_sparseseg.analysis.swept import Sweep, SweepPoint
from napari_sparseseg.errors import InputError
from napari_sparseseg.plugin.inspector.curve_data import in_words
from napari_sparseseg.plugin.inspector.curve_plot import CurvePlot
from napari_sparseseg.session import Session
from napari_sparseseg.volume import Volume

from .conftest import WAIT
from .window import add, click_method, layer, segment


def run(qtbot: Any, tab: Any) -> Sweep:
    with qtbot.waitSignal(tab.swept, timeout=WAIT) as blocker:
        tab.run_button.click()
    return blocker.args[0]


def click_on(tab: Any, setting: float) -> None:
    """Click on the point of a setting in the first panel."""
    from matplotlib.backend_bases import MouseButton, MouseEvent

    canvas = tab.plot.canvas
    canvas.draw()
    axes = canvas.figure.axes[0]
    line = next(x for x in axes.get_lines() if x.get_gid() == "own")
    at = list(line.get_xdata()).index(setting)
    x, y = axes.transData.transform(line.get_xydata()[at])
    canvas.callbacks.process(
        "button_press_event", MouseEvent("button_press_event", canvas, x, y, MouseButton.LEFT)
    )


def marked(tab: Any) -> list[float]:
    lines = tab.plot.canvas.figure.axes[0].get_lines()
    return [x.get_xdata()[0] for x in lines if x.get_gid() == "chosen"]


def test_curve_is_run_read_loaded_and_saved(
    qtbot: Any, dock_of: Any, scan: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    viewer, dock = dock_of()
    image = add(viewer, scan)
    tab = dock.open_inspector().curve
    assert not tab.run_button.isEnabled()
    assert tab.plot.hint.text() == "Segment a scan first."

    first = segment(qtbot, dock)
    assert tab.settings.text() == "1, 0.7, 0.5, 0.3, 0.2, 0.1"
    tab.settings.setText("0.5, zero")
    tab.run_button.click()
    assert "0.5, zero" in dock.message.text()
    assert not dock.runner.busy

    # a reference painted over the image, in the result's own classes: Dice 1 at this setting
    viewer.add_layer(
        Labels(np.array(layer(viewer, "segmentation").data), scale=image.scale,
               translate=image.translate, name="truth")
    )  # fmt: skip
    tab.reference.setCurrentIndex(tab.reference.findText("truth"))
    tab.settings.setText("0.5 0.2")
    grown: list[int] = []
    tab._found.connect(lambda *_: grown.append(len(tab.plot.canvas.figure.axes)))
    swept = run(qtbot, tab)

    assert [p.setting for p in swept.points] == [1.0, 0.5, 0.2]
    assert [p.setting for p in swept.random] == [1.0, 0.5, 0.2]
    assert swept.points[1].mean_to_reference == 1
    assert grown == [3] * 5
    assert marked(tab) == [0.5]
    assert dock.shown.dense.request.setting == 1

    click_on(tab, 0.2)
    assert dock.shown.result.report["setting"]["value"] == 0.2
    assert dock.controls.setting.value() == 0.2
    assert marked(tab) == [0.2]
    np.testing.assert_array_equal(
        layer(viewer, "segmentation").data,
        dock.shown.request.scan.on_layer(dock.shown.result.labels.data),
    )
    dock.undo()
    assert dock.shown.result is first
    assert marked(tab) == [0.5]

    tab.tolerance.setValue(100)
    assert tab.proposal.text().startswith("Keep ratio 0.2 is the smallest within 100 points")
    tab.load_button.click()
    assert marked(tab) == [0.2]
    assert not tab.load_button.isEnabled()

    monkeypatch.setattr(
        "qtpy.QtWidgets.QFileDialog.getExistingDirectory", lambda *_: str(tmp_path / "curve")
    )
    tab.save_button.click()
    assert json.loads((tmp_path / "curve" / "sweep.json").read_text()) == json.loads(
        json.dumps(swept.to_dict())
    )
    rows = list(csv.DictReader((tmp_path / "curve" / "sweep.csv").open()))
    assert [row["sparsifier"] for row in rows] == ["stp"] * 3 + ["random"] * 3
    assert (tmp_path / "curve" / "sweep.png").read_bytes()[:4] == b"\x89PNG"
    kept = (tmp_path / "curve" / "sweep.csv").stat().st_mtime_ns
    answers, asked = [QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes], []
    monkeypatch.setattr(
        "qtpy.QtWidgets.QMessageBox.question", lambda *text: asked.append(text[2]) or answers.pop(0)
    )
    tab.save_button.click()
    assert asked == [f"Replace {', '.join(SWEEP_FILES)} in {tmp_path / 'curve'}?"]
    assert (tmp_path / "curve" / "sweep.csv").stat().st_mtime_ns == kept
    dock.message.dismiss()
    tab.save_button.click()
    assert (tmp_path / "curve" / "sweep.csv").stat().st_mtime_ns > kept
    assert dock.message.text().startswith("Saved sweep.json")

    ground = tab.plot.canvas.figure.get_facecolor()
    viewer.theme = "light"
    assert tab.plot.canvas.figure.get_facecolor() == (1.0, 1.0, 1.0, 1.0) != ground


def test_curve_goes_with_the_model_and_not_with_a_cancelled_run(
    qtbot: Any, dock_of: Any, scan: Volume, hold: Any
):
    viewer, dock = dock_of()
    add(viewer, scan)
    tab = dock.open_inspector().curve
    segment(qtbot, dock)
    tab.random.setChecked(False)
    tab.settings.setText("0.5")
    swept = run(qtbot, tab)
    assert swept.random == ()

    gate = hold(dock.runner, "Run 3 of 3")
    tab.settings.setText("0.2")
    tab.run_button.click()
    qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)
    assert not tab.run_button.isEnabled()
    with qtbot.waitSignal(dock.runner.cancelled, timeout=WAIT):
        dock.controls.cancel_button.click()
        gate.open()
    assert tab.sweep is swept
    assert tab.run_button.isEnabled()
    assert len(tab.plot.canvas.figure.axes[0].get_lines()[0].get_xdata()) == 2

    dock.runner.forget()  # as another device does; the sweep is cancelled before it begins
    gate = hold(dock.runner, "Loading the model")
    tab.run_button.click()
    qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)
    with qtbot.waitSignal(dock.runner.cancelled, timeout=WAIT):
        dock.controls.cancel_button.click()
        gate.open()
    assert tab.sweep is swept
    assert tab.run_button.isEnabled()

    click_method(qtbot, dock, "random")
    assert tab.sweep is swept
    assert not tab.run_button.isEnabled()
    assert marked(tab) == []

    click_method(qtbot, dock, "")
    assert marked(tab) == [0.5]
    click_method(qtbot, dock, "svit")
    assert tab.sweep is None
    assert "another scan or model" in tab.plot.hint.text()

    click_method(qtbot, dock, "dense")
    assert not tab.run_button.isEnabled()
    assert "no setting" in tab.run_button.toolTip()


def point(setting: float, dice: float | None, gmacs: float) -> SweepPoint:
    return SweepPoint(setting, "stp", (dice,), None, 1.0, gmacs, {})


@pytest.mark.parametrize(
    ("dices", "tolerance", "words"),
    [
        (
            (0.845, 0.842, 0.8), 0.005,
            "Keep ratio 0.3 is the smallest within 0.5 points of dense: 0.842 against 0.845, "
            "38 % fewer GMACs.",
        ),
        ((0.845, 0.842, 0.8), 0.001, "No keep ratio below 1 is within 0.1 points of dense."),
        (
            (None, None, None), 0.1,
            "No structure was found, so that no setting can be told from another.",
        ),
    ],
)  # fmt: skip
def test_proposal_in_words(dices: tuple[float | None, ...], tolerance: float, words: str):
    points = tuple(map(point, (1.0, 0.3, 0.1), dices, (100.0, 62.0, 40.0)))
    swept = Sweep("m", "stp", "keep ratio", ("a",), 100.0, points, (), False, {})

    assert in_words(swept, tolerance) == words


def test_settings_are_read_with_commas_or_spaces():
    assert read_settings("1, 0.5,0.2") == read_settings(" 1 0.5 0.2 ") == [1, 0.5, 0.2]
    for text in ("", "half", "0.5; 0.2"):
        with pytest.raises(InputError, match="cannot be read"):
            read_settings(text)


def test_nothing_is_drawn_beside_a_run_that_is_timed(
    qtbot: Any, dock_of: Any, scan: Volume, monkeypatch: pytest.MonkeyPatch
):
    viewer, dock = dock_of()
    add(viewer, scan)
    tab = dock.open_inspector().curve
    segment(qtbot, dock)
    drawing: list[bool] = []
    beside: list[bool] = []
    run_of_session, draw = Session.run, CurvePlot.draw

    def watched_run(*args: Any, **options: Any) -> Any:
        beside.append(bool(drawing))
        return run_of_session(*args, **options)

    def watched_draw(*args: Any, **options: Any) -> None:
        drawing.append(True)
        time.sleep(0.3)  # a slow machine
        draw(*args, **options)
        drawing.pop()

    monkeypatch.setattr(Session, "run", watched_run)
    monkeypatch.setattr(CurvePlot, "draw", watched_draw)
    tab.settings.setText("0.5 0.2")
    run(qtbot, tab)

    assert len(beside) == 6  # one to warm up, three settings, two at random
    assert not any(beside)
