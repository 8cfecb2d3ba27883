"""The tab "Token" of the inspector."""

from __future__ import annotations

from napari_sparseseg.plugin.inspector.tab import Tab


class TokenTab(Tab):
    """To be written."""

    title = "Token"
