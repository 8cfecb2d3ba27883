"""The whole way once: open the sample in napari, press Segment, show what was pruned.

``python -m napari_sparseseg.plugin.demo`` leaves the window open; with ``--output DIR`` it saves
what the window shows and the results into the folder and closes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sparseseg.errors import OutputError, SparseSegError
from napari_sparseseg.outputs import Outputs

if TYPE_CHECKING:
    import napari

    from napari_sparseseg.plugin.dock import SparseSegDock
    from napari_sparseseg.session import Segmentation

WINDOW = (1600, 1000)
DEEP_NUCLEI_MM = 2.0
"""Height of an axial slice through caudate, putamen, pallidum and thalamus (MNI space)."""

_SETTLE_MS = 1500  # a window takes a moment to draw what it was told to


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo.

    Parameters
    ----------
    arguments : sequence of str, optional
        Command line; that of the process if left out.

    Returns
    -------
    int
        Exit status: 0, or 2 after one sentence on the standard error.
    """
    parser = argparse.ArgumentParser(prog="python -m napari_sparseseg.plugin.demo")
    parser.add_argument("--output", type=Path, metavar="DIR", help="save the results and close")
    options = parser.parse_args(arguments)
    try:
        check_display()
        run(options.output)
    except SparseSegError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def check_display() -> None:
    """See that there is a screen: Qt ends the process where there is none.

    Raises
    ------
    SparseSegError
        If there is none.
    """
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        raise SparseSegError("There is no screen to open napari on; use 'xvfb-run' or 'make demo'.")


def run(output: Path | None = None) -> None:
    """Open napari with the sample, segment it, and save what comes out if asked to.

    Parameters
    ----------
    output : Path, optional
        Folder for ``panel.png``, ``labels.nii.gz``, ``trace/`` and ``report.json``, which are
        replaced if they exist; the window closes then. Without it the window stays open.

    Raises
    ------
    SparseSegError
        If something is missing or cannot be written.
    """
    import napari
    from napari.layers import Layer
    from qtpy.QtCore import QTimer

    from napari_sparseseg.plugin.dock import open_dock
    from napari_sparseseg.plugin.sample import icbm152_t1

    layers = [Layer.create(*data) for data in icbm152_t1()]
    if output is not None:
        _prepare(output)
    viewer = napari.Viewer(title="SparseSeg demo")
    failures: list[Exception] = []
    results: list[Segmentation] = []
    viewer.window.resize(*WINDOW)
    for layer in layers:
        viewer.add_layer(layer)
    dock = open_dock(viewer)

    def done(result: Segmentation) -> None:
        dock.segmented.disconnect(done)
        results.append(result)
        set_view(viewer, dock)
        if output is not None:
            _later(viewer, failures, lambda: save(viewer, result, output))

    def refused(sentence: str) -> None:
        failures.append(SparseSegError(sentence))
        QTimer.singleShot(0, viewer.close)  # not while the dock is still in the middle of it

    dock.segmented.connect(done)
    if output is not None:
        dock.refused.connect(refused)
    QTimer.singleShot(0, dock.segment)
    napari.run()
    if failures:
        raise failures[0]
    if output is not None and not results:
        raise SparseSegError("The window was closed before there was a result; try again.")


def set_view(viewer: napari.Viewer, dock: SparseSegDock) -> None:
    """Show an axial slice through the deep nuclei."""
    viewer.dims.set_point(0, DEEP_NUCLEI_MM)
    viewer.reset_view()


def save(viewer: napari.Viewer, result: Segmentation, output: Path) -> None:
    """Save the window and the result into a folder.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    from napari_sparseseg.files import atomic_path

    with atomic_path(output / "panel.png", overwrite=True) as path:
        viewer.screenshot(str(path), canvas_only=False, flash=False)
    _files(output).write(result)


def _prepare(output: Path) -> None:
    """See that the folder takes the results, before the work is done for nothing."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The folder {output} cannot be made ({error.strerror}); choose another one."
        ) from error
    _files(output).check()


def _files(output: Path) -> Outputs:
    return Outputs(
        output / "labels.nii.gz", output / "trace", output / "report.json", overwrite=True
    )


def _later(viewer: napari.Viewer, failures: list[Exception], act: Callable[[], None]) -> None:
    """Act when the window has drawn itself, then close it; keep what went wrong."""
    from qtpy.QtCore import QTimer

    def act_and_close() -> None:
        try:
            act()
        except Exception as error:
            failures.append(error)
        viewer.close()

    QTimer.singleShot(_SETTLE_MS, act_and_close)


if __name__ == "__main__":
    sys.exit(main())
