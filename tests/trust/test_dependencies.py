"""What the project depends on: licences that fit its own, and an audit that speaks plainly."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import tomllib
from importlib.metadata import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
FITS = re.compile(
    r"MIT|BSD|Apache|Python Software Foundation|PSF|matplotlib|MPL-2\.0|Zlib|CC0", re.IGNORECASE
)
DOES_NOT = re.compile(r"(?<!L)GPL|General Public|SSPL|proprietary|non-?commercial", re.IGNORECASE)


def declared() -> list[str]:
    extras = (r for group in PROJECT["optional-dependencies"].values() for r in group)
    names = {Requirement(text).name.lower() for text in [*PROJECT["dependencies"], *extras]}
    return sorted(names - {"napari-sparseseg"})


def licence_of(name: str) -> str:
    """Give what a package says of its licence: the expression, else first words and classifiers."""
    facts = metadata(name)
    if expression := facts.get("License-Expression"):
        return str(expression)
    kinds = [c for c in facts.get_all("Classifier", []) if c.startswith("License")]
    return " ".join([*kinds, (facts.get("License") or "")[:200]])


@pytest.mark.parametrize("name", declared())
def test_the_licence_of_a_dependency_fits_ours(name: str) -> None:
    """Those that we name; the Qt binding that napari's own extra chooses is not among them."""
    licence = licence_of(name)

    assert FITS.search(licence), licence
    assert not DOES_NOT.search(licence), licence


@pytest.mark.parametrize(
    "licence", ["GPL-3.0-only", "AGPL-3.0", "GNU General Public License v3", "Non-commercial"]
)
def test_a_licence_that_does_not_fit_is_seen(licence: str) -> None:
    assert DOES_NOT.search(licence)


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", REPOSITORY / "scripts" / "audit.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def auditor(folder: Path, answer: dict[str, Any] | None, code: int) -> list[str]:
    """Write a stand-in for pip-audit that gives an answer, or none, and leaves with a code."""
    script = folder / "auditor.py"
    script.write_text(
        "import pathlib, sys\n"
        f"answer = {json.dumps(answer)!r}\n"
        "if answer != 'null':\n"
        "    pathlib.Path(sys.argv[sys.argv.index('--output') + 1]).write_text(answer)\n"
        f"sys.exit({code})\n"
    )
    return [sys.executable, str(script)]


WEAK = {"name": "jinja2", "version": "3.1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.2"]}]}
SOUND: dict[str, Any] = {"name": "numpy", "version": "2.0", "vulns": []}


def test_findings_are_named_and_fail(
    audit: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = auditor(tmp_path, {"dependencies": [WEAK, SOUND]}, 1)

    assert audit.report(audit.ask(command, ["jinja2==3.1"], tmp_path), 2) == 1
    said = capsys.readouterr().out
    assert "AUDIT: jinja2 3.1: PYSEC-1, mended in 3.2\n" in said
    assert "2 installed packages, 2 known to the service, 1 findings" in said


def test_no_findings_are_no_failure(audit: ModuleType, tmp_path: Path) -> None:
    command = auditor(tmp_path, {"dependencies": [SOUND]}, 0)

    assert audit.report(audit.ask(command, ["numpy==2.0"], tmp_path), 1) == 0


@pytest.mark.parametrize("skipped", [False, True])
def test_a_service_that_cannot_be_reached_is_no_clean_bill(
    audit: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], skipped: bool
) -> None:
    """No answer at all, or one in which every package is unknown, as behind a mirror."""
    unknown = {"dependencies": [{"name": "numpy", "skip_reason": "not found"}] * 2}
    command = auditor(tmp_path, unknown if skipped else None, 0 if skipped else 1)

    assert audit.report(audit.ask(command, ["numpy==2.0"], tmp_path), 2) == 3
    assert "AUDIT NOT DONE" in capsys.readouterr().out


def test_the_audit_asks_for_what_is_installed(audit: ModuleType) -> None:
    packages = audit.installed()

    assert not any("+" in package for package in packages)
    names = {package.split("==")[0] for package in packages}
    assert {"torch", "numpy", "pydicom"} <= names
    assert "napari-sparseseg" not in names
