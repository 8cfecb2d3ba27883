"""Take the picture of the Slicer module's panel, on the stand-ins of its tests and real MRML.

    QT_QPA_PLATFORM=offscreen .venv-slicer/bin/python scripts/slicer_panel_picture.py SCAN.nii.gz

``scripts/slicer-environments`` makes .venv-slicer; the engine is that of .venv, or of
$SPARSESEG_PYTHON. The frame and the widgets of CTK and MRML look a little different in Slicer.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
MODULE = TOP / "slicer_extension" / "SparseSeg"
PICTURE = TOP / "slicer_extension" / "Screenshots" / "panel.png"
WIDTH = 420
PATIENCE_SECONDS = 300


def main() -> int:
    """Take the picture; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scan", type=Path)
    parser.add_argument("--output", type=Path, default=PICTURE, metavar="FILE")
    options = parser.parse_args()
    os.environ.setdefault("SPARSESEG_PYTHON", str(TOP / ".venv" / "bin" / "python"))
    os.environ["PYTHONPATH"] = str(TOP)
    os.environ.setdefault("QT_LOGGING_RULES", "qt.core.qobject.connect=false")
    sys.path[:0] = [str(TOP), str(MODULE)]
    from PySide6.QtWidgets import QApplication

    application = QApplication([])
    picture = take(options.scan, application.processEvents)
    picture.save(str(options.output))
    print(options.output)
    return 0


def take(scan: Path, process_events: Callable[[], None]) -> Any:
    """Segment a scan in the panel by its own button, and return what the panel looks like."""
    from tests.slicer import standins

    standins.install(str(MODULE))
    from SparseSeg import SparseSegWidget

    load(scan)
    widget = SparseSegWidget()
    widget.setup()
    widget.enter()
    try:
        wait(process_events, lambda: widget.ui.model.count > 0)
        widget.ui.settingsButton.setCollapsed(False)
        widget.ui.compareDense.setChecked(True)
        widget.parent.resize(WIDTH, 100)
        widget.parent.show()
        widget.ui.applyButton.click()
        wait(process_events, lambda: not widget.logic.runs.busy)
        wait(process_events, lambda: widget.ui.device.count > 1)
        widget.parent.resize(WIDTH, widget.parent.layout().heightForWidth(WIDTH))
        process_events()
        return widget.parent.grab()
    finally:
        widget.cleanup()


def load(scan: Path) -> None:
    """Read a scan into the scene as Slicer does."""
    import slicer

    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(scan))
    name = scan.name.split(".")[0]
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    if not storage.ReadData(volume):
        sys.exit(f"{scan} cannot be read; give a NIfTI, NRRD or MetaImage file.")


def wait(process_events: Callable[[], None], done: Callable[[], bool]) -> None:
    """Let Qt work until something has come about."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not done():
        if time.monotonic() > end:
            sys.exit("The panel did not answer; see that .venv holds the engine.")
        process_events()
        time.sleep(0.01)
    process_events()


if __name__ == "__main__":
    sys.exit(main())
