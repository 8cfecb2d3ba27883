"""What the installer decides, and what it tells the user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CalledProcessError
from types import SimpleNamespace

import pytest

from SparseSegLib.install import Installer, InstallError, Tools
from tests.slicer.conftest import MODULE

REQUIREMENTS = MODULE / "Resources" / "requirements.txt"
NEEDS = (
    "torch>=2.6", "SimpleITK>=2.3", "numpy>=1.26", "nibabel>=5.2", 'napari>=0.9; extra == "napari"',
    'winthing; sys_platform == "no such system"',
)  # fmt: skip


class Computer:
    """A Slicer whose Python holds some packages, and which records what is done to it."""

    def __init__(self, **installed: str) -> None:
        self.installed = {"numpy": "2.4.6", **installed}
        self.done: list[str] = []
        self.testing, self.agrees, self.network = False, True, True

    def tools(self, old: bool = False) -> Tools:
        return Tools(
            testing=lambda: self.testing,
            version=self.installed.get,
            requires=lambda name: NEEDS,
            torch_logic=lambda: SimpleNamespace(installTorch=self.install_torch),
            confirm=self.confirm,
            pip_install=self.pip_install,
            pip_uninstall=lambda name: self.done.append(f"pip uninstall {name}"),
            pip_ensure=None if old else self.pip_ensure,
        )

    def confirm(self, question: str) -> bool:
        self.done.append("ask")
        return self.agrees

    def install_torch(self, askConfirmation: bool, torchVersionRequirement: str) -> object:
        self.done.append(f"torch {torchVersionRequirement}")
        if self.agrees:
            self.installed["torch"] = "2.8.0+cu128"
        return object() if self.agrees else None

    def pip_install(self, what: str) -> None:
        if not self.network:
            raise CalledProcessError(1, "pip")
        self.done.append(f"pip {what}")
        if "napari-sparseseg" in what:
            self.installed["napari-sparseseg"] = "0.1.0"

    def pip_ensure(self, wanted: list[str], skip_packages: list[str], requester: str) -> None:
        if not self.agrees:
            raise RuntimeError("declined")
        assert requester == "SparseSeg"
        self.pip_install(f"{' '.join(wanted)} without {' '.join(skip_packages)}")


@pytest.fixture(autouse=True)
def no_own_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARSESEG_PYTHON", raising=False)


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(InstallError) as caught:
        action()
    return str(caught.value)


def test_fresh_slicer_gets_torch_first_and_then_the_engine_without_the_skipped():
    computer = Computer()
    installer = Installer(REQUIREMENTS, computer.tools())
    assert installer.missing() == ["torch>=2.6", "napari-sparseseg>=0.1.0"]
    installer.ensure()

    assert computer.done == [
        "torch >=2.6",
        "pip napari-sparseseg>=0.1.0 without torch SimpleITK",
    ]
    assert installer.missing() == []


def test_what_is_there_is_left_alone():
    computer = Computer(torch="2.8.0+cpu", **{"napari-sparseseg": "0.2.0"})
    Installer(REQUIREMENTS, computer.tools()).ensure()

    assert computer.done == []


def test_engine_that_is_too_old_is_brought_up_to_date():
    computer = Computer(torch="2.8.0", **{"napari-sparseseg": "0.0.9"})
    Installer(REQUIREMENTS, computer.tools()).ensure()

    assert computer.done == ["pip napari-sparseseg>=0.1.0 without torch SimpleITK"]


def test_torch_that_is_too_old_is_told_and_not_replaced():
    computer = Computer(torch="1.13.1")
    sentence = refusal(Installer(REQUIREMENTS, computer.tools()).ensure)

    assert "PyTorch 1.13.1 is too old" in sentence and "restart Slicer" in sentence
    assert computer.done == []


def test_missing_pytorch_extension_is_told_with_where_to_get_it():
    def absent() -> None:
        raise ModuleNotFoundError("No module named 'PyTorchUtils'")

    computer = Computer()
    tools = replace(computer.tools(), torch_logic=absent)

    assert refusal(Installer(REQUIREMENTS, tools).ensure) == (
        "The PyTorch extension of 3D Slicer is missing; install 'PyTorch' in View > Extensions "
        "Manager, restart Slicer and try again."
    )
    assert computer.done == []


@pytest.mark.parametrize("installed", [{}, {"torch": "2.8.0"}])
@pytest.mark.parametrize("old", [False, True])
def test_user_who_declines_is_told_that_nothing_was_installed(installed, old):
    computer = Computer(**installed)
    computer.agrees = False

    sentence = refusal(Installer(REQUIREMENTS, computer.tools(old)).ensure)
    assert sentence.startswith("Nothing was installed")
    assert not [step for step in computer.done if step.startswith("pip")]


def test_tests_of_slicer_install_nothing():
    computer = Computer()
    computer.testing = True

    sentence = refusal(Installer(REQUIREMENTS, computer.tools()).ensure)
    assert "nothing is installed while Slicer runs its tests" in sentence
    assert computer.done == []


def test_slicer_5_10_installs_the_engine_alone_and_then_what_it_needs():
    computer = Computer(torch="2.8.0")
    Installer(REQUIREMENTS, computer.tools(old=True)).ensure()

    assert computer.done == [
        "ask",
        "pip --no-deps napari-sparseseg>=0.1.0",
        "pip nibabel>=5.2",
    ]


def test_failed_pip_is_told_with_where_to_look():
    computer = Computer(torch="2.8.0")
    computer.network = False

    sentence = refusal(Installer(REQUIREMENTS, computer.tools()).ensure)
    assert "pip ended with 1" in sentence and "Python Console" in sentence


def test_installation_that_changed_nothing_is_told():
    computer = Computer(torch="2.8.0")
    tools = replace(computer.tools(), pip_ensure=lambda *_, **__: None)

    assert "still missing" in refusal(Installer(REQUIREMENTS, tools).ensure)


def test_environment_of_the_users_own_needs_no_installation(monkeypatch, tmp_path: Path):
    computer = Computer()
    installer = Installer(REQUIREMENTS, computer.tools())
    monkeypatch.setenv("SPARSESEG_PYTHON", str(tmp_path / "python"))

    assert installer.missing() == []
    installer.ensure()
    assert installer.python() == str(tmp_path / "python")
    assert computer.done == []
    assert "unset SPARSESEG_PYTHON" in refusal(installer.remove)


def test_engine_is_removed_after_asking():
    computer = Computer(**{"napari-sparseseg": "0.1.0"})
    installer = Installer(REQUIREMENTS, computer.tools())
    computer.agrees = False
    assert not installer.remove()
    assert computer.done == ["ask"]
    computer.agrees = True

    assert installer.remove()
    assert computer.done[-1] == "pip uninstall napari-sparseseg"


def test_engine_that_is_not_there_is_not_removed():
    computer = Computer()

    assert not Installer(REQUIREMENTS, computer.tools()).remove()
    assert computer.done == []
