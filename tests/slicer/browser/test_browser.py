"""From a click to the pixels: segment a real scan in a browser, with the module's own logic.

The tests go on from one another, as a person does at the page: open, segment, look, move.
"""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest

pytest.importorskip("trame_slicer", reason="needs .venv-trame: run `make test-slicer`")

from PIL import Image
from playwright.sync_api import Page, expect

RUN_SECONDS = 120
"""Longest time for a run of a small scan on a busy machine."""
VIEWS = {"x": 330, "y": 0, "width": 770, "height": 700}
"""Where the slice and 3D views are on the page."""
KEPT = (0, 200, 150)
"""Colour of kept tokens in the legend of their map, from the engine's palette."""
CONTOUR = (0x37, 0xD0, 0xD0)
"""Colour of the posterior hippocampus."""


def picture(page: Page) -> np.ndarray:
    """Give the pixels of the views, when they have arrived and come to rest."""
    before = None
    for _ in range(120):
        page.wait_for_timeout(500)
        shot = Image.open(io.BytesIO(page.screenshot(clip=VIEWS))).convert("RGB")
        now = np.asarray(shot).astype(int)
        if before is not None and now.std() > 20 and np.abs(now - before).mean() < 0.05:
            return now
        before = now
    raise AssertionError("The views did not come to rest.")


def pixels_like(image: np.ndarray, color: tuple[int, ...], tolerance: int = 6) -> int:
    """Count the pixels of about a colour."""
    return int((np.abs(image - color).max(axis=-1) <= tolerance).sum())


def changed(before: np.ndarray, after: np.ndarray) -> float:
    """Give the fraction of pixels that differ clearly."""
    return float((np.abs(before - after).max(axis=-1) > 12).mean())


def wait_for_run(page: Page, number: int) -> None:
    expect(page.locator(".runs")).to_have_text(f"{number} runs", timeout=1000 * RUN_SECONDS)


def choose(page: Page, title: str) -> None:
    page.locator(".map").click()
    page.get_by_role("option").filter(has_text=re.compile(f"^{title}")).first.click()


def press(page: Page, slider: str, key: str, times: int = 1) -> None:
    thumb = page.locator(f".{slider} .v-slider-thumb")
    thumb.focus()
    for _ in range(times):
        thumb.press(key)


def figure(page: Page, name: str) -> str:
    return page.locator(".figures tr", has_text=name).locator("td").last.inner_text()


@pytest.fixture(scope="module")
def page(open_page):
    """Give the page of a small scan, whose runs take a second."""
    return open_page("hippocampus/images/hippocampus_001.nii.gz", "hippocampus-mr-stp")


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """Keep what one test has seen for the next."""
    return {}


def test_the_scan_opens_and_the_model_is_named(page, seen):
    expect(page.locator(".status")).to_contain_text("ippocampus")
    seen["scan"] = picture(page)
    assert pixels_like(seen["scan"], KEPT) == 0


def test_segment_shows_contours_map_and_legend(page, seen):
    page.locator("button.apply").click()
    expect(page.locator("button.apply")).to_have_text("Cancel")
    wait_for_run(page, 1)
    expect(page.locator("button.apply")).to_have_text("Segment")
    expect(page.locator(".legend")).to_contain_text("pruned at stage 1")
    expect(page.locator(".structures")).to_contain_text("posterior hippocampus")
    assert float(figure(page, "Keep ratio")) == 0.5
    seen["kept"] = picture(page)
    assert pixels_like(seen["kept"], KEPT) > 500
    assert pixels_like(seen["kept"], CONTOUR) > 100 > pixels_like(seen["scan"], CONTOUR)
    assert changed(seen["scan"], seen["kept"]) > 0.05


def test_the_slider_runs_again_and_the_overlay_follows(page, seen):
    before = page.locator(".legend").inner_text()
    press(page, "setting", "ArrowLeft", times=5)
    expect(page.locator(".figures")).to_contain_text("0.25", timeout=1000 * RUN_SECONDS)
    assert float(figure(page, "Keep ratio")) == 0.25
    assert page.locator(".legend").inner_text() != before
    assert changed(seen["kept"], picture(page)) > 0.02


def test_one_map_at_a_time_and_none(page, seen):
    choose(page, "importance at")
    image = picture(page)
    assert pixels_like(image, KEPT) == 0
    choose(page, "none")
    seen["none"] = picture(page)
    assert changed(image, seen["none"]) > 0.05
    assert page.locator(".legend").inner_text().strip() == ""
    assert pixels_like(seen["none"], CONTOUR) > 100


def test_opacity_goes_from_the_scan_to_the_map(page, seen):
    choose(page, "kept / pruned")
    full = changed(seen["none"], picture(page))
    press(page, "opacity", "ArrowLeft", times=14)
    faint = changed(seen["none"], picture(page))
    assert faint < full
    press(page, "opacity", "End")


def test_3d_shows_the_structures(page):
    flat = picture(page)[:230, 390:]
    page.locator(".in-3d input").click()
    solid = picture(page)[:230, 390:]
    assert pixels_like(flat, CONTOUR, 60) < 50 < pixels_like(solid, CONTOUR, 60)


def test_cancel_leaves_the_scene_as_it_was(open_page):
    """A whole brain takes long enough to be cancelled."""
    page = open_page("brain-t1/t1.nii.gz", "brain-mr-stp")
    before, button = picture(page), page.locator("button.apply")
    button.click()
    expect(button).to_have_text("Cancel")
    button.click()
    expect(page.locator(".status")).to_contain_text("Cancelled; nothing was changed.")
    expect(button).to_have_text("Segment")
    assert page.locator(".runs").inner_text() == "0 runs"
    assert changed(before, picture(page)) < 0.001
