"""What a host is told when something went wrong: a kind to act on, and a sentence to show."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any, Literal

from napari_sparseseg.errors import (
    Cancelled,
    DeviceError,
    InputError,
    ModelError,
    OutOfMemory,
    OutputError,
)
from napari_sparseseg.exhaustion import as_sentence, exhausted

Kind = Literal[
    "input",
    "model",
    "device",
    "memory",
    "output",
    "cancelled",
    "version",
    "busy",
    "protocol",
    "internal",
]

PARSE, INVALID_REQUEST, UNKNOWN_METHOD, INVALID_PARAMS, INTERNAL = (
    -32700,
    -32600,
    -32601,
    -32602,
    -32603,
)
"""Codes of JSON-RPC 2.0."""
CANCELLED = -32800
"""As in the Language Server Protocol."""
OTHER = -32000

_KINDS: tuple[tuple[type[BaseException], Kind, int], ...] = (
    (Cancelled, "cancelled", CANCELLED),
    (OutOfMemory, "memory", OTHER),
    (InputError, "input", OTHER),
    (ModelError, "model", OTHER),
    (OutputError, "output", OTHER),
    (DeviceError, "device", OTHER),
)


@dataclass(frozen=True)
class Failure:
    """An error as it goes over the wire.

    Attributes
    ----------
    kind : str
        See :data:`Kind`.
    message : str
        One sentence for the user: what is wrong, and what to do.
    code : int
        See the codes of this module.
    detail : str
        Traceback of an internal error, else "".
    """

    kind: Kind
    message: str
    code: int = OTHER
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the error object of JSON-RPC."""
        data = {"kind": self.kind, **({"detail": self.detail} if self.detail else {})}
        return {"code": self.code, "message": self.message, "data": data}


class Refusal(Exception):
    """A message of the host that cannot be followed, or not now.

    Attributes
    ----------
    failure : Failure
        What the host is told.
    """

    def __init__(self, message: str, code: int = OTHER, kind: Kind = "protocol") -> None:
        super().__init__(message)
        self.failure = Failure(kind, message, code)


def failure_of(error: BaseException) -> Failure:
    """Return what a host is told of an exception."""
    if isinstance(error, Refusal):
        return error.failure
    for base, kind, code in _KINDS:
        if isinstance(error, base):
            return Failure(kind, str(error), code)
    if place := exhausted(error):
        return Failure("memory", str(as_sentence(place)))
    return Failure(
        "internal",
        f"The engine failed unexpectedly ({type(error).__name__}); report it with the details.",
        INTERNAL,
        "".join(traceback.format_exception(error)),
    )
