"""What has to be installed for the engine, and in which order; standard library only.

torch comes through the PyTorch extension, which chooses the build for the graphics card. The rest
comes through Slicer's own installer, which must replace neither torch nor Slicer's SimpleITK.
Everything that installs or asks is handed in as :class:`Tools`.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

ENGINE = "napari-sparseseg"
TORCH = "torch"
TORCH_VERSION = ">=2.6"
SKIPPED = (TORCH, "SimpleITK")
"""Packages that Slicer's installer must not touch."""

PYTHON_VARIABLE = "SPARSESEG_PYTHON"
"""Environment variable that names the Python of an environment which holds the engine already."""

REQUESTER = "SparseSeg"
QUESTION = (
    "SparseSeg needs the Python package napari-sparseseg and what it depends on. Install it into "
    "Slicer now? It needs the network and takes some minutes."
)


class InstallError(RuntimeError):
    """The engine cannot be installed; the message is one sentence for the user."""


@dataclass(frozen=True)
class Tools:
    """What Slicer offers for installing.

    Attributes
    ----------
    testing : callable
        Whether Slicer runs its tests, which must not install anything.
    version : callable
        Version of an installed package, None if it is not there.
    requires : callable
        What an installed package asks for.
    torch_logic : callable
        Gives the logic of the PyTorch extension; raises ImportError if that is not there.
    confirm : callable
        Asks the user a question.
    pip_install, pip_uninstall : callable
        ``slicer.util.pip_install`` and ``pip_uninstall``.
    pip_ensure : callable or None
        ``slicer.packaging.pip_ensure``, None before Slicer 5.11.
    """

    testing: Callable[[], bool]
    version: Callable[[str], str | None]
    requires: Callable[[str], Sequence[str]]
    torch_logic: Callable[[], Any]
    confirm: Callable[[str], bool]
    pip_install: Callable[[str], object]
    pip_uninstall: Callable[[str], object]
    pip_ensure: Callable[..., object] | None


class Installer:
    """Sees to it that the engine can be started.

    Parameters
    ----------
    requirements : Path
        A requirements file that names the engine.
    tools : Tools
        What Slicer offers.
    """

    def __init__(self, requirements: Path, tools: Tools) -> None:
        self._requirements, self._tools = requirements, tools

    @property
    def own_python(self) -> str:
        """Python of an environment of the user's own, "" if none is named."""
        return os.environ.get(PYTHON_VARIABLE, "")

    def python(self) -> str:
        """Return the Python interpreter that runs the engine."""
        return self.own_python or shutil.which("PythonSlicer") or sys.executable

    def missing(self) -> list[str]:
        """List what has to be installed, in the order of doing so."""
        if self.own_python:
            return []
        wanted = [f"{TORCH}{TORCH_VERSION}", *self._wanted()]
        return [requirement for requirement in wanted if not self._satisfied(requirement)]

    def ensure(self) -> None:
        """Install what is missing, after asking.

        Raises
        ------
        InstallError
            If it cannot be installed, or the user does not want it.
        """
        missing = self.missing()
        if not missing:
            return
        if self._tools.testing():
            raise InstallError(
                f"{', '.join(missing)} is not installed, and nothing is installed while Slicer "
                "runs its tests; install it in Slicer's Python first."
            )
        try:
            self._ensure_torch()
            self._ensure_engine()
        except CalledProcessError as error:
            raise InstallError(
                f"The installation failed (pip ended with {error.returncode}); see why in View > "
                "Python Console, most often there is no network or a proxy in between, and try "
                "again."
            ) from error
        if still := self.missing():
            raise InstallError(
                f"{', '.join(still)} is still missing after the installation; restart Slicer and "
                "try again."
            )

    def remove(self) -> bool:
        """Remove the engine with the models that came with it, after asking.

        Returns
        -------
        bool
            Whether it was removed.

        Raises
        ------
        InstallError
            If it is not Slicer's own, or cannot be removed.
        """
        if self.own_python:
            raise InstallError(
                f"The engine belongs to {self.own_python}; remove it there, or unset "
                f"{PYTHON_VARIABLE}."
            )
        question = "Remove napari-sparseseg and its models from Slicer? PyTorch stays."
        if self._tools.version(ENGINE) is None or not self._tools.confirm(question):
            return False
        try:
            self._tools.pip_uninstall(ENGINE)
        except CalledProcessError as error:
            raise InstallError(
                f"The engine was not removed (pip ended with {error.returncode}); restart Slicer "
                "and try again before the engine has run."
            ) from error
        return True

    # Steps

    def _ensure_torch(self) -> None:
        if self._satisfied(f"{TORCH}{TORCH_VERSION}"):
            return
        try:
            logic = self._tools.torch_logic()
        except ImportError as error:
            raise InstallError(
                "The PyTorch extension of 3D Slicer is missing; install 'PyTorch' in View > "
                "Extensions Manager, restart Slicer and try again."
            ) from error
        version = self._tools.version(TORCH)
        if version is not None:
            raise InstallError(
                f"PyTorch {version} is too old, SparseSeg needs {TORCH_VERSION}; uninstall it in "
                "the module PyTorch, restart Slicer and try again."
            )
        if logic.installTorch(askConfirmation=True, torchVersionRequirement=TORCH_VERSION) is None:
            raise _declined()

    def _ensure_engine(self) -> None:
        wanted = [requirement for requirement in self._wanted() if not self._satisfied(requirement)]
        if not wanted:
            return
        tools = self._tools
        if tools.pip_ensure is None:
            self._install_by_hand(wanted)
            return
        try:
            tools.pip_ensure(wanted, skip_packages=list(SKIPPED), requester=REQUESTER)
        except RuntimeError as error:  # what it raises when the user declines
            raise _declined() from error

    def _install_by_hand(self, wanted: Sequence[str]) -> None:
        """Install before Slicer 5.11: the engine alone, then what it needs but the skipped."""
        if not self._tools.confirm(QUESTION):
            raise _declined()
        for requirement in wanted:
            self._tools.pip_install(f"--no-deps {requirement}")
        for requirement in self._tools.requires(ENGINE):
            if self._useful(requirement) and not self._satisfied(requirement):
                self._tools.pip_install(requirement)

    def _wanted(self) -> list[str]:
        lines = self._requirements.read_text(encoding="utf-8").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]

    def _useful(self, requirement: str) -> bool:
        """Tell whether something that the engine asks for is to be installed here."""
        from packaging.requirements import Requirement

        parsed = Requirement(requirement)
        skipped = {name.lower() for name in SKIPPED}
        applies = parsed.marker is None or parsed.marker.evaluate({"extra": ""})
        return applies and parsed.name.lower() not in skipped

    def _satisfied(self, requirement: str) -> bool:
        from packaging.requirements import Requirement

        parsed = Requirement(requirement)
        version = self._tools.version(parsed.name)
        return version is not None and parsed.specifier.contains(version, prereleases=True)


def slicer_tools() -> Tools:
    """Return what the running Slicer offers."""
    import slicer

    return Tools(
        testing=slicer.app.testingEnabled,
        version=installed_version,
        requires=_installed_requires,
        torch_logic=_torch_logic,
        confirm=slicer.util.confirmOkCancelDisplay,
        pip_install=slicer.util.pip_install,
        pip_uninstall=slicer.util.pip_uninstall,
        pip_ensure=_pip_ensure(),
    )


def installed_version(package: str) -> str | None:
    """Return the version of an installed package, None if it is not there."""
    import importlib
    from importlib import metadata

    importlib.invalidate_caches()
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _installed_requires(package: str) -> Sequence[str]:
    from importlib import metadata

    return metadata.requires(package) or []


def _torch_logic() -> Any:
    from PyTorchUtils import PyTorchUtilsLogic

    return PyTorchUtilsLogic()


def _pip_ensure() -> Callable[..., object] | None:
    try:
        from slicer.packaging import pip_ensure
    except ImportError:
        return None
    return pip_ensure


def _declined() -> InstallError:
    return InstallError("Nothing was installed; press the button again when you want to.")
