"""The tab "Compare" of the inspector."""

from __future__ import annotations

from napari_sparseseg.plugin.inspector.tab import Tab


class CompareTab(Tab):
    """To be written."""

    title = "Compare"
