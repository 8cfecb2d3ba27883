"""What may break in a run: one sentence, nothing left behind, and the dock goes on."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest
from napari.layers import Image
from napari.utils.notifications import notification_manager

from napari_sparseseg.network import SparseUNETR
from napari_sparseseg.plugin import runner as running_jobs
from napari_sparseseg.session import Session
from napari_sparseseg.volume import Volume

from .conftest import WAIT, ball
from .window import STP_LAYERS, add, move_slider, running, segment

DRIVER = (
    "CUDA error: an illegal memory access was encountered",
    "CUDA driver error: unknown error",
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
)


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Any]]:
    """Give weak references to all sessions and networks that are made from now on."""
    made: list[weakref.ref[Any]] = []
    for kind in (Session, SparseUNETR):
        real = kind.__init__

        def init(self: Any, *args: Any, real: Any = real, **kwargs: Any) -> None:
            made.append(weakref.ref(self))
            real(self, *args, **kwargs)

        monkeypatch.setattr(kind, "__init__", init)
    return made


@pytest.fixture
def collected_by_count_alone() -> Iterator[None]:
    """Switch the search for cycles off: what one holds would stay on a card until it comes."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def held(made: list[weakref.ref[Any]]) -> list[str]:
    return [type(thing).__name__ for each in made if (thing := each()) is not None]


def break_at(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception) -> None:
    """Let a method of every session fail, once the session holds something."""

    def broken(self: Session, *args: Any, **kwargs: Any) -> Any:
        holding = (self, self.segmenter.network)  # as a frame of a traceback would
        raise error from RuntimeError(str(len(holding)))

    monkeypatch.setattr(Session, name, broken)


def refused(qtbot: Any, dock: Any) -> str:
    with qtbot.waitSignal(dock.refused, timeout=WAIT) as blocker:
        dock.controls.segment_button.click()
    return str(blocker.args[0])


def assert_sentence(message: str) -> None:
    assert message.endswith(".")
    assert ". " not in message
    assert ";" in message


@pytest.mark.usefixtures("collected_by_count_alone")
@pytest.mark.parametrize("where", ["_first_stage", "run"])
def test_nothing_is_held_after_an_error(
    qtbot: Any, dock_of: Any, scan: Volume, alive: Any, monkeypatch: pytest.MonkeyPatch, where: str
):
    viewer, dock = dock_of()
    add(viewer, scan)
    segment(qtbot, dock)  # torch's own first errors, which it swallows, leave cycles behind
    dock.runner.forget()
    gc.collect()
    alive.clear()
    with notification_manager, monkeypatch.context() as broken:
        break_at(broken, where, RuntimeError("a fault of ours"))
        assert "RuntimeError" in refused(qtbot, dock)
        qtbot.wait(50)
        # napari keeps the error, with a traceback that can be read
        kept = notification_manager.records[-1]
        assert "a fault of ours" in kept.message
        assert "broken" in "".join(kept.as_text())
        assert alive
        assert held(alive) == []
    assert running() == []

    segment(qtbot, dock)
    assert len(viewer.layers) == 1 + len(STP_LAYERS)


@pytest.mark.usefixtures("collected_by_count_alone")
@pytest.mark.parametrize("step", ["First encoder blocks", "Encoding and decoding"])
def test_nothing_is_held_after_cancelling(
    qtbot: Any, dock_of: Any, scan: Volume, alive: Any, hold: Any, step: str
):
    viewer, dock = dock_of()
    add(viewer, scan)
    gate = hold(dock.runner, step)
    dock.controls.segment_button.click()
    qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)
    assert "SparseUNETR" in held(alive)

    with qtbot.waitSignal(dock.runner.cancelled, timeout=WAIT):
        dock.controls.cancel_button.click()
        gate.open()

    assert held(alive) == []


@pytest.mark.usefixtures("collected_by_count_alone")
def test_nothing_is_held_after_closing(qtbot: Any, dock_of: Any, scan: Volume, alive: Any):
    viewer, dock = dock_of(show=True)
    add(viewer, scan)
    segment(qtbot, dock)
    assert held(alive) != []

    viewer.window.remove_dock_widget(dock)

    assert held(alive) == []


@pytest.mark.usefixtures("collected_by_count_alone")
def test_one_session_is_held_while_methods_change(
    qtbot: Any, dock_of: Any, scan: Volume, alive: Any
):
    from .window import click_method

    viewer, dock = dock_of()
    add(viewer, scan)
    segment(qtbot, dock)
    for method in ("dtop", "dense", "stp"):
        click_method(qtbot, dock, method)
        assert sorted(held(alive)) == ["Session", "SparseUNETR"]


@pytest.mark.parametrize("says", DRIVER)
def test_a_driver_that_fails_is_one_sentence_and_no_traceback(
    qtbot: Any, dock_of: Any, scan: Volume, monkeypatch: pytest.MonkeyPatch, says: str
):
    viewer, dock = dock_of()
    add(viewer, scan)
    segment(qtbot, dock)
    with notification_manager, monkeypatch.context() as broken:
        notification_manager.records.clear()
        # a card in this state answers every call so, that which gives memory back included
        break_at(broken, "run", RuntimeError(says))
        break_at(broken, "close", RuntimeError(says))
        message = refused(qtbot, dock)
        dock.controls.precision.setCurrentIndex(1)
        qtbot.wait(50)
        assert not notification_manager.records
    assert_sentence(message)
    assert "graphics card" in message
    assert dock.controls.segment_button.isEnabled()

    assert segment(qtbot, dock).report["precision"] == "float32"


@pytest.mark.parametrize("step", ["Checking the scan", "First encoder blocks",
                                  "Encoding and decoding"])  # fmt: skip
def test_a_layer_that_is_deleted_in_a_run_takes_the_run_with_it(
    qtbot: Any, dock_of: Any, scan: Volume, hold: Any, step: str
):
    viewer, dock = dock_of()
    image = add(viewer, scan)
    other = add(viewer, Volume(scan.data, scan.affine, "other"))
    dock.controls.image.setCurrentIndex(dock.controls.image.findText("ball"))
    gate = hold(dock.runner, step)
    dock.controls.segment_button.click()
    qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)

    with qtbot.waitSignal(dock.runner.cancelled, timeout=WAIT):
        viewer.layers.remove(image)
        gate.open()

    assert list(viewer.layers) == [other]
    assert running() == []
    segment(qtbot, dock)
    assert len(viewer.layers) == 1 + len(STP_LAYERS)


@pytest.mark.parametrize("change", ["voxels", "place"])
def test_an_image_that_is_changed_in_a_run_does_not_get_its_result(
    qtbot: Any, dock_of: Any, hold: Any, change: str
):
    viewer, dock = dock_of()
    image = viewer.add_layer(Image(ball((40, 40, 40)), scale=(3, 3, 3), name="raw"))
    gate = hold(dock.runner, "Encoding and decoding")
    dock.controls.segment_button.click()
    qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)
    if change == "voxels":
        image.data = ball((30, 30, 30))
    else:
        image.scale = (3, 3, 4)

    with qtbot.waitSignal(dock.refused, timeout=WAIT) as blocker:
        gate.open()

    assert_sentence(blocker.args[0])
    assert "raw was changed while it was segmented" in blocker.args[0]
    assert list(viewer.layers) == [image]
    result = segment(qtbot, dock)
    assert result.labels.shape == tuple(image.data.shape)


def test_one_of_all_scans_that_is_changed_in_its_run_is_told_in_the_end(
    qtbot: Any, dock_of: Any, scan: Volume, hold: Any
):
    viewer, dock = dock_of()
    first = add(viewer, scan)
    add(viewer, Volume(scan.data, scan.affine, "other"))
    gate = hold(dock.runner, "Encoding and decoding")
    dock.controls.all_button.click()
    qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)
    first.data = np.array(first.data)
    gate.open()

    qtbot.waitUntil(lambda: not dock.busy, timeout=WAIT)

    assert dock.message.text().startswith("1 of 2 scans could not be segmented.\nball was changed")
    assert "other segmentation" in viewer.layers
    assert "ball segmentation" not in viewer.layers


class Gone:
    """A lazily read image whose file has gone."""

    dtype, ndim, shape, size = np.dtype(np.float32), 3, (20, 20, 20), 8000

    def __getitem__(self, key: Any) -> np.ndarray:
        return np.zeros(self.shape, np.float32)[key]

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise FileNotFoundError(2, "No such file or directory", "scan.zarr")


def test_voxels_whose_file_has_gone_are_one_sentence(qtbot: Any, dock_of: Any):
    viewer, dock = dock_of()
    viewer.add_layer(Image(Gone(), contrast_limits=(0, 1), name="remote"))
    with notification_manager:
        notification_manager.records.clear()
        message = refused(qtbot, dock)
        qtbot.wait(50)
        assert not notification_manager.records
    assert_sentence(message)
    assert "voxels of remote" in message


def cycle(qtbot: Any, viewer: Any, dock: Any, rounds: int) -> list[tuple[int, int, int]]:
    """Segment, move the slider, cancel and undo again and again.

    Returns
    -------
    list of (int, int, int)
        Layers, threads and open files after each round.
    """
    process, counts = psutil.Process(), []
    for number in range(rounds):
        segment(qtbot, dock)
        with qtbot.waitSignal(dock.segmented, timeout=WAIT):
            move_slider(dock, 0.3 + 0.4 * (number % 2))
        move_slider(dock, 0.9)
        dock.cancel()
        dock.undo()
        if number % 5 == 4:
            dock.runner.forget()  # as another model or device does
        qtbot.waitUntil(lambda: not dock.busy and running() == [], timeout=WAIT)
        counts.append((len(viewer.layers), threading.active_count(), process.num_fds()))
    return counts


def test_many_runs_in_one_window_leave_no_more_than_one(
    qtbot: Any, dock_of: Any, scan: Volume, alive: Any
):
    viewer, dock = dock_of()
    add(viewer, scan)

    counts = cycle(qtbot, viewer, dock, rounds=12)

    assert set(counts[2:]) == {counts[2]}
    assert len(held(alive)) <= 2
    assert len(dock.shown.earlier) <= 8
    assert running_jobs.THREAD_NAME not in [thread.name for thread in threading.enumerate()]
