"""The application, its scene and the logics of its modules."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import slicer
from PySide6.QtCore import QProcessEnvironment
from PySide6.QtWidgets import QApplication


class Application:
    """``slicer.app``.

    Attributes
    ----------
    testing : bool
        What ``testingEnabled`` says.
    paused : int
        How often rendering is paused just now.
    """

    applicationName = "Slicer"
    applicationVersion = "5.12.4"

    def __init__(self) -> None:
        self.testing, self.paused = True, 0
        self.connections: list[tuple[str, Callable[..., Any]]] = []

    def testingEnabled(self) -> bool:
        return self.testing

    def processEvents(self) -> None:
        QApplication.processEvents()

    def pauseRender(self) -> None:
        self.paused += 1

    def resumeRender(self) -> None:
        self.paused -= 1

    def startupEnvironment(self) -> QProcessEnvironment:
        return QProcessEnvironment.systemEnvironment()

    def connect(self, signal: str, slot: Callable[..., Any]) -> None:
        self.connections.append((signal, slot))


def new_scene() -> Any:
    """Return a scene with what the application registers in it, and one slice view."""
    scene = slicer.vtkMRMLScene()
    composite = slicer.vtkMRMLSliceCompositeNode()
    composite.SetSingletonTag("Red")
    composite.SetName("Red")
    scene.AddNode(composite)
    return scene


def modules(scene: Any) -> SimpleNamespace:
    """Return ``slicer.modules`` with real logics that know each other."""
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    found = {}
    for name, kind in (
        ("Colors", slicer.vtkSlicerColorLogic),
        ("Volumes", slicer.vtkSlicerVolumesLogic),
        ("Segmentations", slicer.vtkSlicerSegmentationsModuleLogic),
    ):
        logic = kind()
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(scene)
        application.SetModuleLogic(name, logic)
        found[name.lower()] = SimpleNamespace(logic=lambda logic=logic: logic)
    return SimpleNamespace(application=application, **found)
