"""What can be seen of the module's code without running it."""

from __future__ import annotations

import ast
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

SLICERS_OWN = {"slicer", "qt", "ctk", "vtk", "numpy", "SparseSegLib"}
NUMPY_ONLY = {
    "answers", "catalogue", "chooser", "engine", "failures", "feedback", "geometry", "install",
    "jobs", "orders", "process", "result_view", "runner", "words",
}  # fmt: skip
"""Files that know neither Slicer nor Qt."""

WIDGETS = {
    "QCheckBox", "QComboBox", "QLabel", "QLineEdit", "QPlainTextEdit", "QProgressBar",
    "QPushButton", "QToolButton", "QWidget", "ctkCollapsibleButton", "ctkSliderWidget",
    "qMRMLNodeComboBox", "qMRMLWidget",
}  # fmt: skip


def file_scope(tree: ast.Module) -> Iterator[ast.stmt]:
    """Give what runs when a file is imported, but what only type checkers see."""
    for node in tree.body:
        yield node
        for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if isinstance(node, ast.If | ast.Try) and not for_types:
            yield from node.body


def imported(nodes: Iterator[ast.AST]) -> set[str]:
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


@pytest.fixture(scope="session")
def form(module: Path) -> ElementTree.Element:
    return ElementTree.parse(module / "Resources" / "UI" / "SparseSeg.ui").getroot()


def widgets(form: ElementTree.Element) -> dict[str, str]:
    """Give the class of each widget by its name."""
    return {node.get("name"): node.get("class") for node in form.iter("widget")}


def test_nothing_but_slicers_own_is_imported_at_file_scope(trees: dict[str, ast.Module]):
    allowed = SLICERS_OWN | sys.stdlib_module_names

    for name, tree in trees.items():
        assert imported(file_scope(tree)) <= allowed, name


def test_files_for_plain_python_import_neither_slicer_nor_qt(trees: dict[str, ast.Module]):
    allowed = {"numpy", "SparseSegLib"} | sys.stdlib_module_names

    for name in NUMPY_ONLY:
        assert imported(file_scope(trees[f"{name}.py"])) <= allowed, name


def test_nothing_is_called_at_file_scope(trees: dict[str, ast.Module]):
    for name, tree in trees.items():
        calls = [node for node in tree.body if isinstance(node, ast.Expr)]
        assert not [node for node in calls if isinstance(node.value, ast.Call)], name


def test_torch_and_the_engine_are_never_imported(trees: dict[str, ast.Module]):
    for name, tree in trees.items():
        found = imported(ast.walk(tree))
        assert not found & {"torch", "napari_sparseseg", "imp", "monai"}, name


def test_pip_is_never_asked_for_torch(trees: dict[str, ast.Module]):
    for name, tree in trees.items():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if "pip_install" in ast.unparse(call.func):
                assert "torch" not in ast.unparse(call).lower(), name


def test_every_widget_that_the_code_names_is_in_the_form(
    trees: dict[str, ast.Module], form: ElementTree.Element
):
    used = set()
    for name in ("widget.py", "chooser.py", "feedback.py", "result_view.py"):
        for node in ast.walk(trees[name]):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self._ui", "ui"):
                used.add(node.attr)
    used |= {
        node.value
        for node in ast.walk(trees["chooser.py"])
        if isinstance(node, ast.Constant) and str(node.value).startswith("control")
        and str(node.value)[7:8].isupper()
    }  # fmt: skip

    assert len(used) > 25
    assert used <= widgets(form).keys()


def test_every_widget_of_the_form_is_used_or_is_decoration(
    trees: dict[str, ast.Module], form: ElementTree.Element, scripts: list[Path]
):
    text = "".join(path.read_text() for path in scripts)
    bound = {p.find("string").text for p in parameters(form)}
    decoration = {"SparseSeg", "choices", "notice", "logButton", "settingsButton"}
    labels = {name for name in widgets(form) if name.endswith("Label")} - {"settingLabel"}

    for name in widgets(form).keys() - decoration - labels - bound:
        assert re.search(rf"\b{name}\b", text), name


def parameters(form: ElementTree.Element) -> list[ElementTree.Element]:
    found = (node for node in form.iter("property") if node.get("name") == "SlicerParameterName")
    return list(found)


def test_every_bound_widget_names_a_parameter(
    trees: dict[str, ast.Module], form: ElementTree.Element
):
    (kind,) = (n for n in trees["parameters.py"].body if isinstance(n, ast.ClassDef))
    fields = {n.target.id for n in kind.body if isinstance(n, ast.AnnAssign)}
    bound = {node.find("string").text for node in parameters(form)}

    assert bound and bound <= fields
    assert all(node.get("stdset") == "0" for node in parameters(form))


def test_annotations_of_parameters_are_no_strings(trees: dict[str, ast.Module]):
    assert "__future__" not in imported(iter(trees["parameters.py"].body))


def test_form_holds_widgets_that_slicer_has(form: ElementTree.Element):
    assert set(widgets(form).values()) <= WIDGETS
    custom = {node.find("class").text for node in form.iter("customwidget")}
    assert custom == {kind for kind in widgets(form).values() if not kind.startswith("Q")}


def test_form_names_each_widget_once(form: ElementTree.Element):
    names = [node.get("name") for node in form.iter("widget")]

    assert len(names) == len(set(names))


def test_every_node_selector_follows_the_scene(form: ElementTree.Element):
    selectors = {name for name, kind in widgets(form).items() if kind == "qMRMLNodeComboBox"}
    connected = {
        node.find("receiver").text
        for node in form.iter("connection")
        if node.find("signal").text == "mrmlSceneChanged(vtkMRMLScene*)"
        and node.find("slot").text == "setMRMLScene(vtkMRMLScene*)"
        and node.find("sender").text == "SparseSeg"
    }

    assert selectors and selectors == connected


def test_no_file_is_longer_than_can_be_read_at_once(scripts: list[Path]):
    for path in scripts:
        assert len(path.read_text().splitlines()) < 400, path.name
