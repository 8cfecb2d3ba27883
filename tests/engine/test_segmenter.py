"""The engine and its session: the order of things, the preview, cancelling and closing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from checks import assert_same_result, assert_same_trace, assert_sentence
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sparseseg.errors import Cancelled, InputError
from napari_sparseseg.progress import CancelToken
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.session import PREVIEW_AIR, PREVIEW_OPEN, PREVIEW_PRUNED, Session
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import ModelInfo

MakeScan = Callable[..., Volume]
RATIOS = st.floats(min_value=0.001, max_value=1.0)


# The order of things


def test_labels_are_varied_enough_to_show_a_difference(session: Session) -> None:
    labels = session.run(0.3).labels.data

    shares = np.bincount(labels.ravel(), minlength=5) / labels.size
    assert (shares > 0.02).all()
    for axis in range(3):
        assert (labels != np.flip(labels, axis)).mean() > 0.2


def test_a_slider_move_gives_what_a_fresh_session_gives(
    session: Session, segmenter: Segmenter
) -> None:
    session.run(0.9)
    moved = session.run(0.3)

    with segmenter.open(session.volume) as fresh:
        assert_same_result(moved, fresh.run(0.3))


def test_the_keep_ratio_changes_the_labels(session: Session) -> None:
    assert (session.run(0.05).labels.data != session.run(1.0).labels.data).any()


def test_the_same_weights_and_settings_give_the_same_labels(
    session: Session, tiny_models: dict[str, ModelInfo]
) -> None:
    other = Segmenter(tiny_models["tiny-stp"].path, device="cpu", precision="float32")

    assert_same_result(session.run(0.4), other.segment(session.volume, 0.4))


def test_the_order_of_windows_does_not_matter(one_by_one: Segmenter, session: Session) -> None:
    with one_by_one.open(session.volume) as turned:
        turned.calls.reverse()
        result = turned.run(0.3)

    expected = session.run(0.3)
    assert_same_trace(result.trace, expected.trace)
    # Float sums of the scores of three and more windows depend on their order in the last bit,
    # which can decide a tie between two classes.
    assert (result.labels.data == expected.labels.data).mean() > 0.9999


def test_the_default_keep_ratio_is_that_of_the_model(session: Session) -> None:
    assert session.run().report["setting"] == {"name": "keep ratio", "value": 0.3}
    assert session.segmenter.info.default_setting == 0.3


def test_nobody_can_change_a_run_through_the_result_of_another(session: Session) -> None:
    expected = session.run(0.5)
    spoilt = session.run(0.5)
    for values in (spoilt.trace.importance, spoilt.trace.ran, spoilt.trace.air):
        values[:] = 0
    spoilt.labels.data[:] = 0

    assert_same_result(session.run(0.5), expected)


# The preview


@pytest.mark.parametrize("ratio", [0.01, 0.3, 0.77, 1.0])
def test_the_preview_is_what_the_run_then_does_at_the_first_stage(
    session: Session, ratio: float
) -> None:
    preview = session.preview(ratio)
    trace = session.run(ratio).trace

    np.testing.assert_array_equal(preview == PREVIEW_AIR, trace.air)
    np.testing.assert_array_equal(preview == PREVIEW_PRUNED, trace.left_stage == 1)
    np.testing.assert_array_equal(preview == PREVIEW_OPEN, trace.depth > trace.stages[0])


@settings(max_examples=50, deadline=None)
@given(first=RATIOS, second=RATIOS)
def test_tokens_that_go_on_also_do_so_at_a_higher_ratio(
    session: Session, first: float, second: float
) -> None:
    few = session.preview(min(first, second)) == PREVIEW_OPEN
    many = session.preview(max(first, second)) == PREVIEW_OPEN

    assert few.any()
    assert not (few & ~many).any()


def test_the_preview_of_the_smallest_ratio_differs_from_that_of_the_largest(
    session: Session,
) -> None:
    assert (session.preview(0.001) == PREVIEW_PRUNED).any()
    assert not (session.preview(1.0) == PREVIEW_PRUNED).any()


def test_the_dense_twin_prunes_nothing(
    tiny_models: dict[str, ModelInfo], make_scan: MakeScan
) -> None:
    dense = Segmenter(tiny_models["tiny-dense"], device="cpu", precision="float32")
    with dense.open(make_scan((20, 24, 22))) as session:
        preview = session.preview(1.0)
        result = session.run()
        for use in (session.run, session.preview):
            with pytest.raises(InputError, match="no setting"):
                use(0.1)

    assert set(np.unique(preview)) == {PREVIEW_AIR, PREVIEW_OPEN}
    assert result.report["tokens"]["pruned"] == 0
    assert result.report["gmacs"]["run"] == result.report["gmacs"]["dense"]


# Cancelling and closing


class CancelAt:
    """Progress that cancels when a step is reported, and remembers the steps before."""

    def __init__(self, what: str, done: int = 0) -> None:
        self.token = CancelToken()
        self.step = (what, done)
        self.seen: list[tuple[str, int]] = []

    def __call__(self, done: int, total: int, what: str) -> None:
        assert 0 <= done <= total
        self.seen.append((what, done))
        if (what, done) == self.step:
            self.token.cancel()


@pytest.mark.parametrize(
    ("what", "done"), [("Resampling", 0), ("First encoder blocks", 0), ("First encoder blocks", 2)]
)
def test_opening_can_be_cancelled(
    segmenter: Segmenter, one_by_one: Segmenter, session: Session, what: str, done: int
) -> None:
    progress = CancelAt(what, done)
    with pytest.raises(Cancelled) as caught:
        one_by_one.open(session.volume, progress, progress.token)

    assert_sentence(caught.value)
    assert progress.seen[-1] == (what, done)
    assert_same_result(segmenter.segment(session.volume, 0.3), session.run(0.3))


@pytest.mark.parametrize(
    ("what", "done"),
    [
        ("Encoding and decoding", 0),
        ("Encoding and decoding", 2),
        ("Back to the scan's own grid", 4),
    ],
)
def test_a_run_can_be_cancelled_and_repeated(
    one_by_one: Segmenter, session: Session, what: str, done: int
) -> None:
    apart = one_by_one.open(session.volume)
    expected = apart.run(0.6)
    progress = CancelAt(what, done)
    with pytest.raises(Cancelled):
        apart.run(0.6, progress, progress.token)

    assert progress.seen[-1] == (what, done)
    assert_same_result(apart.run(0.6), expected)


def test_a_run_that_was_cancelled_before_it_began_does_nothing(session: Session) -> None:
    progress = CancelAt("never")
    progress.token.cancel()
    with pytest.raises(Cancelled):
        session.run(0.6, progress, progress.token)

    assert progress.token.cancelled
    assert progress.seen == []


@pytest.mark.parametrize("together", [False, True])
def test_progress_counts_windows_up_to_the_end(
    segmenter: Segmenter, one_by_one: Segmenter, session: Session, together: bool
) -> None:
    """Call by call, of one or of four windows."""
    steps: list[tuple[int, int, str]] = []
    chosen = segmenter if together else one_by_one
    with chosen.open(session.volume, lambda *step: steps.append(step)) as opened:
        opened.run(0.3, lambda *step: steps.append(step))

    starts = [0] if together else [0, 1, 2, 3]
    told = {what: [step[:2] for step in steps if step[2] == what] for *_, what in steps}
    assert told["First encoder blocks"] == [(n, 4) for n in starts]
    assert told["Encoding and decoding"] == [(n, 5) for n in starts]
    assert steps[-1] == (5, 5, "Done")


def test_a_closed_session_says_so_and_holds_nothing(
    segmenter: Segmenter, make_scan: MakeScan
) -> None:
    session = segmenter.open(make_scan((20, 20, 20)))
    session.close()
    session.close()

    assert session.calls == []
    for use in (session.run, lambda: session.preview(0.5)):
        with pytest.raises(InputError, match="closed") as caught:
            use()
        assert_sentence(caught.value)
