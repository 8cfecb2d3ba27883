"""The answer of the ``sparseseg`` command, and what several of its tests ask."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

COMMAND = [sys.executable, "-m", "napari_sparseseg.cli"]
TINY = ("--model", "tiny-stp", "--device", "cpu", "--precision", "float32")
LIA = np.array([[-1, 0, 0, 20], [0, 0, 1, -15], [0, -1, 0, 31], [0, 0, 0, 1.0]])


@dataclass(frozen=True)
class Answer:
    """What one call of the command ended in."""

    code: object
    out: str
    err: str


Sparseseg = Callable[..., Answer]


def assert_refused(answer: Answer, match: str) -> None:
    """Expect exit code 2, one sentence with a text on the standard error, and nothing else."""
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("sparseseg: ") and answer.err.endswith(".\n")
    assert answer.err.count("\n") == 1
    assert match in answer.err
