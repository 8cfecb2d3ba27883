"""How sure the network was of each token: from the probabilities that the labels come from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sparseseg.means import Means
from napari_sparseseg.scores import PatchScores
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.session import Session
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import ModelInfo


@pytest.mark.parametrize("setting", [0.2, 1.0])
def test_it_is_the_mean_of_the_highest_probability_in_a_patch(
    session: Session, setting: float
) -> None:
    confidence = session.run(setting).trace.confidence
    scores = session.probabilities(setting)

    assert confidence.dtype == np.float32
    assert confidence.shape == session.grid.shape
    shown = 0
    for place in np.ndindex(*session.grid.shape):
        row = int(scores.rows[place])
        if row < 0:
            assert np.isnan(confidence[place])
            continue
        highest = [max(voxel) for voxel in scores.values[row].tolist()]
        assert confidence[place] == pytest.approx(sum(highest) / len(highest), abs=1e-5)
        shown += 1
    assert shown > 50


def test_air_has_none_and_the_setting_changes_it(session: Session) -> None:
    sparse, dense = (session.run(setting).trace for setting in (0.2, 1.0))

    np.testing.assert_array_equal(np.isnan(sparse.confidence), sparse.air)
    assert np.nanmax(np.abs(sparse.confidence - dense.confidence)) > 1e-3


@pytest.mark.parametrize("method", ["stp", "dtop", "svit", "apformer"])
def test_the_labels_do_not_depend_on_the_trace(
    tiny_models: dict[str, ModelInfo], make_scan: Callable[..., Volume], method: str
) -> None:
    scan, info = make_scan((40, 36, 33)), tiny_models[f"tiny-{method}"]
    traced, silent = (
        Segmenter(info, "cpu", "float32", means=Means(trace=trace)).segment(scan, 0.3)
        for trace in (True, False)
    )

    np.testing.assert_array_equal(traced.labels.data, silent.labels.data)
    assert np.isfinite(traced.trace.confidence).any()
    assert silent.recorded is None


@settings(max_examples=20, deadline=None)
@given(
    size=st.sampled_from((4, 18)),
    dtype=st.sampled_from((torch.float32, torch.bfloat16)),
    classes=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_any_number_of_patches_in_any_precision(
    size: int, dtype: torch.dtype, classes: int, seed: int
) -> None:
    """A volume of 18 x 18 x 18 voxels has more patches than are looked at together."""
    logits = torch.randn(classes, size, size, size, generator=torch.Generator().manual_seed(seed))
    probabilities = logits.softmax(dim=0).to(dtype)
    highest = probabilities.float().numpy().max(axis=0)
    half = size // 2
    expected = highest.reshape(half, 2, half, 2, half, 2).mean(axis=(1, 3, 5))

    confidence = PatchScores.whole(probabilities, patch=2).confidence()
    assert confidence.dtype == torch.float32
    np.testing.assert_allclose(confidence.numpy(), expected, atol=1e-6)


def test_where_nothing_was_shown_it_is_unknown() -> None:
    rows = torch.tensor([[[-1, 1, 0]]])
    values = torch.tensor([[[0.5, 0.5]], [[0.1, 0.9]]])

    confidence = PatchScores(rows, values, 1, (0, 0, 0)).confidence()
    np.testing.assert_allclose(confidence.flatten().numpy(), [np.nan, 0.9, 0.5])
    nothing = PatchScores(torch.full((1, 2, 1), -1), values[:0], 1, (0, 0, 0))
    assert nothing.confidence().isnan().all()
