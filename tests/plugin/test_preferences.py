"""What the user set last: kept in napari's settings, restored in the next dock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from npe2 import PluginManifest

from napari_sparseseg.plugin import preferences
from napari_sparseseg.plugin.preferences import Preferences
from napari_sparseseg.volume import Volume

from .window import add, segment, visible_maps


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let napari keep its settings in a folder of the test."""
    from napari import settings

    settings._clear_plugin_settings_cache()
    monkeypatch.setattr(settings, "_CFG_PATH", str(tmp_path / "settings.yaml"))
    yield tmp_path
    settings._clear_plugin_settings_cache()


def forget() -> None:
    """Let napari read its settings anew, as in another process."""
    from napari import settings

    settings._clear_plugin_settings_cache()


def test_defaults_are_those_of_the_manifest():
    manifest = PluginManifest.from_distribution("napari-sparseseg")
    declared = manifest.contributions.configurations["last"].properties

    assert {name: entry.default for name, entry in declared.items()} == asdict(Preferences())


def test_new_dock_restores_what_was_set(qtbot: Any, dock_of: Any, scan: Volume, folder: Path):
    viewer, dock = dock_of()
    assert preferences.load() == Preferences()
    add(viewer, scan)
    controls = dock.controls
    controls.task.setCurrentIndex(1)
    controls.precision.setCurrentIndex(controls.precision.findData("float32"))
    controls.follow.setChecked(False)
    controls.chooser.methods.buttons["dtop"].click()
    segment(qtbot, dock)
    dock.view.maps.buttons["depth"].click()
    dock.open_inspector().curve.tolerance.setValue(1.5)
    kept = yaml.safe_load((folder / "napari-sparseseg.yaml").read_text())
    assert kept["last"]["method"] == "dtop"
    task = controls.task.currentData().key

    forget()
    again, second = dock_of()
    add(again, scan)
    assert second.controls.task.currentData().key == task
    assert second.controls.choice().model.method == "dtop"
    assert second.controls.precision.currentData() == "float32"
    assert second.controls.device.currentData() == "auto"
    assert second.open_inspector().curve.tolerance.value() == 1.5
    segment(qtbot, second)
    assert visible_maps(again) == ["depth"]

    second.controls.setting.slider.setValue(0.9)
    assert "Press Segment" in second.message.text()
    qtbot.wait(400)
    assert not second.runner.busy


def test_device_that_has_gone_falls_back_to_automatic(
    qtbot: Any, dock_of: Any, scan: Volume, folder: Path
):
    preferences.keep(device="cuda:7")
    forget()
    viewer, dock = dock_of()
    add(viewer, scan)
    assert dock.controls.device.currentData() == "cuda:7"

    result = segment(qtbot, dock)

    assert result.report["device"] != "cuda:7"
    assert dock.controls.device.currentData() == "auto"
    assert dock.message.text().startswith("cuda:7 is not there any more")


@pytest.mark.parametrize("spoilt", ["last: 3\n", "{", "last: {map: none, tolerance: lots}\n"])
def test_spoilt_settings_are_the_defaults(folder: Path, spoilt: str):
    (folder / "napari-sparseseg.yaml").write_text(spoilt)

    assert preferences.load().tolerance == Preferences().tolerance
    preferences.keep(tolerance=900)
    assert preferences.load().tolerance == Preferences().tolerance


def test_plugin_that_napari_does_not_know_has_defaults(folder: Path, npe2pm: Any):
    preferences.keep(device="cpu")

    assert preferences.load() == Preferences()
