"""Known weaknesses of what is installed in this environment: ``make audit``.

pip-audit runs in a throw-away environment of its own, so that nothing is installed into this one.
Exit code 1: there are findings; 3: they could not be asked for.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

FOUND, UNKNOWN = 1, 3
_OWN = "napari-sparseseg"
_PATIENCE = 300.0  # seconds for all packages


def installed() -> list[str]:
    """Return what is installed here as ``name==version``, without local builds such as +cpu."""
    found = {
        (dist.metadata["Name"].lower(), dist.version.split("+")[0]) for dist in distributions()
    }
    return sorted(f"{name}=={version}" for name, version in found if name != _OWN)


def make_auditor(folder: Path) -> list[str]:
    """Install pip-audit into an environment in a folder; gives the command.

    Raises
    ------
    OSError, subprocess.CalledProcessError
        If it cannot be made or installed.
    """
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "pip-audit>=2.7"], check=True, capture_output=True)
    return [str(python), "-m", "pip_audit"]


def ask(auditor: list[str], packages: list[str], folder: Path) -> dict[str, Any] | None:
    """Ask for the advisories on packages; None if there was no answer."""
    wanted, answer = folder / "installed.txt", folder / "answer.json"
    wanted.write_text("\n".join(packages) + "\n")
    options = ["--requirement", str(wanted), "--no-deps", "--disable-pip", "--format", "json"]
    options += ["--output", str(answer), "--progress-spinner", "off", "--timeout", "30"]
    try:
        subprocess.run([*auditor, *options], capture_output=True, timeout=_PATIENCE)
        found: dict[str, Any] = json.loads(answer.read_text())
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return found


def findings(answer: dict[str, Any]) -> list[str]:
    """Return a line for each advisory: the package, the advisory, and what mends it."""
    return [
        f"{package['name']} {package['version']}: {weakness['id']}, mended in "
        f"{', '.join(weakness.get('fix_versions', [])) or 'no version yet'}"
        for package in answer["dependencies"]
        for weakness in package.get("vulns", [])
    ]


def report(answer: dict[str, Any] | None, packages: int) -> int:
    """Say what was found; returns the exit code."""
    found = [] if answer is None else findings(answer)
    for line in found:
        print(f"AUDIT: {line}")
    known = [] if answer is None else [p for p in answer["dependencies"] if "vulns" in p]
    print(
        f"{packages} installed packages, {len(known)} known to the service, {len(found)} findings"
    )
    if len(known) < packages / 2 and not found:
        print(
            "AUDIT NOT DONE: the advisory service cannot be reached from here; run 'make audit' "
            "on a computer that is online."
        )
        return UNKNOWN
    return FOUND if found else 0


def main() -> int:
    """Audit this environment; returns the exit code."""
    packages = installed()
    with tempfile.TemporaryDirectory() as folder:
        try:
            auditor = make_auditor(Path(folder) / "venv")
        except (OSError, subprocess.CalledProcessError):
            print(
                "AUDIT NOT DONE: pip-audit cannot be installed from here; run 'make audit' on a "
                "computer that is online."
            )
            return UNKNOWN
        return report(ask(auditor, packages, Path(folder)), len(packages))


if __name__ == "__main__":
    sys.exit(main())
