"""What the engine refuses, as one sentence for the user; standard library only."""

from __future__ import annotations

from typing import Any


class WorkerError(Exception):
    """A request did not work out; the message is one sentence for the user.

    Attributes
    ----------
    kind : str
        "input", "model", "device", "memory", "output", "cancelled", "version", "busy",
        "protocol", "internal", or "crash" for an engine that ended.
    detail : str
        What helps to find the cause, for the log.
    """

    def __init__(self, kind: str, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.kind, self.detail = kind, detail


def cancelled() -> WorkerError:
    """Return the error of a request that the user stopped."""
    return WorkerError("cancelled", "Cancelled; nothing was changed.")


def error_of(error: dict[str, Any]) -> WorkerError:
    """Make an error of what JSON-RPC calls one."""
    data = error.get("data") or {}
    return WorkerError(
        str(data.get("kind", "internal")), str(error["message"]), str(data.get("detail", ""))
    )
