"""The page in a real browser; what the browser or the page needs and lacks is said loudly."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

SIZE = {"width": 1100, "height": 700}
# Chromium talks to nobody but the page.
SWITCHES = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
WAIT_SECONDS = 300  # a machine may be busy


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Give a Chromium without a window."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="needs .venv-trame: run `make test-slicer`"
    )
    names = (os.environ.get("CHROMIUM") or "chromium", "google-chrome")
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        pytest.skip("No Chromium was found: install it, or name it with CHROMIUM=/path/to/it.")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=list(SWITCHES))
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def open_page(
    browser: Any, python: str, data_dir: Path, tmp_path_factory: Any
) -> Iterator[Callable[[str, str], Any]]:
    """Give what serves a real scan for a model and opens the page, and see that all of it ends."""
    with ExitStack() as ends:

        def open_page(scan: str, model: str) -> Any:
            port, log = _free_port(), tmp_path_factory.mktemp("browser") / "page.log"
            app = Path(__file__).with_name("app.py")
            command = [sys.executable, app, data_dir / scan, "--model", model, "--port", port]
            command += ["--engine-python", python]
            sink = ends.enter_context(log.open("w"))
            server = subprocess.Popen(list(map(str, command)), stdout=sink, stderr=sink)
            ends.callback(server.wait)
            ends.callback(server.terminate)
            _wait_for(port, server, log)
            page = browser.new_page(viewport=SIZE)
            ends.callback(page.close)
            page.set_default_timeout(1000 * WAIT_SECONDS)
            page.goto(f"http://127.0.0.1:{port}")
            page.locator("button.apply:not([disabled])").wait_for()
            return page

        yield open_page


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(port: int, server: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail(f"The page did not start:\n{log.read_text()[-3000:]}")
