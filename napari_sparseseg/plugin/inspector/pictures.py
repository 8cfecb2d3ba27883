"""Small pictures of a token: the blocks it ran, its classes, its patch, and those around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QRectF, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPixmap
from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_sparseseg import colors
from napari_sparseseg.plugin.inspector.neighbours import OUTSIDE
from napari_sparseseg.plugin.inspector.patch import Slice
from napari_sparseseg.plugin.inspector.token_facts import ClassShare

SIDE = 64  # pixels of a picture
_BOX = 15
_BAR = 50
_NAME = 150  # pixels: longer names are cut, and told by their tooltip
_MOST_CLASSES = 6
_RAN, _DID_NOT_RUN = "background: #35b5ff; color: black;", "background: transparent;"
_EDGE = "border: 1px solid #808080;"


class BlockStrip(QWidget):
    """A box for each encoder block, filled where the token ran it."""

    def __init__(self) -> None:
        super().__init__()
        self.boxes: list[QLabel] = []
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(1)
        self._row.addStretch(1)

    def show_blocks(self, ran: Sequence[bool]) -> None:
        """Show which blocks were run."""
        while len(self.boxes) < len(ran):
            box = QLabel(str(len(self.boxes) + 1))
            box.setAlignment(Qt.AlignmentFlag.AlignCenter)
            box.setFixedHeight(_BOX)
            box.setMinimumWidth(_BOX)
            self._row.insertWidget(len(self.boxes), box)
            self.boxes.append(box)
        for number, box in enumerate(self.boxes):
            box.setVisible(number < len(ran))
        for number, (box, run) in enumerate(zip(self.boxes, ran, strict=False), start=1):
            box.setStyleSheet(f"{_RAN if run else _DID_NOT_RUN} {_EDGE} font-size: 10px;")
            box.setToolTip(f"Block {number}: {'run' if run else 'not run'}")


class MixBars(QWidget):
    """A bar for each class that was predicted in a patch.

    Attributes
    ----------
    rows : list of (str, str)
        What is shown: name and percent.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[str, str]] = []
        self._cells: list[tuple[QLabel, QLabel, QLabel]] = []
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setVerticalSpacing(1)
        self._grid.setColumnStretch(0, 1)

    def show_mix(self, mix: Sequence[ClassShare]) -> None:
        """Show the shares of the classes, the smallest of many together."""
        shown = list(mix)
        if len(shown) > _MOST_CLASSES:
            rest = shown[_MOST_CLASSES - 1 :]
            name = f"{len(rest)} others"
            others = ClassShare(name, "#808080", sum(part.share for part in rest))
            shown = [*shown[: _MOST_CLASSES - 1], others]
        self.rows = [(part.name, _percent(part.share)) for part in shown]
        while len(self._cells) < len(shown):
            self._add_cells()
        for number, cells in enumerate(self._cells):
            for cell in cells:
                cell.setVisible(number < len(shown))
        for cells, part, row in zip(self._cells, shown, self.rows, strict=False):
            name_label, bar, figure = cells
            cut = name_label.fontMetrics().elidedText(row[0], Qt.TextElideMode.ElideRight, _NAME)
            name_label.setText(cut)
            name_label.setToolTip(row[0])
            bar.setPixmap(_bar(part))
            figure.setText(row[1])

    def _add_cells(self) -> None:
        name, bar, figure = QLabel(), QLabel(), QLabel()
        figure.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        for column, cell in enumerate((name, bar, figure)):
            self._grid.addWidget(cell, len(self._cells), column)
        self._cells.append((name, bar, figure))


class Pictures(QWidget):
    """The middle slices of a patch, and the tokens around it, side by side."""

    def __init__(self) -> None:
        super().__init__()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        self.slices = tuple(_Captioned(row) for _ in range(3))
        self.around = _Captioned(row)
        self.around.setToolTip(
            "The tokens beside it in the slice that is shown, in the colours of what became of "
            "them; past the end of the token grid there is no colour."
        )

    def show_slices(self, slices: Sequence[Slice]) -> None:
        """Show the slices of a patch; nothing where there are none."""
        for number, picture in enumerate(self.slices):
            if number < len(slices):
                cut = slices[number]
                picture.show_picture(_grey(cut), cut.plane)
                picture.setToolTip(f"Grey values of the patch, {cut.plane} slice in its middle")
            else:
                picture.show_picture(QPixmap(), "")

    def show_plane(self, plane: NDArray[np.int16], shades: Mapping[int, str]) -> None:
        """Show what became of the tokens in the slice; `shades` gives "#rrggbb" by fate."""
        self.around.show_picture(_plane(plane, shades), "neighbours")


class _Captioned(QWidget):
    """A picture with a word below it, in a row."""

    def __init__(self, row: QHBoxLayout) -> None:
        super().__init__()
        self.picture, self.caption = QLabel(), QLabel()
        self.picture.setFixedSize(SIDE, SIDE)
        self.picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.caption.setAlignment(Qt.AlignmentFlag.AlignCenter)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(1)
        column.addWidget(self.picture, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addWidget(self.caption)
        column.addStretch(1)
        row.addWidget(self)

    def show_picture(self, picture: QPixmap, caption: str) -> None:
        self.picture.setPixmap(picture)
        self.caption.setText(caption)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.005 else "< 1 %"


def _bar(part: ClassShare) -> QPixmap:
    pixmap = QPixmap(_BAR, 9)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.fillRect(QRectF(0, 0, max(2.0, _BAR * part.share), 9), QColor(part.color))
    painter.setPen(QColor("#808080"))  # white and black classes can be seen on any ground
    painter.drawRect(0, 0, max(2, round(_BAR * part.share)) - 1, 8)
    painter.end()
    return pixmap


def _grey(cut: Slice) -> QPixmap:
    """Draw a slice in the shape that it has in the patient, as large as it fits."""
    data = np.ascontiguousarray(cut.grey)
    rows, columns = data.shape
    image = QImage(data.tobytes(), columns, rows, columns, QImage.Format.Format_Grayscale8)
    height, width = rows * cut.pixel[0], columns * cut.pixel[1]
    zoom = SIDE / max(height, width)
    return QPixmap.fromImage(image.copy()).scaled(
        max(1, round(width * zoom)), max(1, round(height * zoom))
    )


def _plane(plane: NDArray[np.int16], shades: Mapping[int, str]) -> QPixmap:
    pixmap = QPixmap(SIDE, SIDE)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    edge = SIDE / 3
    painter.setPen(QColor("#808080"))
    for (row, column), fate in np.ndenumerate(plane):
        if fate != OUTSIDE:
            painter.setBrush(QColor(shades[int(fate)]))
            painter.drawRect(QRectF(column * edge, row * edge, edge - 1, edge - 1))
    pen = painter.pen()
    pen.setColor(QColor(colors.CHOSEN[:7]))
    pen.setWidth(3)
    painter.setPen(pen)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.drawRect(QRectF(edge + 1, edge + 1, edge - 3, edge - 3))
    painter.end()
    return pixmap
