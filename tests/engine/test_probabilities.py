"""The class probabilities of a session: what a run makes its labels from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from checks import assert_same_result, assert_sentence

from napari_sparseseg.errors import InputError
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.session import Session
from napari_sparseseg.volume import Volume


@pytest.mark.parametrize("ratio", [0.2, 1.0])
def test_the_labels_of_a_run_come_from_them(session: Session, ratio: float) -> None:
    scores = session.probabilities(ratio)

    np.testing.assert_array_equal(
        session.space.labels_to_volume(scores), session.run(ratio).labels.data
    )


def test_every_token_with_tissue_has_them_and_air_has_none(session: Session) -> None:
    scores = session.probabilities(0.3)

    np.testing.assert_array_equal(scores.rows.numpy() >= 0, ~session.run(0.3).trace.air)
    assert scores.rows.shape == session.grid.shape
    assert scores.lead == session.lead
    assert float(scores.values.min()) >= 0
    torch.testing.assert_close(
        scores.values.sum(dim=-1), torch.ones(scores.values.shape[:2]), atol=1e-5, rtol=0
    )


def test_they_depend_on_the_setting_whose_default_is_the_models(session: Session) -> None:
    default, same, other = (session.probabilities(s).values for s in (None, 0.3, 1.0))

    assert session.segmenter.info.default_setting == 0.3
    assert torch.equal(default, same)
    assert not torch.equal(default, other)


def test_asking_for_them_changes_no_later_run(
    segmenter: Segmenter, make_scan: Callable[..., Volume]
) -> None:
    scan = make_scan()
    with segmenter.open(scan) as asked, segmenter.open(scan) as fresh:
        asked.probabilities(0.7)
        assert_same_result(asked.run(0.4), fresh.run(0.4))


def test_they_are_refused_as_a_run_is(
    segmenter: Segmenter, make_scan: Callable[..., Volume]
) -> None:
    session = segmenter.open(make_scan())
    with pytest.raises(InputError, match="out of range") as unusable:
        session.probabilities(1.5)
    session.close()
    with pytest.raises(InputError, match="closed") as closed:
        session.probabilities(0.5)
    for error in (unusable, closed):
        assert_sentence(error.value)
