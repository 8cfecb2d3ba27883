"""Nothing of a run that is over stays in memory: ended, cancelled, failed or closed."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checks import assert_sentence
from shortage import SITES, held_tensors, running_out

from napari_sparseseg.canvas import Canvas
from napari_sparseseg.errors import Cancelled, InputError, OutOfMemory
from napari_sparseseg.network import Prepared, SparseUNETR
from napari_sparseseg.progress import CancelToken
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import ModelInfo

MakeScan = Callable[..., Volume]


@pytest.fixture(scope="module")
def wide(make_scan: MakeScan) -> Volume:
    return make_scan((56, 48, 24))


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[weakref.ref[Any]]]:
    """Give weak references to all features and all joined probabilities that are made."""
    made: list[weakref.ref[Any]] = []
    prepare, join = SparseUNETR.prepare, Canvas.__init__

    def prepared(self: SparseUNETR, *args: Any) -> Prepared:
        result = prepare(self, *args)
        made.extend(weakref.ref(t) for t in (result.windows, result.first.stream.x))
        return result

    def joined(self: Canvas, *args: Any) -> None:
        join(self, *args)
        made.append(weakref.ref(self.values))

    with monkeypatch.context() as patch:
        patch.setattr(SparseUNETR, "prepare", prepared)
        patch.setattr(Canvas, "__init__", joined)
        yield made


def alive(made: list[weakref.ref[Any]]) -> int:
    gc.collect()
    return sum(ref() is not None for ref in made)


def test_a_closed_session_holds_nothing_even_if_it_is_kept(
    segmenter: Segmenter, wide: Volume
) -> None:
    session = segmenter.open(wide)
    held = [weakref.ref(tensor) for tensor in held_tensors(session)]
    session.run(0.4)
    assert alive(held) == len(held) > 0
    session.close()

    assert alive(held) == 0


def test_a_run_leaves_only_what_the_session_keeps(
    segmenter: Segmenter, wide: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    with watched(monkeypatch) as made, segmenter.open(wide) as session:
        result = session.run(0.4)
        features = len(held_tensors(session))
        assert alive(made) == features < len(made)
    assert alive(made) == 0
    assert result.labels.data.any()


@pytest.mark.parametrize(
    ("step", "time"),
    [("First encoder blocks", 2), ("Encoding and decoding", 2), ("Back to the scan's own grid", 1)],
)
def test_a_cancelled_run_whose_error_is_kept_holds_nothing(
    one_by_one: Segmenter, wide: Volume, step: str, time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, told = CancelToken(), []

    def progress(done: int, total: int, what: str) -> None:
        told.append(what)
        if told.count(step) == time:
            token.cancel()

    with (
        watched(monkeypatch) as made,
        pytest.raises(Cancelled) as caught,
        one_by_one.open(wide, progress, token) as session,
    ):
        session.run(0.4, progress, token)

    assert made and caught.value.__traceback__ is not None
    assert alive(made) == 0


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
@pytest.mark.parametrize("site", [site for site in SITES if site != "resampling"])
def test_a_failed_run_whose_error_is_kept_holds_nothing(
    one_by_one: Segmenter,
    wide: Volume,
    site: str,
    error: BaseException,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owner, name = SITES[site]
    with watched(monkeypatch) as made, monkeypatch.context() as patch:
        real, calls = getattr(owner, name), iter(range(100))

        def fail_second(*args: Any, **kwargs: Any) -> Any:
            last = site in ("canvas", "restoring")
            if next(calls) == (0 if last else 1):
                raise error
            return real(*args, **kwargs)

        patch.setattr(owner, name, fail_second)
        with pytest.raises(type(error)) as caught, one_by_one.open(wide) as session:
            session.run(0.4)

    assert made and caught.value is error
    assert alive(made) == 0


def test_a_run_without_memory_whose_error_is_kept_holds_nothing(
    segmenter: Segmenter, wide: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    with watched(monkeypatch) as made, running_out("joining", "torch", times=1000):
        session = segmenter.open(wide)
        with pytest.raises(OutOfMemory) as caught:
            session.run(0.4)
        chain = caught.value.__cause__

    assert chain is not None and len(made) > 4
    session.close()
    assert alive(made) == 0


def test_an_error_of_opening_holds_no_half_made_session(segmenter: Segmenter) -> None:
    dark = np.zeros((40, 40, 40), np.float32)
    dark[0, 0, 0] = 1
    with pytest.raises(InputError, match="no tissue") as caught:
        segmenter.open(Volume(dark, np.eye(4), "dark"))

    inside = [frame for frame in _frames(caught.value) if frame.f_code.co_name == "__init__"]
    assert inside and all(not frame.f_locals for frame in inside)


def _frames(error: BaseException) -> Iterator[Any]:
    step = error.__traceback__
    while step is not None:
        yield step.tb_frame
        step = step.tb_next


def test_a_closed_segmenter_holds_no_network_and_says_so(
    tiny_models: dict[str, ModelInfo], wide: Volume
) -> None:
    segmenter = Segmenter(tiny_models["tiny-stp"], "cpu", "float32")
    network = weakref.ref(segmenter.network)
    session = segmenter.open(wide)
    segmenter.close()
    assert session.run(0.4).labels.data.any()  # an open session goes on
    session.close()
    gc.collect()

    assert network() is None
    with pytest.raises(InputError, match="closed") as caught:
        segmenter.open(wide)
    assert_sentence(caught.value)


def test_a_session_that_moved_to_the_cpu_gives_its_network_back(
    segmenter: Segmenter, wide: Volume
) -> None:
    session = segmenter.open(wide)
    session.network = segmenter.network_on("cpu")
    moved = weakref.ref(session.network)
    session.close()
    gc.collect()

    assert moved() is None


def test_many_runs_in_one_process_hold_no_more_than_a_few(registry: Path) -> None:
    script = Path(__file__).with_name("runs_in_one_process.py")
    done = subprocess.run(
        [sys.executable, str(script), "tiny-stp", "6"], capture_output=True, text=True, check=True
    )
    rounds = [json.loads(line) for line in done.stdout.splitlines()]

    assert len(rounds) == 6
    settled, last = rounds[2], rounds[-1]
    for what in ("tensors", "threads", "files"):
        assert last[what] == settled[what], what
    assert last["mb"] < settled["mb"] + 8
