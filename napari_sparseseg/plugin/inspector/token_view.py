"""Shows what is known of one token, side by side: facts, stages, classes, pictures."""

from __future__ import annotations

from collections.abc import Mapping

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_sparseseg import maps
from napari_sparseseg.analysis.terms import CONFIDENCE
from napari_sparseseg.colors import over_grey
from napari_sparseseg.fates import fate_names
from napari_sparseseg.methods import METHODS
from napari_sparseseg.plugin.inspector.neighbours import Neighbours
from napari_sparseseg.plugin.inspector.patch import Slice
from napari_sparseseg.plugin.inspector.pictures import BlockStrip, MixBars, Pictures
from napari_sparseseg.plugin.inspector.tables import UNKNOWN, Cell, Table, number, square_in_text
from napari_sparseseg.plugin.inspector.token_facts import (
    Decision,
    TokenFacts,
    box_words,
    place_words,
)
from napari_sparseseg.tokens import TokenTrace
from napari_sparseseg.words import times

_AIR = "#000000"
_TABLE = 300  # pixels: ranks of four digits fit, and all words
_COUNTS = 340  # pixels: two counts of neighbours fit in a line
_ABREAST = 2
_STAGE = "A place between encoder blocks where the method decides."
_RANK = (
    "rank",
    "The place of its score among all tokens that were scored there: 1 the highest. Where a scan "
    "takes several windows, each decides among its own tokens alone.",
)
_NO_SCORES = "This rule gives no scores."
_DECISION = "What became of the token at this stage."
_TIPS = {
    "Place": "The centre of the token in the patient: right or left, anterior or posterior, "
    "superior or inferior.",
    "Voxels": "The voxels of its patch, first to last along each axis of the scan's file, from 0.",
    "Fate": "What became of the token in the encoder.",
    "Blocks": "The encoder blocks that the token ran through are filled.",
    "Reactivated": "How often the token ran a block after it had skipped the one before.",
    "Confidence": CONFIDENCE.tip,
    "Attended to": "The tokens whose information it gathered in the last block; the strongest are "
    "lines in the view, the more opaque the more heads kept them.",
}
_OF_THE_METHOD = ("Fate", "Reactivated", "Attended to")
"""Facts whose tips name the paper of the method."""


class TokenView(QWidget):
    """What is known of one token.

    Attributes
    ----------
    figures : dict of QLabel
        The facts, by their names.
    table : Table
        What was decided at each stage.
    """

    def __init__(self) -> None:
        super().__init__()
        self.title = QLabel()
        self.title.setStyleSheet("font-weight: bold;")
        self.blocks = BlockStrip()
        self._names = {name: QLabel(name) for name in _TIPS}
        self.figures = {name: _selectable() for name in _TIPS if name != "Blocks"}
        self.table = _stage_table()
        self.mix = MixBars()
        self.pictures = Pictures()
        self.around = QLabel()
        self.around.setWordWrap(True)
        self.around.setMinimumWidth(_COUNTS)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(10)
        row.addLayout(self._facts())
        row.addWidget(self.table, 1)
        row.addLayout(_column("Predicted in its patch", self.mix))
        row.addLayout(
            _column("Its patch, and its neighbours by their fate", self.pictures, self.around)
        )

    def show_token(
        self,
        trace: TokenTrace,
        facts: TokenFacts,
        slices: tuple[Slice, ...],
        around: Neighbours,
    ) -> None:
        """Show a token.

        Parameters
        ----------
        trace : TokenTrace
            Trace of the result.
        facts : TokenFacts
            What is known of the token.
        slices : tuple of Slice
            Its grey values.
        around : Neighbours
            The tokens around it.
        """
        method = METHODS[trace.method]
        self.title.setText(f"Token {facts.token + 1:,} of {trace.grid.size:,}")
        self.title.setToolTip(". ".join(filter(None, (method.title, method.about, method.source))))
        self._show_figures(trace, facts)
        self.blocks.show_blocks(facts.ran)
        view = maps.view_of(trace, "importance")
        about = f"{view.title.capitalize()}. {view.about}" if view else _NO_SCORES
        stage, decision = (method.cited(tip) for tip in (_STAGE, _DECISION))
        columns = [("stage", stage), ("score", method.cited(about)), _RANK, ("decision", decision)]
        self.table.set_columns(columns, stretched=3)
        for name in _OF_THE_METHOD:
            for label in (self._names[name], self.figures[name]):
                label.setToolTip(method.cited(_TIPS[name]))
        self.table.set_rows(_row(decision) for decision in facts.decisions)
        self.mix.show_mix(facts.mix)
        self.pictures.show_slices(slices)
        shades = _shades(trace)
        self.pictures.show_plane(around.plane, shades)
        self.around.setText(_counted(around, trace, shades))

    def _show_figures(self, trace: TokenTrace, facts: TokenFacts) -> None:
        reactivates = maps.view_of(trace, "reactivations") is not None
        words = {
            "Place": place_words(facts.point),
            "Voxels": box_words(facts.box),
            "Fate": facts.fate,
            "Reactivated": times(facts.reactivated) if reactivates else "",
            "Confidence": "unknown" if facts.confidence is None else f"{facts.confidence:.2f}",
            "Attended to": facts.attended,
        }
        for name, text in words.items():
            self.figures[name].setText(text)
            self._form.setRowVisible(self.figures[name], bool(text))

    def _facts(self) -> QVBoxLayout:
        self._form = QFormLayout()
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.setVerticalSpacing(1)
        for name, tip in _TIPS.items():
            label, value = self._names[name], self.figures.get(name, self.blocks)
            label.setToolTip(tip)
            if name != "Blocks":
                value.setToolTip(tip)
            self._form.addRow(label, value)
        column = QVBoxLayout()
        column.addWidget(self.title)
        column.addLayout(self._form)
        column.addStretch(1)
        return column


def _stage_table() -> Table:
    table = Table()
    table.setSelectionMode(Table.SelectionMode.NoSelection)
    table.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    table.setMinimumWidth(_TABLE)
    table.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Ignored)
    return table


def _row(decision: Decision) -> tuple[str, list[Cell]]:
    rank = UNKNOWN if decision.rank is None else f"{decision.rank:,} / {decision.scored:,}"
    cells = [
        Cell(decision.stage),
        number(decision.score, ".3g"),
        Cell(rank, decision.rank),
        Cell(decision.text),
    ]
    return decision.stage, cells


def _shades(trace: TokenTrace) -> Mapping[int, str]:
    """Return the colour of every fate that occurs, "#rrggbb", as the legend of the map has it."""
    return {0: _AIR, **{e.value: over_grey(e.color) for e in maps.kept_legend(trace)}}


def _selectable() -> QLabel:
    label = QLabel()
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


def _counted(around: Neighbours, trace: TokenTrace, shades: Mapping[int, str]) -> str:
    """Count the neighbours by their fate, as HTML, with a square of its colour before each."""
    fates = {name: fate for fate, name in fate_names(trace).items()}
    cells = [  # a line of words would break between a square and its count
        f'<td style="white-space: pre; padding-right: 10px;">'
        f"{square_in_text(shades[fates[name]])} {count} {name}</td>"
        for name, count in around.counts.items()
    ]
    rows = ("".join(cells[at : at + _ABREAST]) for at in range(0, len(cells), _ABREAST))
    return f"<table cellspacing=0>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _column(heading: str, *widgets: QWidget) -> QVBoxLayout:
    column = QVBoxLayout()
    column.setSpacing(3)
    column.addWidget(QLabel(heading))
    for widget in widgets:
        column.addWidget(widget)
    column.addStretch(1)
    return column
