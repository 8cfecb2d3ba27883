"""Promise 6: the same settings, weights and device give the same labels, whatever is around."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from checks import assert_same_result

from napari_sparseseg.errors import Cancelled
from napari_sparseseg.files import write_volume
from napari_sparseseg.means import Means
from napari_sparseseg.progress import CancelToken
from napari_sparseseg.segmentation import Segmentation
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import ModelInfo

MakeScan = Callable[..., Volume]
Models = dict[str, ModelInfo]
PRECISIONS = ("float32", "bfloat16")
METHODS = ("stp", "dtop", "svit", "apformer")

ELSEWHERE = """
import hashlib, sys
from napari_sparseseg.files import read_volume
from napari_sparseseg.segmenter import Segmenter
model, scan, precision = sys.argv[1:]
result = Segmenter(model, "cpu", precision, sparsifier="random", seed=5).segment(read_volume(scan))
print(hashlib.sha256(result.labels.data.tobytes()).hexdigest())
"""


@pytest.fixture(scope="module")
def wide(make_scan: MakeScan) -> Volume:
    """Give a scan of four windows that overlap."""
    return make_scan((56, 48, 24))


def run(
    models: Models, volume: Volume, method: str, precision: str, **others: object
) -> Segmentation:
    segmenter = Segmenter(models[f"tiny-{method}"], "cpu", precision, **others)  # type: ignore[arg-type]
    return segmenter.segment(volume)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("method", METHODS)
def test_more_threads_round_scores_in_their_last_digit_at_most(
    tiny_models: Models, wide: Volume, method: str, precision: str
) -> None:
    """Products are added up in another order, so a report tells the number of threads."""
    expected = run(tiny_models, wide, method, precision)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        result = run(tiny_models, wide, method, precision)
        again = run(tiny_models, wide, method, precision)
        assert result.report["computer"]["threads"] == threads
        assert_same_result(again, result)
        np.testing.assert_array_equal(result.labels.data, expected.labels.data)
        rounding = 1e-6 if precision == "float32" else 1e-2
        np.testing.assert_allclose(
            result.trace.importance, expected.trace.importance, atol=rounding, rtol=rounding
        )


@pytest.mark.parametrize("method", METHODS)
def test_windows_one_by_one_or_together_give_the_same_labels(
    tiny_models: Models, wide: Volume, method: str
) -> None:
    together = run(tiny_models, wide, method, "float32")
    alone = run(tiny_models, wide, method, "float32", means=Means(pack_windows=False))
    np.testing.assert_array_equal(alone.labels.data, together.labels.data)


def test_a_seed_is_enough_for_a_control(tiny_models: Models, wide: Volume) -> None:
    first, again, other = (
        run(tiny_models, wide, "stp", "float32", sparsifier="random", seed=seed)
        for seed in (5, 5, 6)
    )
    assert_same_result(again, first)
    assert (other.trace.left_stage != first.trace.left_stage).any()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_another_process_gives_the_same_labels(
    tiny_models: Models, wide: Volume, tmp_path: Path, precision: str
) -> None:
    scan = tmp_path / "scan.nii"
    write_volume(wide, scan)
    command = [sys.executable, "-c", ELSEWHERE, tiny_models["tiny-stp"].path, scan, precision]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    here = run(tiny_models, wide, "stp", precision, sparsifier="random", seed=5)

    assert hashlib.sha256(here.labels.data.tobytes()).hexdigest() == there


def test_a_cancelled_run_changes_nothing_of_the_next(segmenter: Segmenter, wide: Volume) -> None:
    with segmenter.open(wide) as session:
        expected = session.run(0.4)
        cancel = CancelToken()

        def stop(done: int, total: int, what: str) -> None:
            cancel.cancel()

        with pytest.raises(Cancelled):
            session.run(0.7, stop, cancel)
        assert_same_result(session.run(0.4), expected)


def test_a_run_beside_another_gives_the_same_labels(segmenter: Segmenter, wide: Volume) -> None:
    with segmenter.open(wide) as session:
        expected = {setting: session.run(setting) for setting in (0.3, 0.9)}
    found: dict[float, Segmentation] = {}

    def work(setting: float) -> None:
        with segmenter.open(wide) as session:
            found[setting] = session.run(setting)

    threads = [threading.Thread(target=work, args=(setting,)) for setting in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.keys() == expected.keys()
    for setting, result in expected.items():
        assert_same_result(found[setting], result)


def test_what_a_host_has_set_for_torch_does_not_reach_in(
    segmenter: Segmenter, wide: Volume
) -> None:
    expected = segmenter.segment(wide, 0.4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same_result(segmenter.segment(wide, 0.4), expected)
