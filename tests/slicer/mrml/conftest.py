"""A scene of its own for each test."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest


@pytest.fixture
def rig() -> SimpleNamespace:
    from tests.slicer.mrml import scenes

    return scenes.rig()


@pytest.fixture
def scene(rig: SimpleNamespace) -> Any:
    return rig.scene


@pytest.fixture
def writer(rig: SimpleNamespace) -> Any:
    from SparseSegLib.scene import ResultWriter

    return ResultWriter(rig.scene, rig.Colors)
