"""Memory that runs out in the middle of the work: the same labels in steps, or a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from checks import assert_sentence
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shortage import CARD, SHORTAGES, SITES, card_of, running_out

from napari_sparseseg.errors import OutOfMemory
from napari_sparseseg.memory import GB
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.session import Segmentation, Session
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import ModelInfo

MakeScan = Callable[..., Volume]
Models = dict[str, ModelInfo]

ONE_BY_ONE = "the windows were computed one by one."
AGAIN = "the first blocks are computed again for every setting."
STITCHED = "the answers of the windows were joined on the CPU."
ON_CPU = "the CPU computed in place of the graphics card."
LADDER = [ONE_BY_ONE, AGAIN, STITCHED, ON_CPU, ONE_BY_ONE, AGAIN]


@pytest.fixture(scope="module")
def wide(make_scan: MakeScan) -> Volume:
    """Give a scan of four windows."""
    return make_scan((56, 48, 24))


@pytest.fixture(scope="module")
def expected(segmenter: Segmenter, wide: Volume) -> Segmentation:
    """Give the result where there is memory enough."""
    return segmenter.segment(wide, 0.4)


@pytest.fixture(scope="module")
def on_card(tiny_models: Models) -> Iterator[Segmenter]:
    """Give the tiny model on a large card."""
    with card_of(64 * GB):
        segmenter = Segmenter(tiny_models["tiny-stp"], precision="float32")
        assert segmenter.device == CARD
        yield segmenter


def assert_stepped(result: Segmentation, expected: Segmentation, steps: list[str]) -> None:
    """Expect the same labels and tokens, and these steps in the report and among its notes."""
    np.testing.assert_array_equal(result.labels.data, expected.labels.data)
    np.testing.assert_array_equal(result.trace.ran, expected.trace.ran)
    told = result.report["memory"]["steps"]
    assert [step.partition("; ")[2] for step in told] == steps
    assert result.report["notes"][-len(told) :] == told or not told
    for step in told:
        assert step.endswith(".") and step.count(". ") == 0


def test_enough_memory_takes_no_step(expected: Segmentation) -> None:
    memory = expected.report["memory"]
    assert memory["steps"] == [] and expected.report["notes"] == []
    assert memory.keys() == {"budget_mb", "estimate_mb", "peak_mb", "steps"}
    assert 0 < memory["estimate_mb"] < memory["budget_mb"]


@pytest.mark.parametrize(
    ("site", "shortage"), [*((site, "torch") for site in SITES), ("joining", "numpy")]
)
def test_a_computer_that_runs_out_once_goes_window_by_window(
    segmenter: Segmenter, wide: Volume, expected: Segmentation, site: str, shortage: str
) -> None:
    told: list[str] = []

    def progress(done: int, total: int, what: str) -> None:
        assert 0 <= done <= total
        told.append(what)

    with running_out(site, shortage) as failed, segmenter.open(wide, progress) as session:
        result = session.run(0.4, progress)
        again = session.run(0.4)
        together = [len(call.places) for call in session.calls]

    assert failed
    assert together == [1] * 4
    assert_stepped(result, expected, [ONE_BY_ONE])
    assert_stepped(again, expected, [ONE_BY_ONE])
    assert f"The computer ran out of memory; {ONE_BY_ONE}" in told


@pytest.mark.parametrize("site", ["first blocks", "joining", "restoring"])
def test_a_computer_that_runs_out_twice_keeps_no_features(
    segmenter: Segmenter, wide: Volume, expected: Segmentation, site: str
) -> None:
    with running_out(site, "torch", times=2), segmenter.open(wide) as session:
        result = session.run(0.4)
        preview = session.preview(0.2)
        sparser = session.run(0.2)

    assert_stepped(result, expected, [ONE_BY_ONE, AGAIN])
    with segmenter.open(wide) as plenty:
        assert_stepped(sparser, plenty.run(0.2), [ONE_BY_ONE, AGAIN])
        np.testing.assert_array_equal(preview, plenty.preview(0.2))


@pytest.mark.parametrize(("site", "shortage"), [("resampling", "numpy"), ("joining", "torch")])
def test_a_computer_without_memory_says_so(
    segmenter: Segmenter, wide: Volume, expected: Segmentation, site: str, shortage: str
) -> None:
    with running_out(site, shortage, times=1000), pytest.raises(OutOfMemory) as caught:
        segmenter.segment(wide, 0.4)

    assert_sentence(caught.value)
    assert "The computer ran out of memory; " in str(caught.value)
    assert_stepped(segmenter.segment(wide, 0.4), expected, [])


def test_a_session_that_ran_out_can_run_again(
    segmenter: Segmenter, wide: Volume, expected: Segmentation
) -> None:
    with segmenter.open(wide) as session:
        preview = session.preview(0.4)
        with running_out("joining", "torch", times=1000), pytest.raises(OutOfMemory):
            session.run(0.4)
        np.testing.assert_array_equal(session.preview(0.4), preview)

        assert_stepped(session.run(0.4), expected, [ONE_BY_ONE, AGAIN])


# With a graphics card


def test_a_card_that_suffices_computes_everything(
    on_card: Segmenter, wide: Volume, expected: Segmentation
) -> None:
    result = on_card.segment(wide, 0.4)

    assert_stepped(result, expected, [])
    assert result.report["device"] == CARD


@pytest.mark.parametrize(
    ("times", "site", "shortage"),
    [
        (1, "first blocks", "card"),
        (1, "encoding and decoding", "cublas"),
        (2, "joining", "card"),
        (3, "restoring", "card"),
        (4, "first blocks", "cublas"),
        (4, "encoding and decoding", "card"),
        (6, "joining", "card"),
    ],
)
def test_a_card_that_runs_out_gives_up_one_thing_after_the_other(
    on_card: Segmenter,
    wide: Volume,
    expected: Segmentation,
    times: int,
    site: str,
    shortage: str,
) -> None:
    with running_out(site, shortage, times) as failed, on_card.open(wide) as session:
        result = session.run(0.4)

    assert len(failed) == times
    assert_stepped(result, expected, LADDER[:times])
    assert result.report["device"] == ("cpu" if times > 3 else CARD)
    assert session.device == result.report["device"]
    assert on_card.device == CARD  # the next scan may fit


def test_the_network_of_a_session_moves_and_that_of_others_stays(
    on_card: Segmenter, wide: Volume, expected: Segmentation
) -> None:
    with on_card.open(wide) as other, on_card.open(wide) as session:
        with running_out("encoding and decoding", "card", 4):
            session.run(0.4)
        assert session.network is not on_card.network
        assert other.network is on_card.network
        assert_stepped(other.run(0.4), expected, [])


def test_a_control_goes_on_with_the_same_draws_on_the_cpu(
    tiny_models: Models, wide: Volume
) -> None:
    with card_of(64 * GB):
        random = Segmenter(
            tiny_models["tiny-stp"], precision="float32", sparsifier="random", seed=7
        )
        whole = random.segment(wide, 0.4)
        with running_out("encoding and decoding", "card", 4), random.open(wide) as session:
            assert_stepped(session.run(0.4), whole, LADDER[:4])


def test_a_computer_that_runs_out_is_not_helped_by_the_card_doing_less(
    on_card: Segmenter, wide: Volume
) -> None:
    with running_out("resampling", "numpy", 1) as failed, pytest.raises(OutOfMemory) as caught:
        on_card.segment(wide, 0.4)

    assert len(failed) == 1
    assert "The computer ran out of memory; " in str(caught.value)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    site=st.sampled_from(sorted(SITES)),
    shortage=st.sampled_from(sorted(SHORTAGES)),
    times=st.integers(1, 7),
    after=st.integers(0, 5),
    ratio=st.sampled_from([0.1, 0.4, 1.0]),
)
def test_wherever_memory_runs_out_the_labels_are_the_same_or_there_are_none(
    on_card: Segmenter,
    opened: Session,
    site: str,
    shortage: str,
    times: int,
    after: int,
    ratio: float,
) -> None:
    """Promise 6: whatever a run has to give up, its answer stays."""
    try:
        with running_out(site, shortage, times, after), on_card.open(opened.volume) as session:
            result = session.run(ratio)
    except OutOfMemory as error:
        assert_sentence(error)
        assert SHORTAGES[shortage][1] in str(error)
    else:
        whole = opened.run(ratio)
        np.testing.assert_array_equal(result.labels.data, whole.labels.data)
        assert result.report["memory"]["steps"] or result.report["device"] == CARD


@pytest.fixture(scope="module")
def opened(segmenter: Segmenter, wide: Volume) -> Iterator[Session]:
    """Give a session with memory enough."""
    with segmenter.open(wide) as session:
        yield session
