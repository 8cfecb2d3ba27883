"""The lower half of the dock: sentences, legends, structures, and the figures of the run."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, QTimer, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QFrame,
    QGridLayout,
    QGroupBox,
    QLabel,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_sparseseg.analysis.terms import terms
from napari_sparseseg.colors import over_grey
from napari_sparseseg.methods import METHODS

_LONGEST_NAME = 16
_BAR_MARGIN = 4  # style sheets give scroll bars a margin that their size hint leaves out


class ScrollingColumn(QScrollArea):
    """A column that scrolls up and down and is never narrower than its content.

    Parameters
    ----------
    content : QWidget
        What scrolls.
    """

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setWidget(content)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

        self._settled = QTimer(self)
        self._settled.setSingleShot(True)
        self._settled.setInterval(50)
        self._settled.timeout.connect(self._fit_width)
        self._settled.start()

    def fit(self) -> None:
        """Follow the content's least width, once what it shows is laid out and styled."""
        self._settled.start()

    def _fit_width(self) -> None:
        content, bar = self.widget(), self.verticalScrollBar()
        if content is not None and bar is not None:
            beside = bar.sizeHint().width() + _BAR_MARGIN
            self.setMinimumWidth(content.minimumSizeHint().width() + beside)


class Message(QLabel):
    """A sentence to the user that stays until the next action."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
        self.linkActivated.connect(lambda link: QDesktopServices.openUrl(QUrl(link)))
        self.hide()

    def show_error(self, text: str) -> None:
        """Show what went wrong."""
        self._show(text, "background: #7d1f1f; color: white;")

    def show_note(self, text: str) -> None:
        """Show something worth knowing."""
        self._show(text, "background: #1f4a7d; color: white;")

    def show_notes(self, notes: Sequence[str]) -> None:
        """Show one sentence as it is, several with a mark before each, none by going away."""
        if not notes:
            self.dismiss()
            return
        self.show_note(notes[0] if len(notes) == 1 else "\n".join(f"• {note}" for note in notes))

    def show_file(self, text: str, path: Path) -> None:
        """Tell of a file that was written, with a link that opens it."""
        link = QUrl.fromLocalFile(str(path.absolute())).toString()
        self.show_note(
            f'{escape(text)}: <a href="{escape(link)}" style="color: white;">'
            f"{escape(path.name)}</a>."
        )

    def dismiss(self) -> None:
        """Take the sentence away."""
        self.clear()
        self.hide()

    def _show(self, text: str, style: str) -> None:
        self.setStyleSheet(f"{style} padding: 6px; border-radius: 3px;")
        self.setText(text)
        self.show()


class Legend(QWidget):
    """Rows of a coloured square, a name and a figure.

    Attributes
    ----------
    rows : list of (str, str, str)
        What is shown: colour, name, figure.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[str, str, str]] = []
        self._cells: list[tuple[QLabel, QLabel, QLabel]] = []
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setVerticalSpacing(0)
        self._grid.setColumnStretch(1, 1)

    def set_rows(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Show these rows: colour, name, figure."""
        self.rows = list(rows)
        while len(self._cells) < len(self.rows):
            self._add_cells()
        for number, cells in enumerate(self._cells):
            for cell in cells:
                cell.setVisible(number < len(self.rows))
        for (square, name, figure), row in zip(self._cells, self.rows, strict=False):
            style = f"background: {over_grey(row[0])}; border: 1px solid #808080;"
            if square.styleSheet() != style:  # costly, and the slider asks for it at every step
                square.setStyleSheet(style)
            name.setText(row[1])
            figure.setText(row[2])

    def _add_cells(self) -> None:
        square, name, figure = QLabel(), QLabel(), QLabel()
        square.setFixedSize(12, 12)
        figure.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        for column, cell in enumerate((square, name, figure)):
            self._grid.addWidget(cell, len(self._cells), column)
        self._cells.append((square, name, figure))


class Structures(QGroupBox):
    """The classes with their colours and volumes."""

    def __init__(self) -> None:
        super().__init__("Structures")
        self.legend = Legend()
        QVBoxLayout(self).addWidget(self.legend)

    def show_report(self, report: dict[str, Any], colors: tuple[str, ...]) -> None:
        """Show the classes of a report; ``colors`` begins with background."""
        self.legend.set_rows(
            (color, name, f"{facts['millilitres']:,.1f} ml")
            for color, (name, facts) in zip(colors[1:], report["classes"].items(), strict=True)
        )


class Results(QGroupBox):
    """What a run did, in numbers with units.

    Attributes
    ----------
    figures : dict of str
        What is shown, by name.
    """

    def __init__(self) -> None:
        super().__init__("This run")
        self.figures: dict[str, str] = {}
        self._grid = QGridLayout(self)
        self._grid.setColumnStretch(1, 1)
        self._grid.setVerticalSpacing(0)

    def show_report(self, report: dict[str, Any], saved: float) -> None:
        """Show a report, and the share of blocks that was saved."""
        self.figures, explained = figures(report, saved), explanations(report)
        while (item := self._grid.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.deleteLater()
        for number, (name, value) in enumerate(self.figures.items()):
            # in two lines rather than in a wider dock; parts of the time are set in
            label = name if name.startswith(" ") else textwrap.fill(name, _LONGEST_NAME)
            for column, text in enumerate((label, value)):
                cell = QLabel(text)
                cell.setToolTip(explained.get(name, ""))
                self._grid.addWidget(cell, number, column)


def figures(report: dict[str, Any], saved: float) -> dict[str, str]:
    """Put a report into words.

    Parameters
    ----------
    report : dict
        See :func:`napari_sparseseg.report.make_report`.
    saved : float
        See :func:`maps.blocks_saved`.

    Returns
    -------
    dict of str
        Values with their units, by name.
    """
    tokens, gmacs, seconds = report["tokens"], report["gmacs"], report["seconds"]
    method, sparsifier = METHODS[report["method"]], METHODS[report["sparsifier"]]
    setting = report["setting"]
    inside = max(1, tokens["total"] - tokens["air"])
    others = tokens["pruned"] + tokens["exited"]  # a rule does one of the two
    fate = method.fate if sparsifier.mimics else sparsifier.fate
    parts = {
        f"    {name.replace('_', ' ')}": f"{value:.2f} s"
        for name, value in seconds.items()
        if name != "total" and value > 0
    }
    rows = {
        "Model": report["model"],
        "Method": method.title,
        "Control": sparsifier.title.lower() if sparsifier is not method else "",
        setting["name"].capitalize() if setting else "": f"{setting['value']:g}" if setting else "",
        "Tokens": f"{tokens['total']:,} ({tokens['air']:,} air)",
        "Kept": f"{tokens['kept']:,} ({tokens['kept'] / inside:.0%} of non-air)",
        fate.capitalize(): f"{others:,} ({others / inside:.0%} of non-air)",
        "Reactivated": f"{tokens['reactivated']:,}" if tokens["reactivated"] else "",
        "Blocks saved": f"{saved:.0%} of the encoder's",
        "Compute": f"{gmacs['run']:,.1f} of {gmacs['dense']:,.1f} GMACs",
        "Time": f"{seconds['total']:.1f} s",
        **parts,
        "Memory": f"{report['peak_memory_mb']:,.0f} MB at most",
        "Computed": f"on {report['device']} in {report['precision']}",
    }
    return {name: value for name, value in rows.items() if value}


def explanations(report: dict[str, Any]) -> dict[str, str]:
    """Explain the rows of :func:`figures` that hold a term, with its paper where it has one."""
    rule = METHODS[report["method"]]
    known = {term.name: term.tip for term in terms(rule.name, set())}
    return known | {
        "Method": rule.cited(rule.about),
        "Control": METHODS[report["sparsifier"]].about,
        "Tokens": known["Token, patch"],
        "Reactivated": rule.cited("Tokens that ran a block after they had skipped the one before."),
        "Blocks saved": "Share of the encoder's work, in tokens times blocks, that was left out.",
        "Compute": known["GMACs"],
    }


def summary(report: dict[str, Any], saved: float) -> str:
    """Put a report into one short line; arguments as for :func:`figures`."""
    tokens = report["tokens"]
    inside = max(1, tokens["total"] - tokens["air"])
    return (
        f"{report['seconds']['total']:.1f} s, {tokens['kept'] / inside:.0%} of tokens kept, "
        f"{saved:.0%} of blocks saved"
    )
