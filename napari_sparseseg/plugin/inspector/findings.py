"""What a comparison found, in tables: each structure, and where the errors live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QSplitter,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)
from superqt import QElidingLabel

from napari_sparseseg.analysis.terms import DICE, HD95
from napari_sparseseg.fates import AIR, KEPT, stage_name
from napari_sparseseg.plugin.inspector.difference import COLORS, KINDS
from napari_sparseseg.plugin.inspector.tables import (
    UNKNOWN,
    Bars,
    Cell,
    Table,
    number,
    square,
    volume,
)

if TYPE_CHECKING:
    from napari_sparseseg.analysis.attribution import Attribution, StructureTokens
    from napari_sparseseg.analysis.compare import Comparison
    from napari_sparseseg.analysis.inspection import Inspection

_STRUCTURES = (
    ("Structure", "Double-click to go to where most of it differs"),
    ("Dice", DICE.tip),
    ("HD95 mm", HD95.tip),
    ("ml", "Volume in the shown result"),
    ("Other ml", "Volume in what it is compared with, for example a reference"),
    ("Change ml", "Volume that the shown result has more"),
)
_FATES = (
    ("Fate", "What became of the tokens in which the voxels lie"),
    ("Tokens", "Number of tokens"),
    ("Tissue", "Share of the voxels outside air that lie in these tokens"),
    ("Errors", "Share of the voxels that differ that lie in these tokens"),
    ("", "Above, faint: share of the tissue. Below: share of the errors"),
    ("× kept", "Errors per voxel, as a multiple of those in kept tokens"),
    ("New", "Errors that the dense twin does not make"),
)
_BARS_COLUMN = 4
_STRUCTURES_WIDTH = 540  # pixels, at least: most names of structures are read in full
_ERRORS_WIDTH = 690  # pixels, where there are: the bars are told from one another
_SUMMARY_WIDTH = 228  # pixels, at least: "dense twin" is read in full
_VERDICT_WIDTH = 170  # pixels, at least


class Findings(QSplitter):
    """The result of a comparison.

    Attributes
    ----------
    structure_opened : Signal(object)
        The user asked to see where a structure, by its class, differs.
    structures, fates, tokens : Table
        How far both agree; errors by fate; the tokens of each structure by fate.
    visible : QCheckBox
        Whether the layer of the differences is shown.
    summary, verdict : QLabel
        Both in a sentence.
    """

    structure_opened = Signal(object)

    def __init__(self) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self.structures, self.fates, self.tokens = Table(), Table(), Table()
        self.summary, self.verdict = QElidingLabel(), QLabel()
        self.visible = QCheckBox("Show")
        self.kinds = {value: QLabel() for value in KINDS}
        self.structures.set_columns(_STRUCTURES, stretched=0)
        self.fates.set_columns(_FATES, stretched=_BARS_COLUMN)
        self.fates.setItemDelegateForColumn(_BARS_COLUMN, Bars(self.fates))
        self.structures.opened_row.connect(self.structure_opened)
        # a long title is shortened rather than widening the window
        self.summary.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.summary.setMinimumWidth(_SUMMARY_WIDTH)
        self.visible.setChecked(True)
        self.visible.setToolTip("Show the differences as a layer")
        self.setChildrenCollapsible(False)
        self.addWidget(self._left())
        self.addWidget(self._right())
        self.setStretchFactor(0, 4)
        self.setStretchFactor(1, 5)
        self.setSizes([_STRUCTURES_WIDTH, _ERRORS_WIDTH])  # all that a small window has

    def _left(self) -> QWidget:
        row = QHBoxLayout()
        row.addWidget(self.summary, 1)
        row.addWidget(self.visible)
        self.structures.setMinimumWidth(_STRUCTURES_WIDTH)
        return _column(row, self.structures)

    def _legend(self) -> QWidget:
        """Lay out what the colours of the layer mean."""
        legend = QWidget()
        row = QHBoxLayout(legend)
        row.setContentsMargins(4, 0, 4, 0)
        for value, label in self.kinds.items():
            mark = QLabel()
            mark.setPixmap(square(COLORS[value]))
            row.addWidget(mark)
            row.addWidget(label)
        return legend

    def _right(self) -> QWidget:
        self.verdict.setWordWrap(True)
        self.verdict.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.verdict.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        words = QScrollArea()
        words.setWidget(self.verdict)
        words.setWidgetResizable(True)
        words.setFrameShape(QFrame.Shape.NoFrame)
        words.setMinimumWidth(_VERDICT_WIDTH)
        live = QWidget()
        row = QHBoxLayout(live)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.fates, 3)
        row.addWidget(words, 1)
        pages = QTabWidget()
        pages.setDocumentMode(True)
        pages.setUsesScrollButtons(True)  # many differences must not widen the window
        pages.addTab(live, "Where the errors live")
        pages.addTab(self.tokens, "Tokens of each structure")
        pages.setCornerWidget(self._legend())  # beside the tabs, where there is room for it
        return pages

    def show_inspection(self, inspection: Inspection) -> None:
        """Show what was found of one comparison."""
        comparison, attribution = inspection.comparison, inspection.attribution
        assert comparison is not None
        assert attribution is not None
        colors = inspection.result.colors
        self._show_comparison(comparison, colors, inspection.other_title)
        self._show_attribution(attribution)
        self._show_tokens(inspection)

    def _show_comparison(self, comparison: Comparison, colors: Sequence[str], title: str) -> None:
        mean = comparison.mean_dice
        found = UNKNOWN if mean is None else format(mean, ".3f")
        self.summary.setText(f"Mean Dice {found} ({title})")
        self.summary.setToolTip(
            f"Mean over the structures that the other one holds; compared with: {title}"
        )
        for value, label in self.kinds.items():
            count = comparison.counts[KINDS[value]]
            label.setText(f"{KINDS[value]} {count:,}")
            label.setToolTip(f"Voxels {_ABOUT[KINDS[value]]}")
        self.structures.set_rows(
            (
                place,
                (
                    Cell(entry.name, color=colors[place]),
                    number(entry.dice, ".3f"),
                    number(entry.hd95, ".2f"),
                    volume(entry.millilitres),
                    volume(entry.reference_millilitres),
                    volume(entry.change, signed=True),
                ),
            )
            for place, entry in enumerate(comparison.classes, start=1)
        )

    def _show_attribution(self, attribution: Attribution) -> None:
        shares = attribution.shares
        tissue = sum(share.voxels for share in shares if share.fate != AIR)
        kept = next((attribution.rate(share) for share in shares if share.fate == KEPT), 0.0)
        rows = []
        for share in shares:
            inside = share.voxels / tissue if tissue and share.fate != AIR else None
            errors = attribution.error_share(share)
            rows.append(
                (
                    share.fate,
                    (
                        Cell(share.fate),
                        number(share.tokens, ","),
                        number(inside, ".1%", f"{share.voxels:,} voxels"),
                        number(errors, ".1%", f"{share.errors:,} voxels"),
                        Cell("", bars=(inside or 0.0, errors)),
                        number(attribution.rate(share) / kept if kept else None, ".1f"),
                        number(share.new_errors, ","),
                    ),
                )
            )
        self.fates.set_rows(rows)
        known = any(share.new_errors is not None for share in shares)
        self.fates.setColumnHidden(len(_FATES) - 1, not known)
        self.verdict.setText(attribution.verdict)

    def _show_tokens(self, inspection: Inspection) -> None:
        trace, result = inspection.result.trace, inspection.result
        stages = [stage_name(trace, s) for s in range(1, len(trace.stages) + 1)]
        self.tokens.set_columns(
            [
                ("Structure", "Tokens that hold at least one voxel of it"),
                ("Tokens", "Number of these tokens; behind it, numbers and parts of them"),
                *((f"{name[0].upper()}{name[1:]}", f"{trace.fate} at {name}") for name in stages),
                ("At times", f"{trace.fate} at times: ran the last block but not all before it"),
                ("Kept", "Ran every encoder block"),
                ("Air", "Never entered the encoder"),
            ],
            stretched=0,
        )
        places = {name: place for place, name in enumerate(result.classes)}
        self.tokens.set_rows(
            (
                entry.name,
                (
                    Cell(entry.name, color=result.colors[places[entry.name]]),
                    number(entry.tokens, ","),
                    *(_part(entry, count) for count in entry.left),
                    _part(entry, entry.sometimes),
                    _part(entry, entry.kept),
                    _part(entry, entry.air),
                ),
            )
            for entry in inspection.structures
        )


_ABOUT = {
    "added": "that only the shown result gives to a structure",
    "lost": "that only the other one gives to a structure",
    "changed": "that both give to structures, but to other ones",
}


def _part(entry: StructureTokens, count: int) -> Cell:
    """Show some tokens of a structure, and their part of all; sorted by the part."""
    part = entry.part(count)
    return Cell(f"{count:,} ({100 * part:.0f} %)" if count else "0", part)


def _column(row: QHBoxLayout, table: Table) -> QWidget:
    widget = QWidget()
    column = QVBoxLayout(widget)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(2)
    column.addLayout(row)
    column.addWidget(table, 1)
    return widget
