"""What the panel tells: a sentence, how far a run is, and a log."""

from __future__ import annotations

from typing import Any

_ERROR, _NOTE = "background: #7d1f1f; color: white;", "background: #1f4a7d; color: white;"


class Feedback:
    """Message, progress bar and log of the panel.

    Parameters
    ----------
    ui : object
        The widgets by name.
    """

    def __init__(self, ui: Any) -> None:
        self._ui = ui

    def error(self, text: str) -> None:
        """Show what went wrong, until the next action."""
        self._show(text, _ERROR)

    def note(self, text: str) -> None:
        """Show something worth knowing, until the next action."""
        self._show(text, _NOTE)

    def dismiss(self) -> None:
        """Take the sentence away."""
        self._show("", "")

    def log(self, text: str) -> None:
        """Add a line to the log."""
        self._ui.log.appendPlainText(text)

    def progress(self, done: int, total: int, text: str) -> None:
        """Show how far a run is; a total of 0 means that nobody knows."""
        self._ui.progress.setMaximum(max(1, total))
        self._ui.progress.setValue(done)
        self._ui.progress.setFormat(f"{text} ({done} of {total})" if total > 1 else text)

    def _show(self, text: str, style: str) -> None:
        self._ui.message.setStyleSheet(f"QLabel {{ {style} padding: 6px; border-radius: 3px; }}")
        self._ui.message.setText(text)
        self._ui.message.setVisible(bool(text))
