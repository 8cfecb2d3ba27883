"""Take the pictures of docs/tutorial.md: the guided tour of the sample, in a real window.

    python scripts/tutorial_pictures.py [--output DIR] [--size WIDTH HEIGHT] [--theme THEME]

It walks through the inspector by pressing its own buttons. Where there is no screen, put
``scripts/virtual-display`` in front.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import napari
from napari.layers import Layer
from pictures import settle, wait_for

from napari_sparseseg.errors import SparseSegError
from napari_sparseseg.plugin.demo import DEEP_NUCLEI_MM, WINDOW, check_display
from napari_sparseseg.plugin.dock import SparseSegDock, open_dock
from napari_sparseseg.plugin.inspector.panel import Inspector
from napari_sparseseg.plugin.inspector.token_tab import PRUNED
from napari_sparseseg.plugin.sample import icbm152_t1

FOLDER = Path(__file__).parent.parent / "docs" / "images" / "tutorial"
RATIO = 0.3


def main() -> int:
    """Take the pictures; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="DIR")
    parser.add_argument("--size", type=int, nargs=2, default=WINDOW, metavar="PIXELS")
    parser.add_argument("--theme", default="dark", choices=("dark", "light"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        check_display()
        viewer = napari.Viewer()
        viewer.theme = options.theme
        viewer.window.resize(*options.size)
        for name in tour(viewer):
            settle()
            path = options.output / f"{name}.png"
            viewer.screenshot(str(path), canvas_only=False, flash=False)
            print(f"{path} ({path.stat().st_size / 1024:.0f} kB)", flush=True)
        viewer.close()
    except SparseSegError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def tour(viewer: napari.Viewer) -> Iterator[str]:
    """Walk through the inspector.

    Yields
    ------
    str
        Name of the picture to take now.
    """
    for data in icbm152_t1():
        viewer.add_layer(Layer.create(*data))
    dock = open_dock(viewer)
    wait_for(dock, dock.segmented, dock.controls.segment_button.click)
    wait_for(dock, dock.segmented, lambda: dock.controls.setting.slider.setValue(RATIO))
    viewer.dims.set_point(0, DEEP_NUCLEI_MM)
    inspector = dock.open_inspector()
    settle()
    viewer.reset_view()
    yield "1-segmented"
    yield from inspected(viewer, dock, inspector)


def inspected(viewer: napari.Viewer, dock: SparseSegDock, inspector: Inspector) -> Iterator[str]:
    """Open each tab in turn."""
    pages = inspector.pages
    wait_for(dock, inspector.token_chosen, inspector.tokens.keys[PRUNED].click)
    yield "2-token"
    pages.setCurrentWidget(inspector.compare)
    wait_for(dock, inspector.inspected, inspector.compare.button.click)
    viewer.dims.set_point(0, DEEP_NUCLEI_MM)
    viewer.reset_view()
    yield "3-compare"
    pages.setCurrentWidget(inspector.notes)
    inspector.notes.table.clicked_row.emit(0)
    yield "4-safety"
    pages.setCurrentWidget(inspector.curve)
    wait_for(dock, inspector.curve.swept, inspector.curve.run_button.click)
    viewer.reset_view()
    yield "5-curve"


if __name__ == "__main__":
    sys.exit(main())
