"""Methods, controls and kept results in the dock: one click each, and nothing stale is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog

from napari_sparseseg import maps
from napari_sparseseg.methods import METHODS
from napari_sparseseg.volume import Volume
from napari_sparseseg.words import origin

from .conftest import METHOD_SETTINGS, WAIT, ball, write_model
from .window import (
    STP_LAYERS,
    add,
    click_method,
    layer,
    legend,
    map_layers,
    move_slider,
    segment,
    visible_maps,
)


def check_shown(viewer: Any, dock: Any, result: Any) -> None:
    """Compare layers, buttons, legend and figures with what a result declares."""
    trace, report = result.trace, result.report
    kinds = {view.kind for view in trace.views}
    assert set(map_layers(viewer)) == kinds
    assert viewer.layers[-1].name == "ball segmentation"
    assert set(dock.view.maps.buttons) == {*kinds, maps.NONE}
    titles = [dock.view.maps.buttons[view.kind].text() for view in trace.views]
    assert titles == [view.title for view in trace.views]
    assert visible_maps(viewer) == [dock.view.maps.current()]
    for view in trace.views:
        if view.kind in maps.SHADED:
            continue
        dock.view.maps.choose(view.kind)
        assert visible_maps(viewer) == [view.kind]
        clear = 0 if view.kind == "kept" else maps.AIR
        values = layer(viewer, view.kind).data
        expected = maps.legend_of(trace, view.kind)
        assert legend(dock) == {e.text: f"{e.count:,} tokens" for e in expected}
        assert sum(e.count for e in expected) == (values != clear).sum()
        assert view.about in dock.view.maps.note.text()
    assert np.count_nonzero(layer(viewer, "depth").data >= 0) == (~trace.air).sum()
    assert dock.view.results.figures["Method"] == METHODS[report["method"]].title
    assert dock.message.isHidden()


def test_one_click_shows_the_next_method_with_its_own_maps(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock = dock_of()
    add(viewer, scan)
    segment(qtbot, dock)

    for name in ("dtop", "svit", "apformer", "dense", "stp"):
        before = np.array(layer(viewer, "segmentation").data)
        result = click_method(qtbot, dock, name)
        assert (result.report["method"], result.report["sparsifier"]) == (name, name)
        if METHODS[name].control is not None:
            assert result.report["setting"]["value"] == pytest.approx(METHOD_SETTINGS[name])
        assert not np.array_equal(layer(viewer, "segmentation").data, before)
        check_shown(viewer, dock, result)
    assert [x.name for x in viewer.layers] == ["ball", *(f"ball {role}" for role in STP_LAYERS)]

    move_slider(dock, 0.3)
    qtbot.waitUntil(lambda: dock.view.results.figures["Keep ratio"] == "0.3", timeout=WAIT)
    for name, setting in (("random", 0.3), ("truncated", None), ("none", None)):
        result = click_method(qtbot, dock, name)
        assert (result.report["method"], result.report["sparsifier"]) == ("stp", name)
        assert dock.view.results.figures["Control"] == METHODS[name].title.lower()
        assert (result.report["setting"] or {}).get("value") == setting
        assert METHODS[name].about in dock.view.maps.note.text()
        check_shown(viewer, dock, result)
    result = click_method(qtbot, dock, "")
    assert result.report["sparsifier"] == "stp"
    assert "Control" not in dock.view.results.figures


def test_map_of_the_same_kind_stays_chosen(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock = dock_of()
    add(viewer, scan)
    segment(qtbot, dock)
    shown = []
    for name, choose in (("dtop", "importance"), ("svit", None), ("dense", None), ("stp", "none"),
                         ("apformer", None)):  # fmt: skip
        click_method(qtbot, dock, name)
        shown.append(dock.view.maps.current())
        if choose:
            dock.view.maps.choose(choose)

    assert shown == ["kept", "importance", "depth", "depth", "none"]
    assert visible_maps(viewer) == []


def test_before_the_first_run_and_after_another_task_a_click_only_chooses(
    qtbot: Any, dock_of: Any, scan: Volume
):
    viewer, dock = dock_of()
    add(viewer, scan)
    dock.controls.chooser.methods.buttons["dtop"].click()
    dock.controls.chooser.controls.buttons["random"].click()
    assert not dock.runner.busy

    result = segment(qtbot, dock)
    assert (result.report["method"], result.report["sparsifier"]) == ("dtop", "random")
    labels = np.array(layer(viewer, "segmentation").data)
    assert dock.runner.follows

    dock.controls.task.setCurrentIndex(1)
    assert not dock.runner.busy
    assert not dock.runner.follows
    assert np.array_equal(layer(viewer, "segmentation").data, labels)

    result = click_method(qtbot, dock, "dense")
    assert result.report["model"] == "other-mr-dense"
    assert dock.view.results.figures["Blocks saved"].startswith("0%")


def test_latest_click_wins(qtbot: Any, dock_of: Any, scan: Volume, hold: Any):
    viewer, dock = dock_of()
    add(viewer, scan)
    segment(qtbot, dock)
    shown: list[str] = []
    dock.segmented.connect(lambda result: shown.append(origin(result.report)))
    buttons = dock.controls.chooser.methods.buttons

    gate = hold(dock.runner, "Encoding and decoding")
    buttons["dtop"].click()
    qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)
    buttons["svit"].click()
    buttons["apformer"].click()
    move_slider(dock, 0.45)  # the slider of a method that has no result yet
    with qtbot.waitSignal(dock.segmented, timeout=WAIT):
        gate.open()
    qtbot.waitUntil(lambda: not dock.runner.busy, timeout=WAIT)

    assert shown[-1] == "APFormer, background threshold 0.45"
    assert not [text for text in shown if "APFormer" not in text]
    assert set(map_layers(viewer)) == {view.kind for view in METHODS["apformer"].views}


def test_cancelling_a_click_restores_choice_and_layers(
    qtbot: Any, dock_of: Any, scan: Volume, hold: Any
):
    viewer, dock = dock_of()
    add(viewer, scan)
    segment(qtbot, dock)
    before = {role: np.array(layer(viewer, role).data) for role in STP_LAYERS}
    gate = hold(dock.runner, "First encoder blocks")
    dock.controls.chooser.methods.buttons["dtop"].click()
    qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)
    assert dock.controls.setting.label.text() == "Exit threshold"

    with qtbot.waitSignal(dock.runner.cancelled, timeout=WAIT):
        dock.controls.cancel_button.click()
        gate.open()

    assert dock.controls.choice().model.name == "brain-mr-stp"
    assert dock.controls.setting.label.text() == "Keep ratio"
    for role, data in before.items():
        assert np.array_equal(layer(viewer, role).data, data, equal_nan=True), role


def test_another_task_in_the_middle_of_a_run_stays_chosen(
    qtbot: Any, dock_of: Any, scan: Volume, hold: Any
):
    viewer, dock = dock_of()
    add(viewer, scan)
    segment(qtbot, dock)
    gate = hold(dock.runner, "Encoding and decoding")
    dock.controls.chooser.methods.buttons["dtop"].click()
    qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)

    with qtbot.waitSignal(dock.runner.cancelled, timeout=WAIT):
        dock.controls.task.setCurrentIndex(1)
        gate.open()

    assert dock.controls.choice().model.name == "other-mr-dtop"
    assert dock.view.results.figures["Method"] == "STP + MTA"


def test_kept_result_stays_beside_the_next(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock = dock_of()
    image = add(viewer, scan)
    assert dock.controls.keep_button.isHidden()
    first = segment(qtbot, dock)
    labels = layer(viewer, "segmentation")
    data = np.array(labels.data)

    dock.controls.keep_button.click()

    title = "(STP + MTA, keep ratio 0.5)"
    assert labels.name == f"ball segmentation {title}"
    assert labels.visible
    assert not dock.controls.keep_button.isEnabled()
    assert visible_maps(viewer) == ["kept"]  # the maps of the live result go on
    result = click_method(qtbot, dock, "svit")
    assert dock.controls.keep_button.isEnabled()
    check_shown(viewer, dock, result)
    assert np.array_equal(labels.data, data)
    assert labels.metadata["sparseseg"]["report"] == first.report
    kept = [x for x in viewer.layers if x.name.endswith(title)]
    assert [x.name for x in kept if x.visible] == [labels.name]
    assert {x.name for x in kept} == {
        f"ball {role} {title}" for role in STP_LAYERS if role != "tokens"
    }
    assert dock.controls.image.count() == 1

    for gone in kept:
        viewer.layers.remove(gone)
    check_shown(viewer, dock, click_method(qtbot, dock, "stp"))
    assert [x.name for x in viewer.layers] == [image.name, *(f"ball {r}" for r in STP_LAYERS)]


def test_own_checkpoint_is_opened_from_a_file_and_a_bad_one_refused(
    qtbot: Any, dock_of: Any, scan: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_model(tmp_path, "my-brain-svit", "My brain", "svit")
    mine = tmp_path / "my-brain-svit.safetensors"
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes((2).to_bytes(8, "little") + b"{}")
    short = tmp_path / "short.safetensors"
    short.write_bytes(mine.read_bytes()[:-1000])
    asked: list[Path] = [foreign]
    monkeypatch.setattr(
        QFileDialog, "getOpenFileName", lambda *_: (str(asked[0]) if asked[0].name else "", "")
    )
    viewer, dock = dock_of()
    add(viewer, scan)
    task = dock.controls.task

    with qtbot.waitSignal(dock.refused) as blocker:
        dock.controls.open_button.click()
    assert "holds no SparseSeg model" in blocker.args[0]
    assert dock.message.text() == blocker.args[0]
    assert task.count() == 2

    asked[0] = mine
    dock.controls.open_button.click()
    assert dock.message.isHidden()
    assert task.currentText() == "My brain (my-brain-svit.safetensors)"
    assert not dock.runner.busy
    result = segment(qtbot, dock)
    assert result.report["model"] == "my-brain-svit"
    check_shown(viewer, dock, result)

    asked[0] = short
    dock.controls.open_button.click()
    with qtbot.waitSignal(dock.refused, timeout=WAIT) as blocker:
        dock.controls.segment_button.click()
    assert "damaged" in blocker.args[0]
    assert blocker.args[0].endswith(".")
    assert task.currentText() == "My brain (my-brain-svit.safetensors)"  # what is shown
    asked[0] = Path("")
    dock.controls.open_button.click()
    assert task.count() == 4


def test_click_on_the_canvas_chooses_the_token_whose_dependencies_are_shown(
    qtbot: Any, dock_of: Any
):
    viewer, dock = dock_of(show=True)
    add(viewer, Volume(ball((60, 60, 60)), np.diag([2.0, 2.0, 2.0, 1.0]), "ball"))
    dock.controls.chooser.methods.buttons["apformer"].click()
    trace = segment(qtbot, dock).trace
    dock.view.maps.choose("dependencies")
    tokens, note = layer(viewer, "tokens"), dock.view.maps.note
    assert "attended to" in note.text()
    assert trace.views[2].about in note.text()
    canvas = viewer.__wrapped__.window._qt_viewer.canvas.native
    middle = canvas.rect().center()
    found: dict[int, QPoint] = {}

    step = min(canvas.width(), canvas.height()) // 5  # more than a token
    for away in (QPoint(0, 0), QPoint(step, 0), QPoint(-step, 0), QPoint(0, -step)):
        QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=middle + away)
        index = np.rint(tokens.world_to_data(viewer.cursor.position)).astype(int)
        label = int(tokens.data[tuple(index)])
        found[label] = middle + away
        attended = trace.attended(label - 1)
        if attended is None:
            assert f"The query of token {label} was pruned" in note.text()
            assert np.isnan(layer(viewer, "dependencies").data).all()
        else:
            assert f"Token {label} attended to {(attended > 0).sum()} of" in note.text()
            shown = layer(viewer, "dependencies").data
            assert np.nansum(shown) == pytest.approx(np.nansum(attended))
        assert tokens.get_color(label)[3] > 0
    picture = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
    marked = (picture[..., 0] < 90) & (picture[..., 1:].min(axis=-1) > 120)
    assert 0 < marked.mean() < 0.15  # the chosen token, and no other
    before = note.text()
    assert len(found) > 2
    elsewhere = next(place for other, place in found.items() if other != label)
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=elsewhere)
    QTest.mouseMove(canvas, elsewhere + QPoint(60, 60))
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=elsewhere + QPoint(60, 60))
    assert note.text() == before


def color_at(viewer: Any, world: tuple[float, ...]) -> list[int]:
    """Return the colour of the canvas at a place in the slice that is shown."""
    picture = viewer.screenshot(canvas_only=True, flash=False)[..., :3]
    camera = viewer.scene.camera
    offset = (np.array(world[1:]) - camera.center[1:]) * camera.zoom
    row, column = (np.array(picture.shape[:2]) / 2 + offset).astype(int)
    return picture[row, column].tolist()


def test_air_stays_clear_where_a_map_counts_from_0(qtbot: Any, dock_of: Any):
    viewer, dock = dock_of(show=True)
    add(viewer, Volume(ball((60, 60, 60)), np.diag([2.0, 2.0, 2.0, 1.0]), "ball"))
    dock.controls.chooser.methods.buttons["svit"].click()
    trace = segment(qtbot, dock).trace
    assert (trace.reactivations[~trace.air] == 0).any()
    tokens = layer(viewer, "tokens")
    layer(viewer, "segmentation").visible = False
    state = layer(viewer, "reactivations").data[:, 0, 0]
    at = int(np.flatnonzero(state == maps.AIR)[len(state) // 2])
    air = tokens.data_to_world((at, 0, 0))
    viewer.dims.set_point(0, air[0])
    inside = tokens.data_to_world((at, *np.array(tokens.data.shape[1:]) // 2))

    colors = {}
    for kind in (maps.NONE, "reactivations", "depth"):
        dock.view.maps.choose(kind)
        qtbot.wait(300)
        colors[kind] = (color_at(viewer, air), color_at(viewer, inside))

    for kind in ("reactivations", "depth"):
        assert colors[kind][0] == colors[maps.NONE][0]
        assert colors[kind][1] != colors[maps.NONE][1]
