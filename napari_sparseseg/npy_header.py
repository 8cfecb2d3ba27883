"""The header of a ``.npy`` file of unknown origin."""

from __future__ import annotations

from tokenize import TokenError
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy


class NpyHeader(NamedTuple):
    """What a header says: the shape of the array, and the type of its numbers."""

    shape: tuple[int, ...]
    dtype: np.dtype


def read_npy_header(stream: BinaryIO) -> NpyHeader:
    """Read the header at the beginning of a stream; nothing is allocated for the array.

    Raises
    ------
    ValueError
        If it is no header of version 1 or 2, or one that no array can have.
    """
    version = npy.read_magic(stream)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"version {version}")
    try:
        shape, _, dtype = readers[version](stream)
    except (TokenError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError("a header that is no Python literal") from error  # as numpy lets through
    if not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"the shape {shape}")
    return NpyHeader(shape, dtype)
