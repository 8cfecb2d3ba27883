"""Two rows of buttons: which method, and its own rule or a control in its place."""

from __future__ import annotations

from collections.abc import Iterable

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QButtonGroup, QFormLayout, QLabel, QPushButton, QSizePolicy, QWidget
from superqt import QFlowLayout

from napari_sparseseg.methods import METHODS, Method, controls

OWN_RULE = ""
"""The choice of no control."""

_ABOUT_CONTROLS = "Is this pruning informed? Compare with a control"
_ABOUT_OWN_RULE = "The method decides as it was trained to"
# Pills, amber when in force: what is shown then is not what the method would do.
_PILL = """
QPushButton { border-radius: 9px; border: 1px solid #7a808c; background: transparent;
              padding: 1px 7px; }
QPushButton:checked { background: %s; color: %s; border-color: %s; }
"""
_OWN_PILL = _PILL % ("#5a626c", "#ffffff", "#9aa2ae")
_CONTROL_PILL = _PILL % ("#f0a830", "#201400", "#f0a830")
_BUTTON = "QPushButton { padding: 3px 7px; }"


class ButtonRow(QWidget):
    """Buttons of which one is pressed; they wrap where the row is narrow.

    Attributes
    ----------
    clicked : Signal()
        The user chose another one.
    buttons : dict of QPushButton
        By key.
    """

    clicked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.buttons: dict[str, QPushButton] = {}
        self._group = QButtonGroup(self)
        self._before = ""
        self._flow = QFlowLayout(self)
        self._flow.setContentsMargins(0, 0, 0, 0)
        self._flow.setHorizontalSpacing(4)
        self._flow.setVerticalSpacing(3)
        policy = QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self._group.buttonClicked.connect(lambda _: self._on_click())

    def offer(self, items: Iterable[tuple[str, str, str, str]]) -> None:
        """Show these buttons in place of those before: key, title, tooltip, style sheet."""
        for old in self.buttons.values():
            self._group.removeButton(old)
            old.setParent(None)
            old.deleteLater()
        while self._flow.takeAt(0) is not None:
            pass
        self.buttons = {}
        for key, title, tip, style in items:
            button = QPushButton(title)
            button.setCheckable(True)
            button.setToolTip(tip)
            button.setStyleSheet(style)
            self._group.addButton(button)
            self._flow.addWidget(button)
            self.buttons[key] = button
        self.updateGeometry()

    def choose(self, key: str) -> None:
        """Press a button; ``clicked`` is not emitted."""
        if key in self.buttons:
            self.buttons[key].setChecked(True)
        self._before = self.current()

    def current(self) -> str:
        """Return the key of the pressed button, "" if there is none."""
        return next((key for key, button in self.buttons.items() if button.isChecked()), "")

    def _on_click(self) -> None:
        if self.current() != self._before:
            self._before = self.current()
            self.clicked.emit()


class MethodChooser:
    """The two rows, for a form.

    Attributes
    ----------
    methods, controls : ButtonRow
        The rows.
    """

    def __init__(self) -> None:
        self.methods, self.controls = ButtonRow(), ButtonRow()
        self.controls.offer(
            [
                (OWN_RULE, "own rule", _ABOUT_OWN_RULE, _OWN_PILL),
                *(
                    (name, METHODS[name].title.lower(), METHODS[name].about, _CONTROL_PILL)
                    for name in controls()
                ),
            ]
        )
        self.controls.choose(OWN_RULE)
        self.methods.clicked.connect(self._limit_controls)

    def add_to(self, form: QFormLayout) -> None:
        """Add both rows to a form."""
        form.addRow("Method", self.methods)
        heading = QLabel("Control")
        heading.setToolTip(_ABOUT_CONTROLS)
        form.addRow(heading, self.controls)

    def offer(self, methods: Iterable[str]) -> None:
        """Offer these methods."""
        self.methods.offer(
            (name, METHODS[name].title, _tooltip(METHODS[name]), _BUTTON) for name in methods
        )

    def choose(self, method: str, control: str) -> None:
        """Press a button in each row."""
        self.methods.choose(method)
        self.controls.choose(control)
        self._limit_controls()

    def _limit_controls(self) -> None:
        """Switch off the controls that would change nothing about the chosen method."""
        method = METHODS[self.methods.current()]
        for name in controls():
            idle = METHODS[name].mimics and method.control is None
            about = f"{method.title} leaves out no token: this control would change nothing"
            self.controls.buttons[name].setEnabled(not idle)
            self.controls.buttons[name].setToolTip(about if idle else METHODS[name].about)
            if idle and self.controls.current() == name:
                self.controls.choose(OWN_RULE)


def _tooltip(method: Method) -> str:
    return f"{method.about}\n{method.source}".strip()
