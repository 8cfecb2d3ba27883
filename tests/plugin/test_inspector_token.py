"""The tab "Token" in a real window: clicks and keys choose tokens, and nothing stale is left."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_sparseseg.analysis.inspection import inspect
from napari_sparseseg.plugin.inspector.token_facts import centre_of
from napari_sparseseg.plugin.inspector.token_tab import DISAGREEING, PRUNED, UNSURE
from napari_sparseseg.volume import Volume

from .conftest import WAIT, ball
from .window import add, layer, move_slider, press_alt, segment


def world_of(image: Any, trace: Any, token: int) -> np.ndarray:
    index = np.linalg.inv(image.metadata["affine"]) @ [*centre_of(trace.grid, token), 1]
    return np.asarray(image.data_to_world(index[:3]))


def test_keys_lead_to_tokens_whichever_tab_is_in_front(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock = dock_of(show=True)
    image = add(viewer, scan)
    inspector = dock.open_inspector()
    tab = inspector.tokens
    assert tab.empty.text() == "Segment a scan first."
    assert not any(button.isEnabled() for button in tab.keys.values())
    result = segment(qtbot, dock)
    trace = result.trace
    assert "Click on a token" in tab.empty.text()
    assert "(Alt+N)" in tab.keys[PRUNED].text()
    inspector.pages.setCurrentWidget(inspector.notes)

    found = []
    for number in (1, 2):
        with qtbot.waitSignal(inspector.token_chosen, timeout=WAIT):
            press_alt(viewer, Qt.Key.Key_N)
        token = inspector.token
        found.append(token)
        assert not trace.kept.flat[token]
        assert not trace.air.flat[token]
        np.testing.assert_allclose(viewer.dims.point, world_of(image, trace, token), atol=2)
        assert tab.facts.token == token
        assert any(part.name != "background" for part in tab.facts.mix)
        assert tab.note.text().startswith(f"{number} of ")
    assert found[0] != found[1]
    frame = layer(viewer, "chosen token")
    middle = (np.array(frame.data.shape) - 1) / 2
    np.testing.assert_allclose(
        frame.data_to_world(middle), world_of(image, trace, found[1]), atol=4
    )  # half a voxel: a patch may hold one more on a side
    assert len(tab.view.table.texts()) == len(trace.stages)

    press_alt(viewer, Qt.Key.Key_D)
    assert inspector.token == found[1]
    assert "Press Compare" in tab.note.text()
    assert not tab.keys[DISAGREEING].isEnabled()
    other = result.labels.data.copy()
    other[40:44, 20, 20] = (other[40:44, 20, 20] + 1) % len(result.classes)
    reference = Volume(other, result.labels.affine, "reference")
    inspector.show_inspection(inspect(scan, result, other=reference, other_title="reference"))
    assert tab.keys[DISAGREEING].isEnabled()
    with qtbot.waitSignal(inspector.token_chosen, timeout=WAIT):
        press_alt(viewer, Qt.Key.Key_D)
    inside = [
        part.start <= at < part.stop for part, at in zip(tab.facts.box, (41, 20, 20), strict=True)
    ]
    assert inside[1:] == [True, True]  # the four voxels may lie in two tokens
    with qtbot.waitSignal(inspector.token_chosen, timeout=WAIT):
        press_alt(viewer, Qt.Key.Key_E)
    left_out = ~trace.kept & ~trace.air
    assert tab.facts.confidence >= np.nanmin(trace.confidence[left_out])
    assert left_out.flat[inspector.token]
    assert tab.keys[UNSURE].isEnabled()

    with qtbot.waitSignal(dock.segmented, timeout=WAIT):
        move_slider(dock, 0.2)
    assert tab.facts is None
    assert inspector.token is None
    assert "Click on a token" in tab.empty.text()
    assert "ball chosen token" not in viewer.layers
    assert not tab.keys[DISAGREEING].isEnabled()


def test_click_chooses_a_token_whose_attention_is_drawn_until_the_inspector_closes(
    qtbot: Any, dock_of: Any
):
    viewer, dock = dock_of(show=True)
    image = add(viewer, Volume(ball((60, 60, 60)), np.diag([2.0, 2.0, 2.0, 1.0]), "ball"))
    dock.controls.chooser.methods.buttons["apformer"].click()
    trace = segment(qtbot, dock).trace
    inspector = dock.open_inspector()
    canvas = viewer.__wrapped__.window._qt_viewer.canvas.native
    QApplication.processEvents()
    before = [x.name for x in viewer.layers]

    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=canvas.rect().center())
    tokens = layer(viewer, "tokens")
    index = np.rint(tokens.world_to_data(viewer.cursor.position)).astype(int)
    assert inspector.token == int(tokens.data[tuple(index)]) - 1
    assert inspector.tokens.facts.token == inspector.token

    attending = [t for t in range(trace.grid.size) if trace.attended(t) is not None]
    token = attending[len(attending) // 2]
    dock.view.maps.choose("dependencies")
    inspector.choose_token(token, go=True)
    lines = layer(viewer, "attention")
    shares = trace.attended(token).ravel()
    others = [t for t in np.flatnonzero(shares > 0) if t != token]
    assert len(lines.data) == min(60, len(others))
    ends = [lines.data_to_world(start + way) for start, way in lines.data]
    np.testing.assert_allclose(ends, [world_of(image, trace, token)] * len(ends), atol=1e-4)
    starts = {tuple(np.round(lines.data_to_world(start), 3)) for start, _ in lines.data}
    assert starts <= {tuple(np.round(world_of(image, trace, t), 3)) for t in others}
    assert f"Token {token + 1} attended" in dock.view.maps.note.text()  # the map follows

    viewer.window.remove_dock_widget(inspector)
    assert [x.name for x in viewer.layers] == before
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=canvas.rect().center())
    assert [x.name for x in viewer.layers] == before


def test_in_3d_the_first_structure_in_sight_is_chosen_and_described(qtbot: Any, dock_of: Any):
    viewer, dock = dock_of(show=True)
    add(viewer, Volume(ball((60, 60, 60)), np.diag([2.0, 2.0, 2.0, 1.0]), "ball"))
    result = segment(qtbot, dock)
    inspector = dock.open_inspector()
    canvas = viewer.__wrapped__.window._qt_viewer.canvas.native
    viewer.dims.ndisplay = 3
    viewer.reset_view()
    viewer.scene.camera.angles = (20, 35, 80)
    QApplication.processEvents()

    QTest.mouseMove(canvas, canvas.rect().center())
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=canvas.rect().center())

    # by hand: along the line of sight through the middle of the view, from the eye on
    segmentation = layer(viewer, "segmentation")
    sight = np.array(viewer.scene.camera.view_direction)
    middle = np.array(viewer.scene.camera.center)
    far = np.linalg.norm(segmentation.data.shape) * 2.0
    line = middle + np.arange(-far, far, 0.25)[:, None] * sight
    voxels = np.rint([segmentation.world_to_data(p) for p in line]).astype(int)
    inside = ((voxels >= 0) & (voxels < segmentation.data.shape)).all(axis=1)
    values = np.where(inside, segmentation.data[tuple(np.where(inside[:, None], voxels, 0).T)], 0)
    first = line[np.flatnonzero(values)[0]]
    tokens = layer(viewer, "tokens")
    expected = tokens.data[tuple(np.rint(tokens.world_to_data(first)).astype(int))] - 1
    assert inspector.token == expected
    name = result.classes[values[np.flatnonzero(values)[0]]]
    assert f"Token {expected + 1}:" in dock.view.pointer.text()
    assert f"Structure: {name}" in dock.view.pointer.text()

    QTest.mouseMove(canvas, canvas.rect().topLeft() + QPoint(3, 3))
    assert dock.view.pointer.text() == ""  # nothing is met there
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=QPoint(3, 3))
    assert inspector.token == expected
