"""The lower rows of the panel: one map at a time with its legend, structures, figures, 3D."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from SparseSegLib import words
from SparseSegLib.catalogue import Catalogue

if TYPE_CHECKING:
    from SparseSegLib.orders import Shown
    from SparseSegLib.scene import ResultWriter

NONE = "none"
"""The choice of no map."""

Key = tuple[str, int | None]


def key_text(key: Key) -> str:
    """Return the key of a map as one word or two: "kept", "importance 2"."""
    kind, stage = key
    return kind if stage is None else f"{kind} {stage}"


class ResultView:
    """What is shown of the result of the chosen volume.

    Parameters
    ----------
    ui : object
        The widgets by name.
    writer : ResultWriter
        Lays maps over the scan.
    on_map : callable
        The user chose another map; gets :func:`key_text`.
    """

    def __init__(self, ui: Any, writer: ResultWriter, on_map: Callable[[str], None]) -> None:
        self._ui, self._writer, self._on_map = ui, writer, on_map
        self._shown: Shown | None = None
        self._keys: dict[str, Key] = {}
        self._filling = False
        ui.map.connect("currentIndexChanged(int)", lambda _: self._map_chosen())
        self.show(None, Catalogue(), NONE, 1.0, False)

    def show(
        self, shown: Shown | None, catalogue: Catalogue, wanted: str, opacity: float, in_3d: bool
    ) -> None:
        """Show a result, or that there is none.

        Parameters
        ----------
        shown : Shown or None
            The result.
        catalogue : Catalogue
            Knows the names of models and controls.
        wanted : str
            The map to show if there is one of it: :func:`key_text`.
        opacity : float
            Of the map.
        in_3d : bool
            Whether structures are shown in 3D.
        """
        if self._shown is not None and (shown is None or self._shown.nodes is not shown.nodes):
            self._writer.show_map(self._shown.nodes, None)
        self._shown = shown
        for part in (self._ui.mapButton, self._ui.resultsButton):
            part.setVisible(shown is not None)
        maps = () if shown is None else shown.answer.maps
        self._keys = {key_text(token_map.key): token_map.key for token_map in maps}
        self._fill({key_text(token_map.key): token_map.title for token_map in maps}, wanted)
        self.show_map(opacity)
        if shown is None:
            self._ui.structures.setText("")
            self._ui.figures.setText("")
            return
        self._ui.structures.setText(words.structures(shown.answer.structures))
        self._ui.figures.setText(words.figures_table(words.figures(shown.answer, catalogue)))
        self.show_3d(in_3d)

    def show_map(self, opacity: float) -> None:
        """Lay the chosen map over the scan, and explain it."""
        key = self._keys.get(self.current())
        token_map = None if self._shown is None or key is None else self._shown.map(key)
        self._ui.legend.setText("" if token_map is None else words.legend(token_map))
        self._ui.mapAbout.setText("" if token_map is None else token_map.about)
        self._ui.opacity.setEnabled(token_map is not None)
        if self._shown is not None:
            self._writer.show_map(self._shown.nodes, key, opacity)

    def show_3d(self, in_3d: bool) -> None:
        """Show the structures in 3D, or not."""
        if self._shown is not None:
            self._writer.show_3d(self._shown.nodes, in_3d)

    def current(self) -> str:
        """Return the chosen map."""
        text = self._ui.map.itemData(self._ui.map.currentIndex)
        return text or NONE

    def _fill(self, titles: dict[str, str], wanted: str) -> None:
        combo, self._filling = self._ui.map, True
        combo.clear()
        for text, title in [*titles.items(), (NONE, "none")]:
            combo.addItem(title, text)
        first = next(iter(titles), NONE)
        chosen = wanted if wanted in titles or wanted == NONE else first
        combo.setCurrentIndex(combo.findData(chosen))
        self._filling = False

    def _map_chosen(self) -> None:
        if not self._filling:
            self._on_map(self.current())
