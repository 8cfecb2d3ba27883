"""The tab "Safety" of the inspector."""

from __future__ import annotations

from napari_sparseseg.plugin.inspector.tab import Tab


class NotesTab(Tab):
    """To be written."""

    title = "Safety"
