"""What every tab of the inspector is told, and whom it may ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QWidget

if TYPE_CHECKING:
    from napari_sparseseg.analysis.inspection import Inspection
    from napari_sparseseg.plugin.inspector.panel import Inspector
    from napari_sparseseg.plugin.shown import Shown


class Tab(QWidget):
    """A tab of the inspector.

    Attributes
    ----------
    title : str
        What stands on it.
    about : str
        Its tooltip, one sentence.
    inspector : Inspector
        What it belongs to: whom to ask for the shown result, for work and for moving the view.

    Parameters
    ----------
    inspector : Inspector
        Likewise.
    """

    title = ""
    about = ""

    def __init__(self, inspector: Inspector) -> None:
        super().__init__()
        self.inspector = inspector

    def show_result(self, shown: Shown | None) -> None:
        """Follow the dock to another result, or to none."""

    def show_inspection(self, inspection: Inspection | None) -> None:
        """Show what a comparison found; None when it does not hold any more."""

    def show_token(self, token: int) -> None:
        """Follow the choice of a token, its place in the flattened token grid."""
