"""What makes a run fast: every switch leaves the labels as they are, or shows the network more."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from checks import assert_sentence

from napari_sparseseg import calls as engine
from napari_sparseseg.errors import InputError
from napari_sparseseg.means import Means
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.session import PREVIEW_AIR, Segmentation, Session
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import ModelInfo

Models = dict[str, ModelInfo]
MakeScan = Callable[..., Volume]
MODELS = ("tiny-stp", "tiny-open", "tiny-dtop")


def opened(models: Models, model: str, volume: Volume, means: Means) -> Session:
    return Segmenter(models[model], "cpu", "float32", means=means).open(volume)


@pytest.fixture(scope="module")
def wide(make_scan: MakeScan) -> Volume:
    """Give a scan of six windows."""
    return make_scan((80, 48, 24))


@pytest.fixture(scope="module")
def expected(tiny_models: Models, wide: Volume) -> dict[str, Segmentation]:
    """Give the result of each model with every switch on."""
    return {model: opened(tiny_models, model, wide, Means()).run(0.5) for model in MODELS}


@pytest.mark.parametrize("model", MODELS)
def test_windows_alone_give_what_they_give_together(
    tiny_models: Models,
    wide: Volume,
    expected: dict[str, Segmentation],
    model: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Promise 6: one by one, some at once and all at once."""
    alone = opened(tiny_models, model, wide, Means(pack_windows=False))
    assert [len(call.places) for call in alone.calls] == [1] * len(alone.places)
    most = max(sum(call.prepared().first.layout.counts) for call in alone.calls)
    monkeypatch.setattr(engine, "TOKENS_PER_CALL", 2 * most)
    some = opened(tiny_models, model, wide, Means())
    assert all(len(call.places) >= 2 for call in some.calls[:-1])
    assert all(sum(call.prepared().first.layout.counts) <= 2 * most for call in some.calls)
    assert 1 < len(some.calls) < len(alone.calls)

    for result in (alone.run(0.5), some.run(0.5)):
        assert_alike(result, expected[model])
        assert result.report["gmacs"] == expected[model].report["gmacs"]


def assert_alike(one: Segmentation, other: Segmentation) -> None:
    """Expect the same labels and the same tokens; scores may differ in the last bit."""
    np.testing.assert_array_equal(one.labels.data, other.labels.data)
    np.testing.assert_array_equal(one.trace.ran, other.trace.ran)
    np.testing.assert_array_equal(one.trace.left_stage, other.trace.left_stage)
    assert one.report["tokens"] == other.report["tokens"]


@pytest.mark.parametrize("model", MODELS)
def test_whole_windows_are_decoded_to_the_same_labels(
    tiny_models: Models, wide: Volume, expected: dict[str, Segmentation], model: str
) -> None:
    """Promise 7; where the context is open they cost more, and without it nothing changes."""
    result = opened(tiny_models, model, wide, Means(active_blocks=False)).run(0.5)

    assert_alike(result, expected[model])
    blocks, whole = (r.report["gmacs"]["run"] for r in (expected[model], result))
    assert (blocks < whole) if model == "tiny-open" else (blocks == whole)


@pytest.mark.parametrize("model", MODELS)
def test_a_run_without_a_trace_gives_the_same_labels(
    tiny_models: Models, wide: Volume, expected: dict[str, Segmentation], model: str
) -> None:
    """Promise 3; operations are counted all the same."""
    result = opened(tiny_models, model, wide, Means(trace=False)).run(0.5)

    np.testing.assert_array_equal(result.labels.data, expected[model].labels.data)
    assert result.report["tokens"] == {}
    for figures in ("gmacs", "classes"):
        assert result.report[figures] == expected[model].report[figures]
    assert result.recorded is None
    with pytest.raises(InputError, match="without a trace") as caught:
        _ = result.trace
    assert_sentence(caught.value)


@pytest.mark.parametrize("model", MODELS)
def test_air_that_is_not_skipped_runs_as_any_token(
    tiny_models: Models, wide: Volume, expected: dict[str, Segmentation], model: str
) -> None:
    session = opened(tiny_models, model, wide, Means(skip_air=False))
    result, usual = session.run(1.0), expected[model]

    assert len(session.places) == 6
    seen = np.zeros(session.grid.shape, dtype=bool)
    for place in session.places:
        seen[place.outer] = True
    np.testing.assert_array_equal(session.preview(1.0) == PREVIEW_AIR, ~seen)
    np.testing.assert_array_equal(result.trace.air, ~seen)
    assert result.trace.ran[:, seen].all()
    assert (usual.trace.air & seen).any()
    assert result.report["gmacs"]["run"] > usual.report["gmacs"]["run"]


@pytest.fixture(scope="module")
def lopsided(make_scan: MakeScan) -> Volume:
    """Give a scan whose tissue fits into one window, with air for more beside it."""
    scan = make_scan((30, 30, 30))
    data = np.zeros((72, 40, 30), dtype=np.float32)
    data[:30, :30] = scan.data
    return Volume(data, scan.affine, "lopsided")


def test_windows_cover_the_whole_scan_where_none_is_skipped(
    tiny_models: Models, lopsided: Volume
) -> None:
    few = opened(tiny_models, "tiny-open", lopsided, Means())
    all_ = opened(tiny_models, "tiny-open", lopsided, Means(skip_windows=False))
    seen = np.zeros(all_.grid.shape, dtype=bool)
    for place in all_.places:
        seen[place.outer] = True

    assert len(few.places) == 1
    assert seen.all()
    shown = [int((s.run(1.0).trace.air == 0).sum()) for s in (few, all_)]
    assert shown[0] == shown[1]  # air is still skipped inside the windows


@pytest.mark.parametrize("model", MODELS)
def test_all_switches_off_is_a_plain_dense_run(
    tiny_models: Models, lopsided: Volume, model: str
) -> None:
    """Every token of the grid runs every block, and every window is decoded as a whole."""
    session = opened(tiny_models, model, lopsided, Means.none())
    result = session.run(1.0)

    assert result.trace.ran.all()
    assert not result.trace.air.any()
    assert result.report["tokens"]["kept"] == result.trace.grid.size
    run, dense = (result.report["gmacs"][key] for key in ("run", "dense"))
    assert dense <= run < 1.05 * dense  # the scores, and what the windows show beyond the grid


def test_every_switch_is_on_by_default(tiny_models: Models) -> None:
    means = Segmenter(tiny_models["tiny-stp"], "cpu").means

    assert all(vars(means).values())
    assert [name for name, on in vars(Means.none()).items() if on] == ["trace"]


def test_a_wider_overlap_takes_more_windows(
    tiny_models: Models, wide: Volume, expected: dict[str, Segmentation]
) -> None:
    """Windows of 4 tokens with a quarter in common lie up to 3 apart, with half of it up to 2."""
    info = tiny_models["tiny-stp"]
    usual, more = (
        Segmenter(info, "cpu", "float32", **options).open(wide)  # type: ignore[arg-type]
        for options in ({}, {"overlap": 0.5})
    )
    starts = [sorted({p.origin[0] for p in session.places}) for session in (usual, more)]
    assert [len(places) for places in starts] == [3, 4]
    assert [max(np.diff(places)) for places in starts] == [3, 2]
    assert more.run(0.5).report["gmacs"]["run"] > expected["tiny-stp"].report["gmacs"]["run"]
