"""What the tests do with a window: add a scan, press buttons, look at layers."""

from __future__ import annotations

import threading
from typing import Any

from napari.layers import Layer
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_sparseseg import maps
from napari_sparseseg.plugin.readers import image_layer
from napari_sparseseg.plugin.runner import THREAD_NAME
from napari_sparseseg.volume import Volume

from .conftest import WAIT

STP_LAYERS = ("importance", "kept", "depth", "tokens", "segmentation")
"""What a result of STP adds to the viewer, from the bottom up."""


def add(viewer: Any, volume: Volume) -> Any:
    return viewer.add_layer(Layer.create(*image_layer(volume, "memory")))


def segment(qtbot: Any, dock: Any) -> Any:
    with qtbot.waitSignal(dock.segmented, timeout=WAIT) as blocker:
        dock.controls.segment_button.click()
    return blocker.args[0]


def click_method(qtbot: Any, dock: Any, name: str) -> Any:
    """Click on a method or control, and wait for its result."""
    chooser = dock.controls.chooser
    button = {**chooser.methods.buttons, **chooser.controls.buttons}[name]
    with qtbot.waitSignal(dock.segmented, timeout=WAIT) as blocker:
        button.click()
    return blocker.args[0]


def move_slider(dock: Any, value: float) -> None:
    dock.controls.setting.slider.setValue(value)


def layer(viewer: Any, role: str, image: str = "ball") -> Any:
    return viewer.layers[f"{image} {role}"]


def map_layers(viewer: Any, image: str = "ball") -> list[str]:
    """List the kinds of map that have a layer, from the bottom up."""
    known = {f"{image} {kind}": kind for kind in maps.KINDS}
    return [known[x.name] for x in viewer.layers if x.name in known]


def visible_maps(viewer: Any, image: str = "ball") -> list[str]:
    return [kind for kind in map_layers(viewer, image) if layer(viewer, kind, image).visible]


def legend(dock: Any) -> dict[str, str]:
    """Return the figures of the legend by the words beside them."""
    return {text: figure for _, text, figure in dock.view.maps.legend.rows}


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


def press_alt(viewer: Any, key: Qt.Key) -> None:
    """Press Alt and a key while the canvas has the focus."""
    window = viewer.__wrapped__.window._qt_window
    window.activateWindow()
    canvas = viewer.__wrapped__.window._qt_viewer.canvas.native
    canvas.setFocus()
    QApplication.processEvents()
    QTest.keyClick(canvas, key, Qt.KeyboardModifier.AltModifier)
