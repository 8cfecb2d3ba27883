"""What the tests of the Slicer module share: its folder on the path, and the real engine."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
MODULE = TOP / "slicer_extension" / "SparseSeg"
ENGINE = "SPARSESEG_ENGINE_PYTHON"
"""Environment variable that names a Python which holds the engine, where .venv does not."""

sys.path.insert(0, str(MODULE))  # where Slicer puts it


@pytest.fixture(scope="session")
def python() -> str:
    """Give a Python that holds the engine."""
    if importlib.util.find_spec("torch"):
        return sys.executable
    found = os.environ.get(ENGINE) or str(TOP / ".venv" / "bin" / "python")
    if not Path(found).exists():
        pytest.skip(f"no engine here: run `make setup`, or name a Python that has it in {ENGINE}")
    return found


@pytest.fixture
def environment() -> dict[str, str]:
    """Give environment variables with which that Python runs the engine of this checkout."""
    return {**os.environ, "PYTHONPATH": str(TOP), "OMP_NUM_THREADS": "1"}
