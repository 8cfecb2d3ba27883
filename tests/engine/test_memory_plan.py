"""What is decided before a run: the estimate, the budget, the plan, the refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from checks import assert_sentence
from conftest import TINY
from hypothesis import given, settings
from hypothesis import strategies as st
from shortage import CARD, card_of

from napari_sparseseg.canonical import ModelSpace
from napari_sparseseg.errors import OutOfMemory
from napari_sparseseg.estimate import Sizes, estimate, resampling
from napari_sparseseg.memory import GB, MB
from napari_sparseseg.plan import CPU, Plan
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.session import Segmentation
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import ModelInfo

MakeScan = Callable[..., Volume]
SLOW = [
    "Memory is short; the windows were computed one by one.",
    "Memory is short; the first blocks are computed again for every setting.",
]


def ladder(device: str) -> Iterator[Plan]:
    """Give the plans on a device, then those behind them."""
    plan: Plan | None = Plan(device, device)
    while plan is not None:
        yield plan
        step = plan.leaner()
        plan = step[0] if step else None


def sizes_of(shape: tuple[int, int, int], spacing: float, tokens: list[int], width: int) -> Sizes:
    volume = Volume(np.broadcast_to(np.float32(0), shape), np.diag([spacing] * 3 + [1.0]))
    return Sizes(ModelSpace.of(volume, 1.0), tuple(tokens), max(tokens), TINY, width)


SIZES = st.builds(
    sizes_of,
    st.tuples(*[st.integers(1, 600)] * 3),
    st.sampled_from([0.5, 1.0, 3.0]),
    st.lists(st.integers(1, 64), min_size=1, max_size=40),
    st.sampled_from([2, 4]),
)


def test_the_plans_end_with_the_leanest_on_the_cpu() -> None:
    assert [plan.packed for plan in ladder(CPU)] == [True, False, False]
    *on_card, first, _, last = ladder(CARD)

    assert [plan.device for plan in on_card] == [CARD] * 4
    assert [plan.stitch for plan in on_card] == [CARD, CARD, CARD, CPU]
    assert first == Plan(CPU, CPU)
    assert last == Plan(CPU, CPU, packed=False, cached=False)


@settings(deadline=None, max_examples=40)
@given(sizes=SIZES, device=st.sampled_from([CPU, CARD]))
def test_no_step_needs_more_of_where_the_network_runs(sizes: Sizes, device: str) -> None:
    """But for the image, which is held where features are not, and can be larger than they are."""
    together, alone, again, *joined = (
        estimate(sizes, p).on(device) for p in ladder(device) if p.device == device
    )

    assert together >= alone
    assert alone >= again - 4 * np.prod([n + 16 for n in sizes.space.shape])
    assert all(again >= need > 0 for need in joined)


@settings(deadline=None, max_examples=40)
@given(sizes=SIZES)
def test_the_cpu_alone_needs_at_least_what_it_needs_beside_a_card(sizes: Sizes) -> None:
    beside = min(estimate(sizes, plan).computer for plan in ladder(CARD) if plan.device == CARD)

    assert beside <= estimate(sizes, Plan(CPU, CPU, packed=False, cached=False)).computer
    assert estimate(sizes, Plan(CPU, CPU)).card == 0


def test_a_larger_scan_more_windows_and_more_tokens_need_more() -> None:
    base = sizes_of((200, 200, 200), 1.0, [60] * 8, 4)
    larger = sizes_of((400, 200, 200), 1.0, [60] * 8, 4)
    more = sizes_of((200, 200, 200), 1.0, [60] * 800, 4)
    narrow = sizes_of((200, 200, 200), 1.0, [60] * 800, 2)
    plan = Plan(CPU, CPU)

    assert resampling(larger.space) > 1.9 * resampling(base.space)
    assert estimate(more, plan).computer > 1.2 * estimate(base, plan).computer
    assert estimate(narrow, plan).computer < estimate(more, plan).computer


# What a budget does


@pytest.fixture(scope="module")
def wide(make_scan: MakeScan) -> Volume:
    """Give a scan whose windows hold more than its image, for they overlap."""
    return make_scan((112, 80, 56))


@pytest.fixture(scope="module")
def plenty(segmenter: Segmenter, wide: Volume) -> Segmentation:
    return segmenter.segment(wide, 0.4)


def needs(segmenter: Segmenter, wide: Volume, plan: Plan) -> float:
    """Give the GB of a plan for the scan."""
    with segmenter.open(wide) as session:
        tokens = [int(session.tissue[place.outer].sum()) for place in session.places]
        sizes = Sizes(session.space, tuple(tokens), int(session.tissue.sum()), TINY, 4)
    return estimate(sizes, plan).on(plan.device) / GB


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_budget_decides_on_the_plan_before_the_run(
    tiny_models: dict[str, ModelInfo],
    segmenter: Segmenter,
    wide: Volume,
    plenty: Segmentation,
    steps: int,
) -> None:
    plan = list(ladder(CPU))[steps]
    need = needs(segmenter, wide, plan)
    small = Segmenter(tiny_models["tiny-stp"], CPU, "float32", memory_gb=1.0001 * need)
    told: list[str] = []
    with small.open(wide, lambda done, total, what: told.append(what)) as session:
        result = session.run(0.4)
        tight, held = session.planning.plan, [len(call.places) for call in session.calls]

    assert tight == plan
    assert (max(held) == 1) == (steps > 0)
    np.testing.assert_array_equal(result.labels.data, plenty.labels.data)
    np.testing.assert_array_equal(result.trace.ran, plenty.trace.ran)
    memory = result.report["memory"]
    assert memory["steps"] == result.report["notes"] == SLOW[:steps]
    assert memory["budget_mb"] == pytest.approx(1.0001 * need * 1024, abs=0.1)
    assert memory["estimate_mb"] <= memory["budget_mb"]
    assert [step for step in told if step in SLOW] == SLOW[:steps]


def test_a_scan_that_does_not_fit_at_all_is_refused_before_the_first_blocks(
    tiny_models: dict[str, ModelInfo], segmenter: Segmenter, wide: Volume
) -> None:
    need = needs(segmenter, wide, list(ladder(CPU))[-1])
    told: list[str] = []
    small = Segmenter(tiny_models["tiny-stp"], CPU, "float32", memory_gb=0.999 * need)
    with pytest.raises(OutOfMemory, match="needs about .* GB of memory") as caught:
        small.open(wide, lambda done, total, what: told.append(what))

    assert_sentence(caught.value)
    assert "set a larger memory budget" in str(caught.value)
    assert told == ["Resampling"]


def test_a_scan_that_cannot_be_resampled_is_refused_before_it_is_read(
    tiny_models: dict[str, ModelInfo],
) -> None:
    """Its voxels are never looked at: two terabytes that are not there."""

    class Untouched(Volume):
        def validated(self) -> Volume:
            return self

    huge = Untouched(np.broadcast_to(np.float32(1), (8000, 8000, 8000)), np.eye(4), "huge")
    with pytest.raises(OutOfMemory, match="needs about .* GB of memory"):
        Segmenter(tiny_models["tiny-stp"], CPU, "float32").open(huge)


def test_a_small_card_is_relieved_step_by_step(
    tiny_models: dict[str, ModelInfo], wide: Volume, plenty: Segmentation
) -> None:
    with card_of(64 * GB):
        roomy = Segmenter(tiny_models["tiny-stp"], precision="float32")
        plans = [plan for plan in ladder(CARD) if plan.device == CARD]
        sufficient = [needs(roomy, wide, plan) for plan in plans]
    assert sufficient == sorted(sufficient, reverse=True)
    for step, (plan, need) in enumerate(zip(plans, sufficient, strict=True)):
        with card_of(int(1.0001 * need * GB)):
            card = Segmenter(tiny_models["tiny-stp"], precision="float32", memory_gb=64)
            with card.open(wide) as session:
                result = session.run(0.4)
                chosen = session.planning.plan
        assert chosen == plan
        assert len(result.report["memory"]["steps"]) == step
        assert result.report["device"] == CARD
        np.testing.assert_array_equal(result.labels.data, plenty.labels.data)


def test_a_card_with_nothing_free_leaves_the_work_to_the_cpu(
    tiny_models: dict[str, ModelInfo], wide: Volume, plenty: Segmentation
) -> None:
    with card_of(10 * MB):
        result = Segmenter(tiny_models["tiny-stp"], precision="float32").segment(wide, 0.4)

    assert result.report["device"] == CPU
    last = "Memory is short; the CPU computed in place of the graphics card."
    assert result.report["notes"][-1] == last
    np.testing.assert_array_equal(result.labels.data, plenty.labels.data)


def test_a_computer_without_memory_is_not_helped_by_a_card(
    tiny_models: dict[str, ModelInfo], wide: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_sparseseg.memory.group_rooms", lambda: iter([MB]))
    with card_of(64 * GB), pytest.raises(OutOfMemory, match="needs about"):
        Segmenter(tiny_models["tiny-stp"], precision="float32").segment(wide, 0.4)
