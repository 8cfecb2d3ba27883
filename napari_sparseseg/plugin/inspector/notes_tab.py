"""The tab "Safety" of the inspector: places where leaving tokens out may have cost something."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from napari_sparseseg.analysis.notes import SafetyNote
from napari_sparseseg.analysis.terms import CONFIDENCE
from napari_sparseseg.plugin import preferences
from napari_sparseseg.plugin.aside import Aside
from napari_sparseseg.plugin.inspector.tab import Tab
from napari_sparseseg.plugin.inspector.tables import Cell, Table, number, volume
from napari_sparseseg.report import NOTICE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sparseseg.analysis.inspection import Inspection
    from napari_sparseseg.plugin.inspector.panel import Inspector
    from napari_sparseseg.plugin.shown import Shown

_COLUMNS = (
    ("#", "Order: by the share of a structure that changes; doubts alone come last"),
    ("Structure", "The one of whose volume most changes here"),
    ("What", "Click to go there"),
    ("ml", "Volume that differs from the dense twin"),
    ("Share", "Share of the structure's volume that changes here"),
    ("Confidence", CONFIDENCE.tip),
)
_WHAT = 2
REST_MS = 250
"""How long the confidence has to rest before the places are noted anew."""

_NOTHING = "Segment a scan first."
_READY = (
    "Places where tokens that were left out changed a structure are found by a comparison with "
    "the dense twin, the same network with nothing pruned."
)
_NONE = (
    "No place to list: every token with a structure ran every block, or agrees with the dense "
    "twin and is sure. The dense twin itself may be wrong."
)


class NotesTab(Tab):
    """Lists the safety notes of a comparison, worst first.

    Attributes
    ----------
    notes : tuple of SafetyNote
        What is listed.
    summary : QLabel
        How many, and what they are.
    table : Table
        The list.
    low : QDoubleSpinBox
        Confidence below which a place is noted.
    button : QPushButton
        Compares with the dense twin.

    Parameters
    ----------
    inspector : Inspector
        What it belongs to.
    """

    title = "Safety"
    about = "Places where leaving tokens out may have cost a structure something, worst first"

    def __init__(self, inspector: Inspector) -> None:
        super().__init__(inspector)
        self.notes: tuple[SafetyNote, ...] = ()
        self.summary = QLabel()
        self.table = Table()
        self.low = QDoubleSpinBox()
        self.button = QPushButton("Check against the dense twin")
        self._hint = QLabel(_NOTHING)
        self._pages = QStackedWidget()
        self._inspection: Inspection | None = None
        self._aside = Aside()
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(REST_MS)
        self._lay_out()
        self.low.valueChanged.connect(self._on_low)
        self._rest.timeout.connect(self._note_anew)
        inspector.closing.connect(self._release)
        self.button.clicked.connect(lambda _: inspector.compare.compare_with_dense())
        self.table.clicked_row.connect(self._go_to)
        self.table.opened_row.connect(self._go_to)

    def _lay_out(self) -> None:
        self.low.setRange(0, 1)
        self.low.setSingleStep(0.05)
        self.low.setValue(preferences.load().low_confidence)
        self.low.setKeyboardTracking(False)
        self.low.setToolTip(
            "Places of tokens that were left out are also listed where the confidence is below this"
        )
        self.summary.setWordWrap(True)
        self.table.set_columns(_COLUMNS, stretched=_WHAT)
        notice = QLabel(NOTICE)
        notice.setStyleSheet("font-style: italic;")
        row = QHBoxLayout()
        row.addWidget(self.summary, 1)
        row.addWidget(QLabel("Note a confidence below"))
        row.addWidget(self.low)
        row.addWidget(notice)
        self._pages.addWidget(self._empty())
        self._pages.addWidget(self.table)
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 4, 4, 0)
        column.setSpacing(4)
        column.addLayout(row)
        column.addWidget(self._pages, 1)

    def _empty(self) -> QWidget:
        page = QWidget()
        self._hint.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._hint.setWordWrap(True)
        column = QVBoxLayout(page)
        column.addStretch(1)
        column.addWidget(self._hint)
        column.addWidget(self.button, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addStretch(1)
        return page

    def show_result(self, shown: Shown | None) -> None:
        """Offer to check a result."""
        if self._inspection is None:
            self._hint.setText(_NOTHING if shown is None else _READY)
            self.button.setVisible(shown is not None)

    def show_inspection(self, inspection: Inspection | None) -> None:
        """List what a comparison noted; ask for one where there is none."""
        self._inspection = inspection
        self._aside.drop()
        if inspection is None:
            self._show((), self.low.value())
            self.summary.clear()
            self.show_result(self.inspector.shown)
            return
        self._show(inspection.notes, inspection.low)
        self._note_anew()

    def _on_low(self, low: float) -> None:
        preferences.keep(low_confidence=low)
        self._rest.start()

    def _note_anew(self) -> None:
        """Look beside the window for the places below the chosen confidence, if need be."""
        inspection, shown, low = self._inspection, self.inspector.shown, self.low.value()
        if inspection is None or shown is None or inspection.low == low:
            return
        dense = shown.dense_twin()
        self._aside.ask(lambda: inspection.noted(dense, low), self.inspector.take_notes)

    def _release(self) -> None:
        self._rest.stop()
        self._aside.close()

    def _show(self, notes: Sequence[SafetyNote], low: float) -> None:
        self.notes = tuple(notes)
        self._pages.setCurrentIndex(1 if notes else 0)
        if not notes:
            self._hint.setText(_NONE)
            self.button.hide()
        self.summary.setText(_summary(notes, low))
        result = self._inspection.result if self._inspection is not None else None
        colors = dict(zip(result.classes, result.colors, strict=True)) if result else {}
        self.table.set_rows(
            (
                place,
                (
                    number(place + 1, "d"),
                    Cell(note.structure, color=colors[note.structure]),
                    Cell(_what(note), tip=note.text),
                    volume(note.millilitres),
                    number(note.share, ".1%"),
                    number(note.confidence, ".2f"),
                ),
            )
            for place, note in enumerate(notes)
        )

    def _go_to(self, place: int) -> None:
        note = self.notes[place]
        self.inspector.choose_token(note.token)
        self.inspector.go_to(np.array(note.place))


def _what(note: SafetyNote) -> str:
    """Say what was found, short enough for a small window: the other columns hold the rest."""
    count = len(note.tokens)
    where = f"a token {note.fate}" if count == 1 else f"{count} tokens, the worst {note.fate}"
    if not note.voxels:
        return f"unsure in {where}"
    differ = "1 voxel differs" if note.voxels == 1 else f"{note.voxels:,} voxels differ"
    return f"{differ} in {where}"


def _summary(notes: Sequence[SafetyNote], low: float) -> str:
    """Say in plain words what is listed."""
    if not notes:
        return "0 places listed."
    differ = sum(note.voxels > 0 for note in notes)
    unsure = len(notes) - differ
    parts = []
    if differ:
        parts.append(f"{differ} where tokens that were left out differ from the dense twin")
    if unsure:
        parts.append(
            f"{unsure} where such tokens agree with it but the confidence is below {low:.2f}"
        )
    count = "1 place" if len(notes) == 1 else f"{len(notes)} places"
    return f"{count} listed, worst first: {'; '.join(parts)}."
