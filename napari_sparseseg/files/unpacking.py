"""Packed voxels, unpacked bit by bit and never further than asked."""

from __future__ import annotations

import io
import zlib
from typing import Any, BinaryIO

from napari_sparseseg.files.formats import CHUNK

MAX_RATIO = 1032
"""By how much zlib can shrink data at most: what claims to be more is cut short or a lie."""

_GZIP = b"\x1f\x8b"


def is_gzip(stream: BinaryIO) -> bool:
    """Look at the first bytes of a file, and go back to its start."""
    start = stream.read(len(_GZIP))
    stream.seek(0)
    return start == _GZIP


class Unpacked(io.RawIOBase):
    """The unpacked bytes of a zlib stream, or of a gzip stream with one or more members.

    Parameters
    ----------
    stream : binary file
        Open where the packed bytes begin.

    Raises
    ------
    zlib.error
        On reading, when the stream is damaged; its checksum counts once its end is reached.
    EOFError
        On reading, when the stream is cut short.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._unpacker = _unpacker()

    def readable(self) -> bool:
        """Say that bytes can be read."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer, or a part of it; 0 at the end."""
        view = memoryview(buffer).cast("B")
        while len(view):
            if self._unpacker.eof and not self._next_member():
                return 0
            packed = self._unpacker.unconsumed_tail or self._stream.read(CHUNK)
            unpacked = self._unpacker.decompress(packed, len(view))
            if unpacked:
                view[: len(unpacked)] = unpacked
                return len(unpacked)
            if not packed and not self._unpacker.eof:
                raise EOFError("the packed voxels are cut short")
        return 0

    def _next_member(self) -> bool:
        rest = self._unpacker.unused_data
        rest += self._stream.read(len(_GZIP) if len(rest) < len(_GZIP) else 0)
        if not rest.startswith(_GZIP):
            return False  # what follows the last member is padding
        self._stream.seek(-len(rest), io.SEEK_CUR)
        self._unpacker = _unpacker()
        return True


def _unpacker() -> zlib._Decompress:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # zlib or gzip, as the data say
