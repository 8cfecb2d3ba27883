"""The base classes of a scripted module."""

from __future__ import annotations

import unittest
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import slicer
from PySide6.QtWidgets import QVBoxLayout

from . import python_qt

MODULE_FOLDER = ""


class ScriptedLoadableModule:
    """What Slicer reads of a module."""

    def __init__(self, parent: Any) -> None:
        self.parent = parent


class ScriptedLoadableModuleWidget:
    """A module's panel, with a widget of its own to fill."""

    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.parent = parent or python_qt.WIDGETS["QWidget"]()
        self.layout = QVBoxLayout()
        self.parent.setLayout(self.layout)

    def setup(self) -> None:
        pass

    def onReload(self) -> None:
        self.cleanup()

    def resourcePath(self, name: str) -> str:
        return str(Path(MODULE_FOLDER) / "Resources" / name)


class ScriptedLoadableModuleLogic:
    """A module's logic: it finds the module's parameter node, or makes it."""

    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self) -> Any:
        scene, kind = slicer.mrmlScene, "vtkMRMLScriptedModuleNode"
        node = scene.GetSingletonNode(self.moduleName, kind)
        if node is None:
            node = scene.CreateNodeByClass(kind)
            node.UnRegister(None)
            node.SetSingletonTag(self.moduleName)
            node.SetModuleName(self.moduleName)
            node.SetName(self.moduleName)
            node = scene.AddNode(node)
        node.SetAttribute("ModuleName", self.moduleName)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """A module's self test."""


NAMES = {
    kind.__name__: kind
    for kind in (
        ScriptedLoadableModule,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
        ScriptedLoadableModuleWidget,
    )
}


def parent() -> SimpleNamespace:
    """Return what Slicer hands to a module's class."""
    return SimpleNamespace(path=MODULE_FOLDER)
