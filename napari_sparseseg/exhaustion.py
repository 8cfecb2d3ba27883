"""Memory that ran out: how it is recognised, said, and given back."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from napari_sparseseg.errors import OutOfMemory, SparseSegError

CARD, COMPUTER = "graphics card", "computer"

_TELLING = (
    "out of memory",
    "can't allocate memory",
    "annot allocate memory",
    "not enough memory",
    "bad_alloc",
    "ALLOC_FAILED",
    "failed to map segment",  # a library that is loaded
    "can't start new thread",  # its stack
)
_ADVICE = {
    CARD: "close other programs that use it or choose the CPU",
    COMPUTER: "close other programs, or crop or downsample the scan",
}


def exhausted(error: BaseException) -> str:
    """Tell whose memory ran out.

    Parameters
    ----------
    error : BaseException
        What Python, numpy, torch or a library of a graphics card raised, or an error that tells
        of it as of something else.

    Returns
    -------
    str
        :data:`CARD`, :data:`COMPUTER`, or "" if the error means something else.
    """
    if isinstance(error, SparseSegError):  # "damaged", for it could not be read
        cause = None if isinstance(error, OutOfMemory) else error.__cause__
        return "" if cause is None else exhausted(cause)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return CARD
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return COMPUTER
    text = str(error)
    if not any(telling in text for telling in _TELLING):
        return ""
    return CARD if "CU" in text else COMPUTER  # CUDA, CUBLAS, CUDNN


def as_sentence(place: str) -> OutOfMemory:
    """Return the error that tells a user whose memory ran out, as :func:`exhausted` names it."""
    return OutOfMemory(f"The {place} ran out of memory; {_ADVICE[place]}.")


def forget_locals(error: BaseException) -> None:
    """Let go of all that the functions which an error came through still hold.

    Its traceback can be shown as before; but whoever keeps the error, as napari's list of
    notifications does, no longer keeps a network and a session with it.
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            traceback.clear_frames(each.__traceback__)
            waiting += (each.__cause__, each.__context__)


@contextmanager
def giving_back() -> Iterator[None]:
    """Let an exception hold nothing of what failed, and say it in a sentence if memory ran out.

    Raises
    ------
    OutOfMemory
        In place of what the libraries raise when there is no more memory.
    """
    try:
        yield
    except BaseException as error:
        forget_locals(error)
        release_cards()
        if place := exhausted(error):
            raise as_sentence(place) from error
        raise


def release_cards() -> None:
    """Give back the memory of graphics cards that nothing uses any more."""
    torch = sys.modules.get("torch")
    # a failed driver says so again at every call, and the first error is the one to tell
    with suppress(RuntimeError):
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()
