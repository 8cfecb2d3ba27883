"""PySide6 that answers as PythonQt does: Qt properties are attributes, signals have ``connect``.

In PythonQt ``button.text`` is the text itself and ``button.text()`` an error; ``setText`` is a
method in both. ``connect("clicked(bool)", slot)`` is a method of every object.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from PySide6 import QtCore, QtWidgets
from PySide6.QtUiTools import QUiLoader

_ALIASES = {"name": "objectName"}
# Properties that Qt reads through a virtual method; PySide6 looks for an override by the name.
_VIRTUAL = ("sizeHint", "minimumSizeHint")


class PythonQtObject:
    """What PythonQt adds to a QObject; to be mixed into a class of PySide6."""

    def __getattribute__(self, name: str) -> Any:
        if name == "connect":  # PySide6 would take its own, which is another
            return PythonQtObject.connect.__get__(self)
        if name.startswith("__") or name in _VIRTUAL:
            return super().__getattribute__(name)
        known = super().__getattribute__("metaObject")()
        qt_name = _ALIASES.get(name, name)
        if known.indexOfProperty(qt_name) >= 0:
            return super().__getattribute__("property")(qt_name)
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        qt_name = _ALIASES.get(name, name)
        if super().__getattribute__("metaObject")().indexOfProperty(qt_name) >= 0:
            super().__getattribute__("setProperty")(qt_name, value)
        else:
            super().__setattr__(name, value)

    def connect(self, signal: str, slot: Callable[..., Any]) -> bool:
        """Connect a signal by its signature."""
        name, _, arguments = signal.partition("(")
        count = len([argument for argument in arguments.rstrip(")").split(",") if argument])
        if count not in _signals(super().__getattribute__("metaObject")(), name):
            raise AttributeError(f"{type(self).__name__} has no signal {signal}")
        super().__getattribute__(name).connect(slot)
        return True


def _signals(known: QtCore.QMetaObject, name: str) -> list[int]:
    """Return the number of arguments of each signal of a name."""
    methods = (known.method(index) for index in range(known.methodCount()))
    return [
        method.parameterCount()
        for method in methods
        if method.methodType() == QtCore.QMetaMethod.MethodType.Signal
        and bytes(method.name()).decode() == name
    ]


def python_qt(kind: type) -> type:
    """Return a class of PySide6 as PythonQt shows it."""
    return type(kind.__name__, (PythonQtObject, kind), {})


WIDGETS = {
    name: python_qt(getattr(QtWidgets, name))
    for name in (
        "QCheckBox", "QComboBox", "QFrame", "QLabel", "QLineEdit", "QPlainTextEdit", "QProgressBar",
        "QPushButton", "QToolButton", "QWidget",
    )
}  # fmt: skip


class UiLoader(QUiLoader):
    """Loads a .ui file with the widgets of the stand-ins; one that is not known is an error."""

    alive: ClassVar[list[Any]] = []
    """Widgets that were made: PySide6 forgets what they are when no name holds them."""

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> Any:
        from . import widgets

        known = {**WIDGETS, **widgets.CTK, **widgets.QMRML}
        widget = known[class_name](parent)
        widget.setObjectName(name)
        self.alive.append(widget)
        return widget


class File(QtCore.QFile):
    """QFile with the flags where PythonQt has them."""

    ReadOnly = QtCore.QIODevice.OpenModeFlag.ReadOnly


def names() -> dict[str, Any]:
    """Return what the module ``qt`` holds."""
    return {
        **WIDGETS,
        "QFile": File,
        "QTimer": python_qt(QtCore.QTimer),
        "QUiLoader": UiLoader,
        "QVBoxLayout": QtWidgets.QVBoxLayout,
    }
