"""The tab "Token" of the inspector: one token, and keys that lead to the next one to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QShortcut,
    QStackedWidget,
    QVBoxLayout,
)

from napari_sparseseg.analysis.patches import TokenIndex
from napari_sparseseg.plugin.aside import Aside
from napari_sparseseg.plugin.inspector.attention import AttentionLines, attended
from napari_sparseseg.plugin.inspector.frame import TokenFrame
from napari_sparseseg.plugin.inspector.jumps import (
    Round,
    disagreeing,
    least_confident,
    pruned_in_structures,
)
from napari_sparseseg.plugin.inspector.neighbours import neighbours
from napari_sparseseg.plugin.inspector.patch import middle_slices
from napari_sparseseg.plugin.inspector.tab import Tab
from napari_sparseseg.plugin.inspector.token_facts import TokenFacts, token_facts
from napari_sparseseg.plugin.inspector.token_view import TokenView
from napari_sparseseg.plugin.layers import TOKENS
from napari_sparseseg.plugin.token_placement import TokenPlacement
from napari_sparseseg.volume import Volume

if TYPE_CHECKING:
    from napari_sparseseg.analysis.inspection import Inspection
    from napari_sparseseg.plugin.inspector.panel import Inspector
    from napari_sparseseg.plugin.shown import Shown

PRUNED, DISAGREEING, UNSURE = "pruned", "disagreeing", "unsure"

_NO_RESULT = "Segment a scan first."
_NO_TOKEN = "Click on a token in the view, or press one of the keys above."
_LOOKING = "Looking for the tokens"
_COMPARE_FIRST = "Press Compare in the next tab first: it finds where two results disagree."


@dataclass(frozen=True)
class _Key:
    """A key that leads to the next token of some kind."""

    shortcut: str
    text: str
    tip: str
    none: str


_KEYS = {
    PRUNED: _Key(
        "Alt+N",
        "Next {fate} in a structure",
        "Go to the next token that did not run every block though its patch holds a structure; "
        "first those that hold the largest part of one.",
        "No token of a structure was left out.",
    ),
    DISAGREEING: _Key(
        "Alt+D",
        "Next disagreement",
        "Go to the next token in which the compared results differ; first those with most voxels "
        "that do.",
        "The compared results agree everywhere.",
    ),
    UNSURE: _Key(
        "Alt+E",
        "Least confident exit",
        "Go to the token that exited with the least confidence, then to the next; for a method "
        "without exits, to those that were left out though they hold a structure.",
        "No such token was left out.",
    ),
}


class TokenTab(Tab):
    """One token of the shown result.

    Attributes
    ----------
    facts : TokenFacts or None
        What is shown of it.
    keys : dict of QPushButton
        By :data:`PRUNED`, :data:`DISAGREEING` and :data:`UNSURE`.
    note : QLabel
        What the last key found.
    empty : QLabel
        What to do where no token is shown.
    view : TokenView
        The token.
    """

    title = "Token"
    about = "What happened to one token: click on it in the view, or let a key lead to it."

    def __init__(self, inspector: Inspector) -> None:
        super().__init__(inspector)
        self.facts: TokenFacts | None = None
        self.keys: dict[str, QPushButton] = {}
        self.note, self.empty, self.view = QLabel(), QLabel(_NO_RESULT), TokenView()
        self._index: TokenIndex | None = None
        self._aside = Aside()
        self._rounds: dict[str, Round] = {}
        self._inspection: Inspection | None = None
        self._frame = TokenFrame(inspector.viewer)
        self._lines = AttentionLines(inspector.viewer)
        self._lay_out()
        self._pointer = inspector.dock.view.pointer
        self._pointer.clicked.connect(self._on_click)
        inspector.closing.connect(self._on_closing)

    def _lay_out(self) -> None:
        row = QHBoxLayout()
        for name, key in _KEYS.items():
            button = self.keys[name] = QPushButton()
            button.clicked.connect(lambda _=False, name=name: self._go_on(name))
            row.addWidget(button)
            # on the inspector, so that it works while another tab is in front
            shortcut = QShortcut(QKeySequence(key.shortcut), self.inspector)
            shortcut.setContext(Qt.ShortcutContext.WindowShortcut)
            shortcut.activated.connect(lambda name=name: self._go_on(name))
        row.addWidget(self.note)
        row.addStretch(1)
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._pages = QStackedWidget()
        self._pages.addWidget(self.empty)
        self._pages.addWidget(self._scrolling())
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 4, 4, 0)
        column.setSpacing(6)
        column.addLayout(row)
        column.addWidget(self._pages, 1)

    def _scrolling(self) -> QScrollArea:
        """Let the view be wider than a small window."""
        area = QScrollArea()
        area.setWidget(self.view)
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        return area

    # What the inspector tells

    def show_result(self, shown: Shown | None) -> None:
        """Forget the token of the result before."""
        self._clear()
        self._index = None
        self._rounds.clear()
        self.empty.setText(_NO_RESULT if shown is None else _NO_TOKEN)
        self._offer_keys()

    def show_inspection(self, inspection: Inspection | None) -> None:
        """Offer the way to the disagreements that a comparison found."""
        self._inspection = inspection
        self._aside.drop()
        self.note.clear()
        self._rounds.pop(DISAGREEING, None)
        self._offer_keys()

    def show_token(self, token: int) -> None:
        """Show a token, and frame it in the view."""
        shown, image = self.inspector.shown, self.inspector.dock.image()
        if shown is None or image is None:
            return
        self.note.clear()
        result, scan = shown.result, shown.request.scan
        trace = result.trace
        on_layer = Volume(scan.on_layer(result.labels.data), scan.affine)
        box = TokenIndex.of(trace.grid, on_layer).box(token)
        self.facts = token_facts(result, self._tokens(shown), token)
        limits = (float(image.contrast_limits[0]), float(image.contrast_limits[1]))
        self.view.show_token(
            trace,
            self.facts,
            middle_slices(scan, box, limits),
            neighbours(trace, token, TokenPlacement.of(trace.grid, scan.affine), self._order()),
        )
        self._pages.setCurrentIndex(1)
        self._frame.show(image, shown.layers[TOKENS], box)
        self._lines.show(shown.layers[TOKENS], attended(trace, token), token)
        shown.layers.look_at(token)
        if shown.layers.map == "dependencies":
            self.inspector.dock.view.explain()  # they are those of this token now

    def _tokens(self, shown: Shown) -> TokenIndex:
        if self._index is None:
            self._index = TokenIndex.of(shown.result.trace.grid, shown.result.labels)
        return self._index

    def _order(self) -> tuple[int, ...]:
        """Return the axes of the image in the order in which the canvas shows them."""
        dims = self.inspector.viewer.dims
        more = dims.ndim - 3
        return tuple(axis - more for axis in dims.order if axis >= more)

    def _clear(self) -> None:
        self.facts = None
        self.note.clear()
        self._pages.setCurrentIndex(0)
        self._frame.remove()
        self._lines.remove()

    # The pointer, and the end

    def _on_click(self, world: tuple[float, ...]) -> None:
        shown = self.inspector.shown
        row = shown.layers.token_at(world) if shown is not None else None
        if row is not None:
            self.inspector.choose_token(row["index"] - 1)

    def _on_closing(self) -> None:
        self._pointer.clicked.disconnect(self._on_click)
        self._aside.close()
        self._clear()

    # The keys

    def _offer_keys(self) -> None:
        shown = self.inspector.shown
        fate = shown.result.trace.fate if shown is not None else "pruned"
        compared = self._inspection is not None and self._inspection.comparison is not None
        for name, key in _KEYS.items():
            button, missing = self.keys[name], "" if shown is not None else _NO_RESULT
            if not missing and name == DISAGREEING and not compared:
                missing = _COMPARE_FIRST
            button.setText(f"{key.text.format(fate=fate)} ({key.shortcut})")
            button.setToolTip(missing or key.tip)
            button.setEnabled(not missing)

    def _go_on(self, name: str) -> None:
        """Go to the next token of a round, or say why there is none."""
        button, shown = self.keys[name], self.inspector.shown
        if shown is None or not button.isEnabled():
            self.note.setText(button.toolTip())
            return
        if name in self._rounds:
            self._next_of(name)
        elif not self._aside.busy:
            self.note.setText(_LOOKING)
            self._aside.ask(self._finder_of(name, shown), partial(self._begin, name))

    def _begin(self, name: str, tokens: tuple[int, ...]) -> None:
        self._rounds[name] = Round(tokens)
        self._next_of(name)

    def _next_of(self, name: str) -> None:
        tour = self._rounds[name]
        if not tour.tokens:
            self.note.setText(_KEYS[name].none)
            return
        self.inspector.choose_token(tour.next(), go=True)
        self.note.setText(f"{tour.number:,} of {len(tour.tokens):,}")

    def _finder_of(self, name: str, shown: Shown) -> Callable[[], tuple[int, ...]]:
        """Return what looks for the tokens of a key: it reads all voxels of the scan."""
        index = self._tokens(shown)
        if name == DISAGREEING:
            found = self._inspection
            assert found is not None and found.comparison is not None
            return partial(disagreeing, found.comparison, index)
        finder = pruned_in_structures if name == PRUNED else least_confident
        return partial(finder, shown.result, index)
