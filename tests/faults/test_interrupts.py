"""Ctrl-C, a request to end and a cancel, at every step of everything."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from napari_sparseseg.files import atomic_path
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.together import content_step, write_together
from napari_sparseseg.undisturbed import undisturbed
from tests.faults.cancelling import cancelled_everywhere
from tests.faults.commands import TINY, call, interrupted_everywhere, snapshot
from tests.faults.made import make_scan

SIGNALS = (signal.SIGINT, signal.SIGTERM)
COMMANDS = {
    "segment": (
        "segment", "scan.nii.gz", "labels.nii.gz", *TINY,
        "--trace", "new/trace", "--report", "report.html",
    ),
    "sweep": ("sweep", "scan.nii.gz", "--out", "new/sweep", "--ratios", "0.3", *TINY),
    "compare": ("compare", "old.nii.gz", "old.nii.gz", "--trace", "old"),
}  # fmt: skip


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_signal_at_any_step_ends_a_command_with_130_and_leaves_nothing(
    folder: Path, name: str, number: signal.Signals
) -> None:
    if name == "compare":
        assert call("segment", "scan.nii.gz", "old.nii.gz", *TINY, "--trace", "old").code == 0

    wrong = list(interrupted_everywhere(folder, number, *COMMANDS[name]))

    assert len(wrong) >= 5
    assert [problem for problem in wrong if problem] == []


def test_a_cancel_at_any_step_leaves_a_session_that_gives_the_same_labels(
    segmenter: Segmenter,
) -> None:
    wrong = list(cancelled_everywhere(segmenter, make_scan((72, 60, 40))))

    assert len(wrong) >= 4
    assert [problem for problem in wrong if problem] == []


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_files_are_written_takes_all_of_them_back(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "a").write_bytes(b"mine")
    before = snapshot(tmp_path)

    def interrupted() -> None:
        os.kill(os.getpid(), number)
        (tmp_path / "b").write_bytes(b"whole")

    steps = [content_step(tmp_path / name, b"new", overwrite=True) for name in ("a", "b", "c")]
    steps[1] = type(steps[1])((tmp_path / "b",), interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_together(steps)

    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("number", SIGNALS)
def test_held_signals_come_after_the_block_and_handlers_are_as_before(
    number: signal.Signals,
) -> None:
    came: list[int] = []
    before = signal.signal(number, lambda n, _: came.append(n))
    try:
        with undisturbed():
            os.kill(os.getpid(), number)
            held = list(came)
        os.kill(os.getpid(), number)
    finally:
        signal.signal(number, before)

    assert (held, came) == ([], [number, number])


def test_another_thread_needs_no_holding(tmp_path: Path) -> None:
    """Signals are for the main thread: in any other there is nothing to hold back, and no error."""
    done: list[bool] = []

    def write() -> None:
        with undisturbed() as let_through, atomic_path(tmp_path / "a") as path:
            path.write_bytes(b"new")
        let_through()
        done.append(True)

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()

    assert done and (tmp_path / "a").read_bytes() == b"new"
