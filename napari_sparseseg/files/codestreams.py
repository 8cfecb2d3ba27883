"""The size that a compressed image claims, known before it is decoded."""

from __future__ import annotations

import struct

_J2K_SIZE = b"\xff\x4f\xff\x51"
_FRAME_HEADERS = {
    0xC0,
    0xC1,
    0xC2,
    0xC3,
    0xC5,
    0xC6,
    0xC7,
    0xC9,
    0xCA,
    0xCB,
    0xCD,
    0xCE,
    0xCF,
    0xF7,
}
"""The markers of JPEG and JPEG-LS behind which rows and columns stand."""


def frame_size(packed: bytes) -> tuple[int, int] | None:
    """Return rows and columns of a JPEG, JPEG-LS or JPEG 2000 image.

    A few bytes may claim gigabytes; the header of the file around them says what is wanted.

    Parameters
    ----------
    packed : bytes
        One compressed frame.

    Returns
    -------
    tuple of int or None
        None where the frame is none of these, such as RLE, whose size its decoder checks.

    Raises
    ------
    ValueError
        When an image of these kinds does not say its size.
    """
    if packed[4:8] == b"jP  ":  # a file around the codestream
        packed = packed[max(packed.find(_J2K_SIZE), 0) :]
    try:
        if packed.startswith(_J2K_SIZE):
            right, lower, left, upper = struct.unpack_from(">4I", packed, 8)
            return lower - upper, right - left
        if packed.startswith(b"\xff\xd8"):
            return _jpeg_size(packed)
    except (struct.error, IndexError) as error:
        raise ValueError("the compressed frame is cut short") from error
    return None


def _jpeg_size(packed: bytes) -> tuple[int, int]:
    at = 2
    while True:
        while packed[at + 1] == 0xFF:  # fill bytes
            at += 1
        marker = packed[at + 1]
        if packed[at] != 0xFF or marker == 0xDA:
            raise ValueError("the compressed frame does not say its size")
        if marker in _FRAME_HEADERS:
            rows, columns = struct.unpack_from(">2H", packed, at + 5)
            return rows, columns
        at += 2 + struct.unpack_from(">H", packed, at + 2)[0]
