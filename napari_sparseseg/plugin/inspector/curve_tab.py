"""The tab "Curve" of the inspector."""

from __future__ import annotations

from napari_sparseseg.plugin.inspector.tab import Tab


class CurveTab(Tab):
    """To be written."""

    title = "Curve"
