"""What is built and installed: the manifest, the wheel, the dependencies and a light import."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from npe2 import PluginManifest
from packaging.requirements import Requirement

from napari_sparseseg import __version__

NAME = "napari-sparseseg"
GUI = {"napari", "qtpy", "superqt", "magicgui", "vispy", "pyqt5", "pyqt6", "pyside2", "pyside6"}


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build the wheel of the working tree, with the build backend of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    result = subprocess.run([*command, str(repository)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    """Give the metadata that the wheel declares."""
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def requirements(metadata: Message, extra: str = "") -> dict[str, Requirement]:
    """Give what the wheel asks for with one extra, or with none, by lower-case name."""
    declared = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    base = {r.name.lower(): r for r in declared if r.marker is None}
    with_extra = {
        r.name.lower(): r for r in declared if r.marker and r.marker.evaluate({"extra": extra})
    }
    return with_extra if extra else base


def test_manifest_is_named_like_the_distribution():
    manifest = PluginManifest.from_distribution(NAME)

    assert manifest.name == NAME == distribution(NAME).metadata["Name"]


def test_every_command_of_the_manifest_can_be_imported():
    manifest = PluginManifest.from_distribution(NAME)

    manifest.validate_imports()

    assert {command.id for command in manifest.contributions.commands or ()} == {
        f"{NAME}.{name}" for name in ("dock", "open_dock", "read", "write_labels", "icbm152")
    }


def test_manifest_of_the_package_is_the_one_at_the_top(repository: Path):
    link = repository / "napari_sparseseg" / "napari.yaml"

    assert link.is_symlink()
    assert link.resolve() == repository / "napari.yaml"


def test_wheel_carries_the_manifest_of_the_top(wheel: zipfile.ZipFile, repository: Path):
    shipped = wheel.read("napari_sparseseg/napari.yaml")

    assert shipped == (repository / "napari.yaml").read_bytes()


def test_wheel_carries_the_weights_that_its_index_names(wheel: zipfile.ZipFile, repository: Path):
    shipped = {
        name.removeprefix("napari_sparseseg/_weights/"): wheel.getinfo(name).file_size
        for name in wheel.namelist()
        if name.startswith("napari_sparseseg/_weights/")
    }
    index = wheel.read("napari_sparseseg/_weights/index.json")

    assert json.loads(index) == json.loads((repository / "weights" / "index.json").read_text())
    assert shipped == {
        str(path.relative_to(repository / "weights")): path.stat().st_size
        for path in (repository / "weights").rglob("*")
        if path.is_file()
    }


def test_wheel_holds_one_package_and_its_metadata(wheel: zipfile.ZipFile):
    tops = {name.split("/")[0] for name in wheel.namelist()}

    assert tops == {"napari_sparseseg", f"napari_sparseseg-{__version__}.dist-info"}


def test_base_install_has_no_gui(metadata: Message):
    base = requirements(metadata)

    assert "torch" in base
    assert not GUI & base.keys()


def imported(folder: Path, skipped: str) -> set[str]:
    """Give the top modules that the files of a package import, those of a part of it left out."""
    names: set[str] = set()
    for file in folder.rglob("*.py"):
        if skipped not in file.relative_to(folder).parts:
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    names |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    names.add(node.module.split(".")[0])
    return names


def test_base_install_brings_what_the_engine_imports(repository: Path, metadata: Message):
    found = imported(repository / "napari_sparseseg", skipped="plugin")
    owners = packages_distributions()
    needed = {
        owners[name][0].lower() for name in found - sys.stdlib_module_names - {"napari_sparseseg"}
    }

    assert {"torch", "matplotlib", "jinja2"} <= needed
    assert needed == requirements(metadata).keys()


def test_no_extra_repeats_the_base_install(metadata: Message):
    base = requirements(metadata).keys()

    for extra in ("napari", "sample", "dev"):
        assert not requirements(metadata, extra).keys() & base


def test_wheel_carries_the_templates(wheel: zipfile.ZipFile, repository: Path):
    folder = repository / "napari_sparseseg" / "analysis" / "templates"
    templates = {f"napari_sparseseg/analysis/templates/{path.name}" for path in folder.iterdir()}

    assert templates and templates <= {*wheel.namelist()}


def test_napari_extra_brings_one_qt_binding(metadata: Message):
    extra = requirements(metadata, "napari")

    assert extra.keys() == {"napari"}
    assert extra["napari"].extras == {"pyqt6"}


def test_command_line_entry_point_is_there():
    (entry_point,) = (
        entry for entry in distribution(NAME).entry_points if entry.group == "console_scripts"
    )

    assert entry_point.name == "sparseseg"
    assert callable(entry_point.load())


def test_importing_the_package_is_light():
    heavy = ["torch", "monai", "SimpleITK", "nibabel", "scipy", "napari", "qtpy", "typer"]
    code = f"import napari_sparseseg, sys; print(sorted(set({heavy}) & set(sys.modules)))"

    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert result.stdout.strip() == "[]"
