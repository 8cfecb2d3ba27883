"""Widgets of CTK and qMRML that the panel uses, drawn plainly."""

from __future__ import annotations

from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from .python_qt import PythonQtObject

_HEADER = 24


class ctkCollapsibleButton(PythonQtObject, QtWidgets.QWidget):
    """A heading that shows or hides what is below it."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._text, self._collapsed = "", False

    def _get_text(self) -> str:
        return self._text

    def setText(self, text: str) -> None:
        self._text = text
        self.update()

    def _get_collapsed(self) -> bool:
        return self._collapsed

    def setCollapsed(self, collapsed: bool) -> None:
        self._collapsed = collapsed
        self._apply()

    text = QtCore.Property(str, _get_text, setText)
    collapsed = QtCore.Property(bool, _get_collapsed, setCollapsed)

    def _apply(self) -> None:
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget):
                child.setVisible(not self._collapsed)
        if self.layout() is not None:
            self.layout().setContentsMargins(9, _HEADER + 6, 9, 0 if self._collapsed else 6)
        self.setMaximumHeight(_HEADER if self._collapsed else 16777215)

    def showEvent(self, event: QtGui.QShowEvent) -> None:
        self._apply()
        QtWidgets.QWidget.showEvent(self, event)

    def mousePressEvent(self, event: QtGui.QMouseEvent) -> None:
        if event.position().y() < _HEADER:
            self.setCollapsed(not self._collapsed)

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtGui.QPainter(self)
        palette = QtWidgets.QApplication.palette()
        painter.fillRect(0, 0, self.width, _HEADER, palette.button())
        arrow = "▸" if self._collapsed else "▾"
        painter.drawText(8, 0, self.width - 8, _HEADER, 0x80, f"{arrow}  {self._text}")
        painter.end()


class ctkSliderWidget(PythonQtObject, QtWidgets.QWidget):
    """A slider with a number beside it."""

    valueChanged = QtCore.Signal(float)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal, self)
        self._box = QtWidgets.QDoubleSpinBox(self)
        self._slider.setRange(0, 10000)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._box)
        self._slider.sliderMoved.connect(lambda at: self._box.setValue(self._value_at(at)))
        self._box.valueChanged.connect(self._on_value)

    def _value_at(self, at: int) -> float:
        low, high = self._box.minimum(), self._box.maximum()
        return low + (high - low) * at / 10000

    def _on_value(self, value: float) -> None:
        self._place()
        self.valueChanged.emit(value)

    def _place(self) -> None:
        low, high = self._box.minimum(), self._box.maximum()
        self._slider.setValue(round(10000 * (self._box.value() - low) / max(1e-9, high - low)))

    def setValue(self, value: float) -> None:
        self._box.setValue(value)

    def setMinimum(self, value: float) -> None:
        self._box.setMinimum(value)
        self._place()

    def setMaximum(self, value: float) -> None:
        self._box.setMaximum(value)
        self._place()

    def setSingleStep(self, value: float) -> None:
        self._box.setSingleStep(value)

    def setPageStep(self, value: float) -> None:
        pass

    def setDecimals(self, value: int) -> None:
        self._box.setDecimals(value)

    value = QtCore.Property(float, lambda self: self._box.value(), setValue)
    minimum = QtCore.Property(float, lambda self: self._box.minimum(), setMinimum)
    maximum = QtCore.Property(float, lambda self: self._box.maximum(), setMaximum)
    singleStep = QtCore.Property(float, lambda self: self._box.singleStep(), setSingleStep)
    pageStep = QtCore.Property(float, lambda self: 0.1, setPageStep)
    decimals = QtCore.Property(int, lambda self: self._box.decimals(), setDecimals)


class qMRMLWidget(PythonQtObject, QtWidgets.QWidget):
    """A widget that tells others which scene it shows, as its .ui file says."""

    mrmlSceneChanged = QtCore.Signal(object)

    def setMRMLScene(self, scene: Any) -> None:
        for child in self.findChildren(QtWidgets.QWidget):
            if isinstance(child, qMRMLNodeComboBox):
                child.setMRMLScene(scene)
        self.mrmlSceneChanged.emit(scene)


class qMRMLNodeComboBox(PythonQtObject, QtWidgets.QComboBox):
    """A list of the nodes of a scene."""

    currentNodeChanged = QtCore.Signal(object)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._types: list[str] = []
        self._none, self._scene, self._filling = False, None, False
        self._ids: list[str | None] = []
        QtWidgets.QComboBox.setSizeAdjustPolicy(
            self, QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        super().__getattribute__("currentIndexChanged").connect(lambda _: self._tell())

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        for event in (slicer.vtkMRMLScene.NodeAddedEvent, slicer.vtkMRMLScene.NodeRemovedEvent):
            scene.AddObserver(event, lambda *_: self._refill())
        self._refill()

    def currentNode(self) -> Any:
        at = QtWidgets.QComboBox.currentIndex(self)
        node_id = self._ids[at] if 0 <= at < len(self._ids) else None
        return None if node_id is None else self._scene.GetNodeByID(node_id)

    def setCurrentNode(self, node: Any) -> None:
        node_id = None if node is None else node.GetID()
        self.setCurrentIndex(self._ids.index(node_id) if node_id in self._ids else -1)

    def _refill(self) -> None:
        before = self.currentNode()
        self._filling = True
        self.clear()
        self._ids = [None] if self._none else []
        if self._none:
            self.addItem("None")
        for kind in self._types:
            for number in range(self._scene.GetNumberOfNodesByClass(kind)):
                node = self._scene.GetNthNodeByClass(number, kind)
                if node.GetClassName() == kind:
                    self._ids.append(node.GetID())
                    self.addItem(node.GetName())
        self._filling = False
        # As in Slicer, an empty choice takes the first node where none is not allowed.
        wanted = before if before is not None or self._none else self._first()
        self.setCurrentNode(wanted)
        if wanted is not before or before is None:
            self._tell()

    def _first(self) -> Any:
        return self._scene.GetNodeByID(self._ids[0]) if self._ids else None

    def _tell(self) -> None:
        if not self._filling:
            self.currentNodeChanged.emit(self.currentNode())

    def _set_types(self, types: list[str]) -> None:
        self._types = list(types)

    def _set_none(self, none: bool) -> None:
        self._none = none

    nodeTypes = QtCore.Property("QStringList", lambda self: self._types, _set_types)
    noneEnabled = QtCore.Property(bool, lambda self: self._none, _set_none)
    showChildNodeTypes = QtCore.Property(bool, lambda self: False, lambda self, value: None)
    addEnabled = QtCore.Property(bool, lambda self: False, lambda self, value: None)
    removeEnabled = QtCore.Property(bool, lambda self: False, lambda self, value: None)


CTK = {kind.__name__: kind for kind in (ctkCollapsibleButton, ctkSliderWidget)}
QMRML = {kind.__name__: kind for kind in (qMRMLWidget, qMRMLNodeComboBox)}
