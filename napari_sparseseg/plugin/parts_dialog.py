"""The dialog that asks which scans of a file or folder to open."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from napari_sparseseg.plugin.opening import Candidate

LONG = 10
"""Scans from which on a line narrows the list down."""

_SIZE = (640, 360)
_SPACING = 3
_SEVERAL = "Ctrl or Shift chooses several."
_SPOILT = "Grey ones cannot be read: rest the pointer on one to see why."


def choose_parts(window: QWidget, name: str, offered: Sequence[Candidate]) -> list[Candidate]:
    """Let the user choose some of several scans.

    Parameters
    ----------
    window : QWidget
        In front of which to ask.
    name : str
        Name of the file or folder.
    offered : sequence of Candidate
        The scans.

    Returns
    -------
    list of Candidate
        The chosen ones in their order, empty if the user cancelled.
    """
    dialog = PartsDialog(window, name, offered)
    try:
        return dialog.chosen() if dialog.exec() == QDialog.DialogCode.Accepted else []
    finally:
        dialog.deleteLater()


class PartsDialog(QDialog):
    """A list of scans; those that cannot be read are grey, and say why under the pointer.

    Parameters
    ----------
    window : QWidget
        In front of which it opens.
    name : str
        Name of the file or folder.
    offered : sequence of Candidate
        The scans.
    """

    def __init__(self, window: QWidget, name: str, offered: Sequence[Candidate]) -> None:
        super().__init__(window)
        self._offered = list(offered)
        self.setWindowTitle("Open scans")
        self.heading = QLabel(f"{name} holds {len(offered)} scans. Which ones should be opened?")
        self.filter = QLineEdit()
        self.list = QListWidget()
        self.buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Open | QDialogButtonBox.StandardButton.Cancel
        )
        self._fill()
        self._lay_out()
        self.filter.textChanged.connect(self._narrow)
        self.list.itemSelectionChanged.connect(self._offer_open)
        self.list.itemDoubleClicked.connect(lambda _: self.accept())
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        self._offer_open()

    def chosen(self) -> list[Candidate]:
        """Return the scans that are chosen, in their order."""
        return [one for one, item in self._rows() if item.isSelected()]

    def _fill(self) -> None:
        self.heading.setWordWrap(True)
        self.filter.setPlaceholderText("Words to look for, such as CT, axial or frame 3")
        self.filter.setClearButtonEnabled(True)
        self.filter.setVisible(len(self._offered) > LONG)
        self.list.setSelectionMode(QListWidget.SelectionMode.ExtendedSelection)
        self.list.setWordWrap(True)
        self.list.setSpacing(_SPACING)
        for one in self._offered:
            item = QListWidgetItem(_line(one))
            if one.part.problem:
                item.setFlags(Qt.ItemFlag.NoItemFlags)
                item.setToolTip(f"<qt>{escape(one.part.problem)}</qt>")  # such text is wrapped
            self.list.addItem(item)
        first = next(item for one, item in self._rows() if not one.part.problem)
        first.setSelected(True)
        self.list.setCurrentItem(first)

    def _lay_out(self) -> None:
        spoilt = any(one.part.problem for one in self._offered)
        hint = QLabel(f"{_SEVERAL} {_SPOILT}" if spoilt else _SEVERAL)
        hint.setWordWrap(True)
        layout = QVBoxLayout(self)
        for widget in (self.heading, self.filter, self.list, hint, self.buttons):
            layout.addWidget(widget)
        self.resize(*_SIZE)

    def _rows(self) -> list[tuple[Candidate, QListWidgetItem]]:
        items = (self.list.item(row) for row in range(self.list.count()))
        return [(one, item) for one, item in zip(self._offered, items, strict=True) if item]

    def _narrow(self, text: str) -> None:
        """Show what holds all of these words; what is hidden is not chosen."""
        words = text.lower().split()
        for _, item in self._rows():
            item.setHidden(not all(word in item.text().lower() for word in words))
            if item.isHidden():
                item.setSelected(False)

    def _offer_open(self) -> None:
        button = self.buttons.button(QDialogButtonBox.StandardButton.Open)
        if button is not None:
            button.setEnabled(bool(self.chosen()))


def _line(one: Candidate) -> str:
    key, title = one.part.key, one.part.title
    return title if not key or title.startswith("frame") else f"{key}: {title}"
