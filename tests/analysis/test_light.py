"""The analysis is imported by the dock, so it loads what is slow only where it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["", ".inspection", ".compare", ".attribution", ".metrics"])
def test_importing_it_loads_nothing_heavy(module: str) -> None:
    code = (
        f"import sys, napari_sparseseg.analysis{module}\n"
        "print([m for m in ('torch', 'monai', 'matplotlib', 'SimpleITK') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
