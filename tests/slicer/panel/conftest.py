"""The panel in a window that nobody sees, on real MRML, with a scripted program as its engine."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.slicer.conftest import MODULE

FAKE = MODULE.parents[1] / "tests" / "slicer" / "pure" / "fake_engine.py"
MISSING = "run `make test-slicer`, which makes the environment for it"
PATIENCE_SECONDS = 120.0


class Bench:
    """A module widget with what a test does to it.

    Attributes
    ----------
    widget : SparseSegWidget
        The module's widget.
    ui : object
        Its widgets by name.
    """

    def __init__(self, widget: Any) -> None:
        self.widget = widget
        self.faults: list[str] = []

    @property
    def ui(self) -> Any:
        return self.widget.ui

    @property
    def panel(self) -> Any:
        return self.widget.panel

    @property
    def runs(self) -> Any:
        return self.widget.logic.runs

    @property
    def parameters(self) -> Any:
        return self.widget.logic.getParameterNode()

    def process_events(self) -> None:
        from PySide6.QtWidgets import QApplication

        QApplication.processEvents()

    def wait(self, done: Callable[[], bool]) -> None:
        """Let Qt work until something has come about."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not done():
            assert time.monotonic() < end, f"it did not come about; {self.ui.message.text}"
            self.process_events()
            time.sleep(0.005)
        self.process_events()

    def open(self) -> None:
        """Show the module, and wait for the models."""
        self.widget.enter()
        self.wait(lambda: self.ui.model.count > 0)

    def apply(self) -> None:
        """Press Apply and wait for the result."""
        self.ui.applyButton.click()
        self.wait(lambda: not self.runs.busy)

    def volume(self, name: str = "scan", array: np.ndarray | None = None) -> Any:
        """Add a volume to the scene."""
        import slicer

        from SparseSegLib.volumes import fill_volume

        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        if array is None:
            array = np.linspace(-1, 1, 16**3, dtype=np.float32).reshape(16, 16, 16)
        fill_volume(node, array, np.eye(4))
        return node


@pytest.fixture(scope="session")
def standins() -> Any:
    """Give the package of stand-ins, with a Qt application."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    # The stand-in of a signal has no vtkMRMLScene* in its signature, which Qt tells of each time.
    os.environ.setdefault("QT_LOGGING_RULES", "qt.core.qobject.connect=false")
    pytest.importorskip("slicer", reason=f"no slicer-core here: {MISSING}")
    widgets = pytest.importorskip("PySide6.QtWidgets", reason=f"no PySide6 here: {MISSING}")
    from tests.slicer import standins

    standins.application_object = widgets.QApplication.instance() or widgets.QApplication([])
    return standins


@pytest.fixture
def app(standins: Any) -> Iterator[SimpleNamespace]:
    """Give the application with a scene of its own."""
    import slicer

    before = {name: getattr(slicer, name, None) for name in ("app", "mrmlScene", "modules")}
    yield standins.install(str(MODULE))
    for name, value in before.items():
        setattr(slicer, name, value)


@pytest.fixture
def make_bench(
    app: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Bench]]:
    """Make a bench whose engine has a fault, "" for none."""
    monkeypatch.setenv("SPARSESEG_PYTHON", sys.executable)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made: list[Bench] = []

    def make(fault: str = "", shown: bool = True) -> Bench:
        from SparseSeg import SparseSegWidget

        from SparseSegLib.jobs import Launch

        bench = Bench(SparseSegWidget())
        bench.faults.append(fault)
        bench.widget.setup()

        def launch() -> Launch:
            trouble = ["--fault", bench.faults[-1]] if bench.faults[-1] else []
            return Launch((sys.executable, str(FAKE), *trouble))

        bench.runs.engine._launch = launch
        made.append(bench)
        if shown:
            bench.open()
        return bench

    yield make
    for bench in made:
        bench.widget.cleanup()
    assert list(tmp_path.glob("sparseseg-*")) == []


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()
