"""Parameter nodes: typed attributes that live in a node of the scene, and follow widgets."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

import slicer
import vtk
from PySide6.QtWidgets import QWidget

from . import python_qt, widgets

PROPERTY = "SlicerParameterName"


@dataclass(frozen=True)
class WithinRange:
    """A number must lie between two others."""

    minimum: float
    maximum: float

    def check(self, value: float) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not between {self.minimum} and {self.maximum}")


@dataclass(frozen=True)
class _Field:
    name: str
    kind: type
    default: Any
    limits: WithinRange | None

    @property
    def is_node(self) -> bool:
        return issubclass(self.kind, slicer.vtkMRMLNode)

    def read(self, node: Any) -> Any:
        if self.is_node:
            return node.GetNodeReference(self.name)
        return json.loads(node.GetParameter(self.name))

    def write(self, node: Any, value: Any) -> None:
        if self.is_node:
            if value is not None and not isinstance(value, self.kind):
                raise ValueError(f"{self.name} is to be a {self.kind.__name__}")
            # One change, told once, also if the reference was empty before.
            node.SetNodeReferenceID(self.name, None if value is None else value.GetID())
            return
        if type(value) is not self.kind and not (self.kind is float and type(value) is int):
            raise ValueError(f"{self.name} is to be a {self.kind.__name__}, not {value!r}")
        if self.limits is not None:
            self.limits.check(value)
        node.SetParameter(self.name, json.dumps(value))


def _fields(kind: type) -> dict[str, _Field]:
    fields = {}
    for name, hint in kind.__annotations__.items():
        limits = None
        if get_origin(hint) is Annotated:
            hint, *extra = get_args(hint)
            limits = next((e for e in extra if isinstance(e, WithinRange)), None)
        assert isinstance(hint, type), f"{name}: {hint!r} is no class; is the module's import lazy?"
        fields[name] = _Field(name, hint, getattr(kind, name, None), limits)
    return fields


def parameterNodeWrapper(kind: type) -> type:
    """Make the fields of a class attributes that live in a node."""
    fields = _fields(kind)

    class Wrapper:
        def __init__(self, node: Any) -> None:
            object.__setattr__(self, "parameterNode", node)
            object.__setattr__(self, "_connections", {})
            for field in fields.values():
                if not field.is_node and not node.GetParameter(field.name):
                    field.write(node, field.default)

        def __getattr__(self, name: str) -> Any:
            if name in fields:
                return fields[name].read(self.parameterNode)
            raise AttributeError(name)

        def __setattr__(self, name: str, value: Any) -> None:
            if name not in fields:
                raise AttributeError(f"{kind.__name__} has no parameter {name}")
            fields[name].write(self.parameterNode, value)

        def AddObserver(self, event: Any, callback: Callable[..., Any]) -> int:
            return self.parameterNode.AddObserver(event, callback)

        def RemoveObserver(self, tag: int) -> None:
            self.parameterNode.RemoveObserver(tag)

        def connectGui(self, ui: Any) -> int:
            pairs = [
                (fields[widget.property(PROPERTY)], widget)
                for widget in vars(ui).values()
                if isinstance(widget, QWidget) and widget.property(PROPERTY)
            ]
            connection = _Connection(self, pairs)
            tag = len(self._connections) + 1
            self._connections[tag] = connection
            return tag

        def disconnectGui(self, tag: int) -> None:
            self._connections.pop(tag).end()

    Wrapper.__name__ = kind.__name__
    return Wrapper


class _Connection:
    """Widgets that follow parameters, and the other way round, until it ends."""

    def __init__(self, wrapper: Any, pairs: list[tuple[_Field, Any]]) -> None:
        self._wrapper, self._pairs, self._alive = wrapper, pairs, True
        for field, widget in pairs:
            signal, read, _ = _CONNECTORS[type(widget)]
            if field.limits is not None:
                widget.setMinimum(field.limits.minimum)
                widget.setMaximum(field.limits.maximum)
        self._show()
        for field, widget in pairs:
            signal, read, _ = _CONNECTORS[type(widget)]
            widget.connect(
                signal,
                lambda *_, field=field, widget=widget, read=read: self._on_widget(
                    field, read(widget)
                ),
            )
        self._tag = wrapper.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._show())

    def end(self) -> None:
        self._alive = False
        self._wrapper.RemoveObserver(self._tag)

    def _on_widget(self, field: _Field, value: Any) -> None:
        if self._alive and getattr(self._wrapper, field.name) != value:
            setattr(self._wrapper, field.name, value)

    def _show(self) -> None:
        for field, widget in self._pairs:
            _, read, write = _CONNECTORS[type(widget)]
            value = getattr(self._wrapper, field.name)
            if read(widget) != value:
                write(widget, value)


_CONNECTORS: dict[type, tuple[str, Callable[[Any], Any], Callable[[Any, Any], None]]] = {
    python_qt.WIDGETS["QCheckBox"]: (
        "toggled(bool)",
        lambda widget: widget.checked,
        lambda widget, value: widget.setChecked(value),
    ),
    widgets.ctkSliderWidget: (
        "valueChanged(double)",
        lambda widget: widget.value,
        lambda widget, value: widget.setValue(value),
    ),
    widgets.qMRMLNodeComboBox: (
        "currentNodeChanged(vtkMRMLNode*)",
        lambda widget: widget.currentNode(),
        lambda widget, node: widget.setCurrentNode(node),
    ),
}
"""By the very class of a widget, as Slicer's own: its signal, how to read and how to set it."""

NAMES = {"parameterNodeWrapper": parameterNodeWrapper, "WithinRange": WithinRange}
