"""Every term that the window shows is explained where it stands, with the paper it comes from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QLabel

from napari_sparseseg import maps
from napari_sparseseg.methods import METHODS
from napari_sparseseg.plugin.map_panel import MapPanel
from napari_sparseseg.plugin.panels import Results
from napari_sparseseg.tokens import TokenGrid

from .traces import make_trace

METHODS_OF_PAPERS = [name for name, method in METHODS.items() if method.source]
PLAIN = {"Model", "Time", "    network", "Memory", "Computed"}
"""Rows that need no explanation."""


def report_of(method: str) -> dict[str, Any]:
    """A report in which every row has something to say."""
    control = METHODS[method].control
    assert control is not None
    return {
        "model": "tiny",
        "method": method,
        "sparsifier": "random",
        "setting": {"name": control.name, "value": 0.5},
        "tokens": {
            "total": 9, "air": 2, "kept": 3, "pruned": 4, "exited": 0, "reactivated": 1
        },
        "gmacs": {"run": 1.0, "dense": 2.0},
        "seconds": {"total": 1.0, "network": 1.0},
        "peak_memory_mb": 5.0,
        "device": "cpu",
        "precision": "float32",
    }  # fmt: skip


@pytest.mark.parametrize("method", METHODS_OF_PAPERS)
def test_every_figure_of_a_run_is_explained(qtbot: Any, method: str):
    results = Results()
    qtbot.addWidget(results)
    results.show_report(report_of(method), 0.25)
    cells = [cell for cell in results.findChildren(QLabel) if cell.text()]
    tips = {cell.text().replace("\n", " "): cell.toolTip() for cell in cells}

    fate, setting = METHODS[method].fate.capitalize(), METHODS[method].control
    assert setting is not None
    cited = {"Method", "Reactivated", fate, setting.name.capitalize()}
    for name, value in results.figures.items():
        assert bool(tips[name]) == (name not in PLAIN), name
        assert tips[value] == tips[name] or list(results.figures.values()).count(value) > 1
        assert (METHODS[method].source in tips[name]) == (name in cited), name
    assert "arXiv:2103.10504" in tips["Tokens"]
    assert tips["Control"] == METHODS["random"].about


@pytest.mark.parametrize("method", METHODS_OF_PAPERS)
def test_every_map_is_explained(qtbot: Any, method: str):
    panel = MapPanel()
    qtbot.addWidget(panel)
    panel.offer(make_trace(TokenGrid((3, 3, 3), (8, 8, 8), np.eye(4)), method))
    for view in METHODS[method].views:
        tip = panel.buttons[view.kind].toolTip()
        assert view.about in tip
        assert METHODS[method].source in tip
    assert panel.buttons[maps.NONE].toolTip()
