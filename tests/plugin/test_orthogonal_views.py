"""Beside the plugin napari-orthogonal-views: two more canvases that mirror every layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari_orthogonal_views import OrthoViewWidget
from napari_orthogonal_views.ortho_view_manager import (
    delete_and_cleanup,
    hide_orthogonal_views,
    show_orthogonal_views,
)

from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.volume import Volume

from .conftest import WAIT
from .window import STP_LAYERS, add, layer, move_slider, segment, visible_maps

RESULT = ["ball", *(f"ball {role}" for role in STP_LAYERS)]
LOOK = ("visible", "opacity", "blending", "scale", "translate", "rotate", "shear")
LABELS_LOOK = ("contour", "editable")


def ortho_views(dock: Any) -> list[Any]:
    """List the viewer models of the orthogonal views."""
    found = dock.window().findChildren(OrthoViewWidget)
    return [view.vm_container.viewer_model for view in found]


def check_views(viewer: Any, dock: Any, names: list[str]) -> None:
    """See that the viewer has these layers, and that both views show them as it does."""
    assert [x.name for x in viewer.layers] == names
    views = ortho_views(dock)
    assert len(views) == 2
    for view in views:
        assert view.dims.point == pytest.approx(viewer.dims.point)
        assert [x.name for x in view.layers] == names
        for mine, copy in zip(viewer.layers, view.layers, strict=True):
            np.testing.assert_array_equal(copy.data, mine.data, err_msg=mine.name)
            for attribute in LOOK + (LABELS_LOOK if hasattr(mine, "contour") else ()):
                np.testing.assert_array_equal(
                    getattr(copy, attribute), getattr(mine, attribute), f"{mine.name}: {attribute}"
                )
            for value in range(4):
                colors = copy.colormap.map(value), mine.colormap.map(value)
                np.testing.assert_array_equal(*colors, err_msg=f"{mine.name}: colour of {value}")


def check_result(viewer: Any, dock: Any, scan: Volume, setting: float) -> None:
    """See that what is shown is what the engine alone gives."""
    expected = Segmenter("brain-mr-stp").segment(scan, setting)
    result, on_layer = dock.shown.result, dock.shown.request.scan.on_layer
    np.testing.assert_array_equal(result.labels.data, expected.labels.data)
    np.testing.assert_array_equal(result.trace.depth, expected.trace.depth)
    shown = layer(viewer, "segmentation").data
    np.testing.assert_array_equal(shown, on_layer(expected.labels.data))


def test_the_views_mirror_the_layers_and_leave_nothing(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock = dock_of(show=True)
    add(viewer, scan)
    show_orthogonal_views(viewer)
    qtbot.waitUntil(lambda: len(ortho_views(dock)) == 2, timeout=WAIT)
    check_views(viewer, dock, ["ball"])

    segment(qtbot, dock)
    check_views(viewer, dock, RESULT)
    check_result(viewer, dock, scan, 0.5)
    with qtbot.waitSignal(dock.segmented, timeout=WAIT):
        move_slider(dock, 0.2)
    check_views(viewer, dock, RESULT)
    check_result(viewer, dock, scan, 0.2)
    for which in ("importance", "depth"):
        dock.view.maps.choose(which)
        check_views(viewer, dock, RESULT)
    assert dock.controls.image.count() == 1, "no mirrored layer is offered as a scan"

    inspector = dock.open_inspector()
    inspector.choose_token(int(dock.shown.result.trace.left_stage.argmax()), go=True)
    framed = [x.name for x in viewer.layers]
    assert framed[: len(RESULT)] == RESULT
    assert "ball chosen token" in framed
    check_views(viewer, dock, framed)
    with qtbot.waitSignal(inspector.inspected, timeout=WAIT) as blocker:
        inspector.compare.button.click()
    assert sum(blocker.args[0].comparison.counts.values())
    compared = [x.name for x in viewer.layers]
    assert "ball difference" in compared
    check_views(viewer, dock, compared)

    dock.undo()
    check_views(viewer, dock, RESULT)
    check_result(viewer, dock, scan, 0.5)
    viewer.window.remove_dock_widget(inspector)
    check_views(viewer, dock, RESULT)

    hide_orthogonal_views(viewer)
    qtbot.waitUntil(lambda: not ortho_views(dock), timeout=WAIT)
    assert [x.name for x in viewer.layers] == RESULT
    check_result(viewer, dock, scan, 0.5)
    dock.view.maps.choose("kept")
    assert visible_maps(viewer) == ["kept"]
    delete_and_cleanup(viewer)
