"""Errors whose message a user can act on.

Every message is one sentence that says what is wrong and what to do; the dock, the
command line and any host application show it as it is.
"""

from __future__ import annotations


class SparseSegError(Exception):
    """Base of all errors that are shown to the user without a traceback."""


class InputError(SparseSegError):
    """The scan or an argument cannot be used."""


class ChoiceNeeded(InputError):
    """A path holds several scans, and none or another one was asked for."""


class ModelError(SparseSegError):
    """Weights are missing, corrupted or of another architecture."""


class OutputError(SparseSegError):
    """A result cannot be written where it was asked for."""


class DeviceError(SparseSegError):
    """The requested processor is unknown or not available."""


class OutOfMemory(DeviceError):
    """A processor has too little memory for what was asked of it."""


class Cancelled(SparseSegError):
    """The user stopped the run; nothing of it is kept."""
