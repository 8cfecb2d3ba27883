"""Where the files of the extension are."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.slicer.conftest import MODULE


@pytest.fixture(scope="session")
def module() -> Path:
    return MODULE


@pytest.fixture(scope="session")
def top() -> Path:
    return MODULE.parents[1]


@pytest.fixture(scope="session")
def scripts() -> list[Path]:
    """Every Python file that is shipped in the extension."""
    return sorted([*MODULE.glob("*.py"), *(MODULE / "SparseSegLib").rglob("*.py")])


@pytest.fixture(scope="session")
def trees(scripts: list[Path]) -> dict[str, ast.Module]:
    """The same, parsed as the Python of Slicer 5.12 would."""
    return {
        path.name: ast.parse(path.read_text(), str(path), feature_version=(3, 12))
        for path in scripts
    }
