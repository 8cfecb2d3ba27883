"""All open scans with one button: progress, failures beside results, cancelling."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image

from napari_sparseseg.volume import Volume

from .conftest import WAIT, ball
from .window import add, layer


def open_scans(viewer: Any, scan: Volume) -> None:
    """Open two scans, one whose orientation is unknown, and one that is none."""
    add(viewer, scan)
    viewer.add_layer(Image(np.zeros((40, 40, 40), np.float32), name="empty"))
    viewer.add_layer(Image(ball((40, 40, 40), seed=1), name="other"))
    viewer.add_layer(Image(np.zeros((20, 20, 3), np.uint8), rgb=True, name="photo"))


def test_all_scans_are_segmented_and_failures_are_listed(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock = dock_of()
    open_scans(viewer, scan)
    chosen = dock.image()
    asked: list[str] = []
    dock.runner.progressed.connect(lambda *_: asked.append(dock.controls.progress.format()))

    dock.controls.all_button.click()
    assert not dock.controls.choices.isEnabled()
    assert not dock.controls.all_button.isEnabled()
    qtbot.waitUntil(lambda: not dock.batch.active, timeout=WAIT)

    assert "2 of 4 scans could not be segmented" in dock.message.text()
    for name, words in (("empty", "same value"), ("photo", "colour image")):
        assert any(
            line.startswith(name) and words in line for line in dock.message.text().splitlines()
        )
    assert any(text.startswith("Scan 3 of 4: ") for text in asked)
    for name in ("ball", "other"):
        assert np.any(layer(viewer, "segmentation", name).data)
    assert "empty segmentation" not in viewer.layers
    assert dock.image() is chosen
    assert dock.shown is not None
    assert dock.controls.choices.isEnabled()

    del viewer.layers["empty"], viewer.layers["photo"]
    dock.controls.all_button.click()
    qtbot.waitUntil(lambda: not dock.batch.active, timeout=WAIT)
    assert dock.message.text().startswith("Segmented 2 scans.\nother: The scan does not say how")
    assert len(dock.shown.earlier) == 1
    assert not dock.controls.progress.format().startswith("Scan")


def test_cancel_keeps_what_was_done(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock = dock_of()
    add(viewer, scan)
    viewer.add_layer(Image(ball((40, 40, 40), seed=1), name="other"))
    gates = []

    def on_progress(*_: Any) -> None:
        if dock.controls.prefix.startswith("Scan 2") and not gates:
            gates.append(dock.runner)
            dock.controls.cancel_button.click()

    dock.runner.progressed.connect(on_progress)
    with qtbot.waitSignal(dock.runner.cancelled, timeout=WAIT):
        dock.controls.all_button.click()

    assert dock.message.text().startswith("Stopped after 1 of 2 scans")
    assert "ball segmentation" in viewer.layers
    assert "other segmentation" not in viewer.layers
    assert not dock.batch.active
    assert dock.controls.segment_button.isEnabled()
