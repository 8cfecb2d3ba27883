"""Comparisons that several tests of the engine make."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from napari_sparseseg.session import Segmentation
from napari_sparseseg.tokens import TokenTrace


def assert_sentence(error: BaseException) -> None:
    """Expect a message that a user can be shown."""
    message = str(error)
    assert message.endswith(".")
    assert "\n" not in message


def assert_same_trace(one: TokenTrace, other: TokenTrace) -> None:
    """Expect the same to have happened to every token."""
    assert (one.method, one.stages) == (other.method, other.stages)
    np.testing.assert_array_equal(one.air, other.air)
    np.testing.assert_array_equal(one.importance, other.importance)
    np.testing.assert_array_equal(one.left_stage, other.left_stage)
    np.testing.assert_array_equal(one.ran, other.ran)
    # sums of windows in another order round otherwise
    np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-6)


def assert_same_result(one: Segmentation, other: Segmentation) -> None:
    """Expect the same labels, the same trace and the same figures, seconds aside."""
    np.testing.assert_array_equal(one.labels.data, other.labels.data)
    assert_same_trace(one.trace, other.trace)
    for key in ("tokens", "gmacs", "classes", "setting", "sparsifier"):
        assert one.report[key] == other.report[key]


def snapshot(folder: Path) -> dict[str, bytes]:
    """Give all files and folders below one, hidden ones too."""
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Let no file grow past a size, as on a disk that fills up."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
