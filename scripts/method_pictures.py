"""Take the pictures of docs/methods.md: every map of every method and control, in a real window.

    python scripts/method_pictures.py [--output DIR] [--only METHOD ...]

It segments the sample scan with the shipped models by pressing the dock's own buttons. Where there
is no screen, put ``scripts/virtual-display`` in front.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import napari
import numpy as np
from napari.layers import Layer
from pictures import settle, wait_for
from PIL import Image
from qtpy.QtGui import QImage

from napari_sparseseg.errors import SparseSegError
from napari_sparseseg.methods import METHODS
from napari_sparseseg.plugin.demo import DEEP_NUCLEI_MM, check_display
from napari_sparseseg.plugin.dock import SparseSegDock, open_dock
from napari_sparseseg.plugin.sample import icbm152_t1

FOLDER = Path(__file__).parent.parent / "docs" / "images" / "methods"
WINDOW = (1280, 800)
CLOSE_UP = 0.94
"""How much nearer than the whole scan the camera is."""


def main() -> int:
    """Take the pictures; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="DIR")
    parser.add_argument("--only", nargs="+", choices=METHODS, metavar="METHOD")
    options = parser.parse_args()
    try:
        check_display()
        for path in take(options.output, options.only or list(METHODS)):
            print(f"{path} ({path.stat().st_size / 1024:.0f} kB)")
    except SparseSegError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def take(output: Path, wanted: list[str]) -> Iterator[Path]:
    """Take the pictures of these methods and controls, of those that have a model.

    Yields
    ------
    Path
        Each picture, when it is written.
    """
    output.mkdir(parents=True, exist_ok=True)
    viewer = napari.Viewer()
    viewer.window.resize(*WINDOW)
    for data in icbm152_t1():
        viewer.add_layer(Layer.create(*data))
    viewer.dims.set_point(0, DEEP_NUCLEI_MM)
    dock = open_dock(viewer)
    chooser = dock.controls.chooser
    default = chooser.methods.current()
    wait_for(dock, dock.segmented, dock.controls.segment_button.click)
    viewer.reset_view()
    viewer.scene.camera.zoom *= 1 / CLOSE_UP
    for row, first in ((chooser.methods, default), (chooser.controls, "")):
        row.buttons[first].click()
        for name in [key for key in row.buttons if key in wanted]:
            if row.current() != name:
                wait_for(dock, dock.segmented, row.buttons[name].click)
            for view in METHODS[name].views:
                dock.view.maps.choose(view.kind)
                settle()
                path = output / f"{name}-{view.kind}.png"
                save(viewer, dock, path)
                yield path
        if row.current() != first:
            wait_for(dock, dock.segmented, row.buttons[first].click)
    viewer.close()


def save(viewer: napari.Viewer, dock: SparseSegDock, path: Path) -> None:
    """Save the canvas with the upper part of the dock beside it."""
    canvas = viewer.screenshot(canvas_only=True, flash=False)[..., :3]
    grabbed = dock.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
    rows = np.frombuffer(grabbed.constBits().asarray(grabbed.sizeInBytes()), np.uint8)
    rows = rows.reshape(grabbed.height(), grabbed.bytesPerLine())  # padded to whole words
    panel = rows[:, : 3 * grabbed.width()].reshape(grabbed.height(), grabbed.width(), 3)
    height = min(len(canvas), len(panel))
    picture = np.concatenate([canvas[:height], panel[:height]], axis=1)
    Image.fromarray(picture).save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
