"""What Slicer's index and its build read: metadata, catalogue entry, lists of files."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

STUB = Path(__file__).parent / "slicer_stub"
URL = r'set\(EXTENSION_{}\s+"?(https://[^\s")]+)'


@pytest.fixture(scope="session")
def entry(top: Path) -> dict:
    return json.loads((top / "slicer_extension" / "SparseSeg.json").read_text())


def listed(module: Path, variable: str) -> set[str]:
    """Give the files that a list of the module's CMakeLists.txt names."""
    text = (module / "CMakeLists.txt").read_text()
    body = re.search(rf"set\({variable}\s+([^)]*)\)", text).group(1)
    return {name.replace("${MODULE_NAME}", module.name) for name in body.split()}


def on_disk(module: Path, pattern: str) -> set[str]:
    found = (path for path in module.glob(pattern) if path.is_file())
    return {path.relative_to(module).as_posix() for path in found}


def test_every_script_is_listed_and_every_listed_script_is_there(module: Path):
    scripts = on_disk(module, "*.py") | on_disk(module, "SparseSegLib/**/*.py")

    assert listed(module, "MODULE_PYTHON_SCRIPTS") == scripts


def test_every_resource_is_listed_and_every_listed_resource_is_there(module: Path):
    assert listed(module, "MODULE_PYTHON_RESOURCES") == on_disk(module, "Resources/**/*")


def test_extension_is_named_like_its_catalogue_entry(top: Path):
    name = re.search(r"project\((\w+)", (top / "CMakeLists.txt").read_text()).group(1)

    assert (top / "slicer_extension" / f"{name}.json").is_file()
    assert not name.startswith("Slicer")


@pytest.mark.parametrize("field", ["HOMEPAGE", "ICONURL", "SCREENSHOTURLS"])
def test_addresses_stand_in_the_top_file_and_lead_to_files_of_the_repository(top: Path, field: str):
    address = re.search(URL.format(field), (top / "CMakeLists.txt").read_text()).group(1)
    path = re.sub(r"^https://[^/]+/[^/]+/[^/]+/(tree/)?main/", "", address)

    assert (top / path).exists(), path


def test_licence_stands_at_the_top(top: Path):
    assert "Apache License" in (top / "LICENSE").read_text()


def test_catalogue_entry_has_what_the_schema_asks_for_and_nothing_else(entry: dict):
    required = {"$schema", "category", "scm_url"}
    known = required | {
        "build_dependencies", "build_subdirectory", "scm_revision", "scm_type", "tier", "enabled",
    }  # fmt: skip

    assert required <= entry.keys() <= known
    assert re.search(r"slicer-extension-catalog-entry-schema-v1\.0\.\d\.json#$", entry["$schema"])
    assert entry["category"] == "Segmentation"
    assert entry["scm_url"].startswith("https://") and entry["scm_url"].endswith(".git")
    assert entry["tier"] in (1, 3, 5)


def test_catalogue_entry_agrees_with_the_build(top: Path, entry: dict):
    text = (top / "CMakeLists.txt").read_text()

    assert (
        re.search(r'EXTENSION_DEPENDS "(.*)"', text).group(1).split()
        == (entry["build_dependencies"])
    )
    assert re.search(r'EXTENSION_CATEGORY "(.*)"', text).group(1) == entry["category"]


@pytest.mark.parametrize("name", ["CMakeLists.txt", "slicer_extension/SparseSeg.json"])
def test_files_of_the_index_have_unix_line_ends(top: Path, name: str):
    assert b"\r" not in (top / name).read_bytes()


def test_requirements_name_the_package_and_leave_torch_alone(top: Path, module: Path):
    lines = (module / "Resources" / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    name = re.search(r'^name = "(.*)"', (top / "pyproject.toml").read_text(), re.M).group(1)

    assert [re.split(r"[><=]", line)[0] for line in wanted] == [name]


@pytest.fixture(scope="session")
def built(top: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configure the extension as Slicer does, and give the folder of its installed modules."""
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed: install it to see the extension being configured.")
    folder = tmp_path_factory.mktemp("build")
    # A scripted module needs no compiler, but project() looks for one.
    nothing = [f"-DCMAKE_{language}_COMPILER_WORKS=1" for language in ("C", "CXX")]
    command = ["cmake", "-S", str(top), "-B", str(folder), f"-DSlicer_DIR={STUB}", *nothing]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder / "lib" / "Slicer-5.12" / "qt-scripted-modules"


def test_build_holds_the_module_and_its_resources(built: Path):
    assert (built / "SparseSeg.py").is_file()
    assert (built / "Resources" / "UI" / "SparseSeg.ui").is_file()
    assert (built / "Resources" / "Icons" / "SparseSeg.png").is_file()


def test_built_library_can_be_imported_without_slicer(built: Path):
    code = (
        f"import sys; sys.path.insert(0, {str(built)!r}); "
        "import SparseSegLib.engine as e, SparseSegLib.install, SparseSegLib.chooser, "
        "SparseSegLib.geometry; print(e.__file__)"
    )

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert result.stdout.strip() == str(built / "SparseSegLib" / "engine.py"), result.stderr
