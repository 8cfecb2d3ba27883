"""What all tests share: the folder of real scans, and a screen and settings of their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before napari is imported: software OpenGL, as on the virtual screen, and no settings on disk, so
# that a test neither reads nor changes what the user or another test has set.
os.environ.setdefault("LIBGL_ALWAYS_SOFTWARE", "1")
os.environ["NAPARI_CONFIG"] = ""

REPOSITORY = Path(__file__).resolve().parent.parent
MISSING_DATA = "MISSING TEST DATA"


@pytest.fixture(scope="session")
def repository() -> Path:
    """Give the top folder of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Give the folder of real scans: $SPARSESEG_DATA, or shared/data beside the repository."""
    folder = Path(os.environ.get("SPARSESEG_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"{MISSING_DATA}: {folder} is no folder; set SPARSESEG_DATA to the real scans.")
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests that did not run for want of data: green must not hide them."""
    skipped = [
        report.nodeid
        for report in terminalreporter.stats.get("skipped", [])
        if MISSING_DATA in str(report.longrepr)
    ]
    if skipped:
        terminalreporter.section(MISSING_DATA, bold=True, yellow=True)
        terminalreporter.write_line(
            f"{len(skipped)} tests did not run, set SPARSESEG_DATA: {', '.join(skipped)}",
            bold=True,
            yellow=True,
        )
