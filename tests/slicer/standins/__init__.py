"""Stand-ins for what only the Slicer application has: PythonQt, CTK, qMRML widgets, module classes.

They behave as those do where the module relies on it, and fail loudly where nobody wrote down how
they behave. MRML itself is real: it comes with the ``slicer-core`` wheel.
"""

from __future__ import annotations

import ctypes
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import slicer

from . import application, parameter_nodes, python_qt, scripted, widgets


def install(module_folder: str) -> SimpleNamespace:
    """Put the stand-ins where the module looks for Slicer's own.

    Parameters
    ----------
    module_folder : str
        Folder of the module file, for its resources.

    Returns
    -------
    SimpleNamespace
        ``app``, what a test can set and read of the application.
    """
    _keep_singletons()
    scripted.MODULE_FOLDER = module_folder
    _module("qt", python_qt.names())
    _module("ctk", widgets.CTK)
    for name, widget in widgets.QMRML.items():
        setattr(slicer, name, widget)
    _module("slicer.i18n", {"tr": str, "translate": lambda _context, text: text})
    _module("slicer.ScriptedLoadableModule", scripted.NAMES)
    _module("slicer.parameterNodeWrapper", parameter_nodes.NAMES)
    slicer.app = application.Application()
    slicer.mrmlScene = application.new_scene()
    slicer.modules = application.modules(slicer.mrmlScene)
    return slicer.app


def _keep_singletons() -> None:
    """Make None, True and False immortal, as they are from Python 3.12 on.

    PySide6 6.12 counts on that, and before it takes a reference to one away with each call that
    returns it, until there is none left and Python aborts.
    """
    if sys.version_info < (3, 12):
        for singleton in (None, True, False):
            ctypes.c_ssize_t.from_address(id(singleton)).value = 2**40


def _module(name: str, contents: dict[str, Any]) -> None:
    module = ModuleType(name)
    vars(module).update(contents)
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)
