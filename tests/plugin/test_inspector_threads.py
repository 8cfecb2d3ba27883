"""What reads all voxels of a scan does so beside the window, never in its thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_sparseseg.analysis import compare as comparing
from napari_sparseseg.analysis import inspection as inspecting
from napari_sparseseg.plugin.geometry import Scan
from napari_sparseseg.plugin.inspector import compare_tab, references, token_tab
from napari_sparseseg.plugin.runner import THREAD_NAME
from napari_sparseseg.volume import Volume

from .conftest import WAIT
from .test_inspector_compare import add_labels, choose, opened, press
from .window import press_alt


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], list[tuple[str, Any]]]:
    """Give a function that records in which thread, and with what, another one is called."""

    def put(owner: Any, name: str) -> list[tuple[str, Any]]:
        calls: list[tuple[str, Any]] = []
        real = getattr(owner, name)

        def recorded(*args: Any, **kwargs: Any) -> Any:
            calls.append((threading.current_thread().name, args))
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, recorded)
        return calls

    return put


def threads(calls: list[tuple[str, Any]]) -> set[str]:
    return {name for name, _ in calls}


def test_a_comparison_leaves_the_window_nothing_to_count(
    qtbot: Any, dock_of: Any, scan: Volume, watch: Any
):
    viewer, dock, inspector = opened(qtbot, dock_of, scan)
    truth = dock.shown.result.labels.data.copy()
    truth[28:31, 25:29, 20:25] = (truth[28:31, 25:29, 20:25] % 3) + 1
    layer = add_labels(viewer, Volume(truth, scan.affine, "truth"))
    choose(inspector.compare, ("reference", layer.unique_id))
    counted, turned = watch(comparing, "count_classes"), watch(Scan, "on_layer")
    read, noted = watch(references, "source_volume"), watch(inspecting, "safety_notes")

    found = press(qtbot, inspector)

    for calls in (counted, read, noted):
        assert threads(calls) == {THREAD_NAME}
    difference = found.comparison.difference
    assert [name for name, args in turned if args[1] is difference] == [THREAD_NAME]
    shown = viewer.layers["ball difference"].data
    assert np.count_nonzero(shown) == 60
    assert shown.flags.c_contiguous
    assert not np.shares_memory(shown, difference)


def test_keys_and_lists_look_beside_the_window(qtbot: Any, dock_of: Any, scan: Volume, watch: Any):
    viewer, dock, inspector = opened(qtbot, dock_of, scan)
    press(qtbot, inspector)
    found = {
        name: watch(owner, name)
        for owner, name in (
            (token_tab, "pruned_in_structures"),
            (token_tab, "least_confident"),
            (token_tab, "disagreeing"),
            (compare_tab, "largest_difference"),
            (inspecting, "safety_notes"),
        )
    }

    for key in (Qt.Key.Key_N, Qt.Key.Key_E, Qt.Key.Key_D):
        with qtbot.waitSignal(inspector.token_chosen, timeout=WAIT):
            press_alt(viewer, key)
    table = inspector.compare.findings.structures
    changed = max(inspector.inspection.comparison.classes, key=lambda entry: abs(entry.change))
    row = [texts[0] for texts in table.texts()].index(changed.name)
    with qtbot.waitSignal(inspector.token_chosen, timeout=WAIT):
        table.opened_row.emit(table.key(row))
    for low in (0.9, 0.95, 1.0):
        inspector.notes.low.setValue(low)
    qtbot.waitUntil(lambda: inspector.inspection.low == 1.0, timeout=WAIT)

    for name, calls in found.items():
        assert threads(calls) == {THREAD_NAME}, name
        assert len(calls) == 1, name  # for the spin box too, once it rests
