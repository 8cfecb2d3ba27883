"""Tables that sort by what their cells mean, with squares of colour and bars in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qtpy.QtCore import QBuffer, QByteArray, QModelIndex, QRectF, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import (
    QHeaderView,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableWidget,
    QTableWidgetItem,
)

from napari_sparseseg.words import rounded

UNKNOWN = "–"
_SQUARE = 12  # pixels
_VALUE, _BARS = Qt.ItemDataRole.UserRole, Qt.ItemDataRole.UserRole + 1
_KEY = Qt.ItemDataRole.UserRole + 2


@dataclass(frozen=True)
class Cell:
    """What stands in a cell.

    Attributes
    ----------
    text : str
        What is read.
    value : float or None
        What it is sorted by, with unknown values last; None for words, which sort by the text.
    color : str
        "#rrggbb" of a square before the text, "" for none.
    tip : str
        Tooltip.
    bars : tuple of float
        Lengths in [0, 1] of bars below each other, in place of the text.
    """

    text: str
    value: float | None = None
    color: str = ""
    tip: str = ""
    bars: tuple[float, ...] = ()


def number(value: float | None, form: str, tip: str = "") -> Cell:
    """Make a cell of a number, a dash where it is not known; ``form`` as for ``format``."""
    known = value is not None and value == value
    return Cell(format(value, form) if known else UNKNOWN, value if known else -1e300, tip=tip)


def volume(millilitres: float, signed: bool = False) -> Cell:
    """Make a cell of a volume in ml, in which a very small one is not 0."""
    return Cell(rounded(millilitres, 2, signed), millilitres)


class Table(QTableWidget):
    """A table to read: rows are sorted by a click on a header and chosen by a click or a key.

    Attributes
    ----------
    clicked_row, opened_row : Signal(object)
        Key of a row that the user clicked on, or double-clicked or pressed Enter on.
    """

    clicked_row = Signal(object)
    opened_row = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
        self.setSelectionMode(QTableWidget.SelectionMode.SingleSelection)
        self.setVerticalScrollMode(QTableWidget.ScrollMode.ScrollPerPixel)
        self.setShowGrid(False)
        self.setWordWrap(False)
        rows, columns = self.verticalHeader(), self.horizontalHeader()
        assert rows is not None
        assert columns is not None
        rows.hide()
        rows.setDefaultSectionSize(self.fontMetrics().height() + 6)
        columns.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        columns.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        columns.setHighlightSections(False)
        self._header = columns
        self.cellClicked.connect(lambda row, _: self.clicked_row.emit(self.key(row)))
        self.cellActivated.connect(lambda row, _: self.opened_row.emit(self.key(row)))

    def set_columns(self, columns: Sequence[tuple[str, str]], stretched: int) -> None:
        """Set the headers, as (title, tooltip), and which column takes the room that is left."""
        self.setColumnCount(len(columns))
        for place, (title, tip) in enumerate(columns):
            header = QTableWidgetItem(title)
            header.setToolTip(tip)
            self.setHorizontalHeaderItem(place, header)
            mode = QHeaderView.ResizeMode
            self._header.setSectionResizeMode(
                place, mode.Stretch if place == stretched else mode.ResizeToContents
            )

    def set_rows(self, rows: Iterable[tuple[object, Sequence[Cell]]]) -> None:
        """Show these rows, as (key, cells); the order that the user chose stays."""
        self.setSortingEnabled(False)
        rows = list(rows)
        self.setRowCount(len(rows))
        for row, (key, cells) in enumerate(rows):
            for column, cell in enumerate(cells):
                item = _Item(cell)
                item.setData(_KEY, key)
                self.setItem(row, column, item)
        self.clearSelection()
        self.setSortingEnabled(True)

    def key(self, row: int) -> object:
        """Return the key of a row."""
        item = self.item(row, 0)
        return None if item is None else item.data(_KEY)

    def texts(self) -> list[list[str]]:
        """Return what is read, row by row in the present order."""
        return [
            [item.text() if (item := self.item(r, c)) else "" for c in range(self.columnCount())]
            for r in range(self.rowCount())
        ]


class Bars(QStyledItemDelegate):
    """Draws the bars of a cell: all but the last faint."""

    def paint(
        self, painter: QPainter | None, option: QStyleOptionViewItem, index: QModelIndex
    ) -> None:
        """Draw the cell's own background, then its bars in the colour of its text."""
        super().paint(painter, option, index)
        bars = index.data(_BARS)
        if painter is None or not bars:
            return
        room = QRectF(option.rect).adjusted(4, 4, -4, -4)
        height = room.height() / len(bars)
        table = self.parent()
        assert isinstance(table, QTableWidget)
        color = table.palette().color(table.foregroundRole())
        for place, length in enumerate(bars):
            color.setAlphaF(0.9 if place == len(bars) - 1 else 0.45)
            painter.fillRect(
                QRectF(room.x(), room.y() + place * height, room.width() * length, height - 1),
                color,
            )


class _Item(QTableWidgetItem):
    def __init__(self, cell: Cell) -> None:
        super().__init__(cell.text)
        self.setData(_VALUE, cell.value)
        self.setData(_BARS, cell.bars)
        if cell.color:
            self.setIcon(QIcon(square(cell.color)))
        self.setToolTip(cell.tip or cell.text)
        if cell.value is not None:
            align = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            self.setTextAlignment(align)

    def __lt__(self, other: QTableWidgetItem) -> bool:
        mine, theirs = self.data(_VALUE), other.data(_VALUE)
        if mine is None or theirs is None:
            return self.text().lower() < other.text().lower()
        return bool(mine < theirs)


def square_in_text(color: str) -> str:
    """Return such a square as HTML, to stand before a word."""
    data = QByteArray()
    buffer = QBuffer(data)
    buffer.open(QBuffer.OpenModeFlag.WriteOnly)
    square(color).save(buffer, "PNG")
    return f'<img src="data:image/png;base64,{bytes(data.toBase64().data()).decode()}">'


def square(color: str) -> QPixmap:
    """Draw a square of a colour "#rrggbb" with a rim, to stand before a name."""
    pixmap = QPixmap(_SQUARE, _SQUARE)
    pixmap.fill(QColor("#808080"))
    painter = QPainter(pixmap)
    painter.fillRect(1, 1, _SQUARE - 2, _SQUARE - 2, QColor(color))
    painter.end()
    return pixmap
