"""The memory budget of a host: kept, told in the report, and no reason to end."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.volume import Volume

from .client import Host


def test_scan_that_exceeds_the_budget_is_refused_and_the_worker_goes_on(
    host: Host, scan: Volume, segmenter: Segmenter
) -> None:
    failed = host.failure(host.send_open(scan, memory_gb=0.001))

    assert failed.kind == "memory"
    assert "GB may be used; " in failed.message and failed.message.endswith(".")
    assert host.failure(host.send("run", setting=0.3)).kind == "input"
    host.open(scan, memory_gb=None)
    labels, _ = host.take_all(host.call("run", setting=0.3))
    np.testing.assert_array_equal(labels, segmenter.segment(scan, 0.3).labels.data)


def test_budget_is_told_in_the_report(host: Host, scan: Volume) -> None:
    host.open(scan, memory_gb=1.5)
    answer = host.call("run", setting=0.3)
    host.take_all(answer)

    memory = answer["report"]["memory"]
    assert memory["budget_mb"] == 1536
    assert memory["peak_mb"] <= memory["estimate_mb"] <= 1536
    assert memory["steps"] == []


@pytest.mark.parametrize(("budget", "kind"), [(0, "input"), (-1, "input"), ("2", "protocol")])
def test_budget_that_is_none_is_refused(
    host: Host, scan: Volume, budget: object, kind: str
) -> None:
    assert host.failure(host.send_open(scan, memory_gb=budget)).kind == kind
    (host.folder / "input.npy").unlink()


def test_run_that_gives_something_up_says_so_and_answers_the_same(
    host: Host, long_scan: Volume, segmenter: Segmenter
) -> None:
    host.open(long_scan)
    plenty = host.call("run", setting=0.3)
    most = plenty["report"]["memory"]["estimate_mb"]
    host.open(long_scan, memory_gb=(most - 1) / 1024)
    tight = host.call("run", setting=0.3)

    assert tight["report"]["memory"]["steps"] == tight["report"]["notes"] != []
    np.testing.assert_array_equal(host.take_all(tight)[0], host.take_all(plenty)[0])
