"""The voxels of one frame: read piece by piece, or mapped."""

from __future__ import annotations

import io
import os
from typing import BinaryIO

import numpy as np

from napari_sparseseg.errors import InputError
from napari_sparseseg.files.formats import CHUNK
from napari_sparseseg.files.layout import Layout, check_length, open_regular
from napari_sparseseg.files.unpacking import Unpacked


def read_voxels(layout: Layout, frame: int, mapped: bool) -> np.ndarray:
    """Read a frame.

    Parameters
    ----------
    layout : Layout
        Where the voxels lie.
    frame : int
        Which frame, from 0.
    mapped : bool
        Map the file where it holds the values as they are.

    Returns
    -------
    numpy.ndarray
        Scaled values (I, J, K), the first axis fastest in memory, in native byte order.

    Raises
    ------
    InputError
        When the file changes meanwhile.
    EOFError, zlib.error, OSError, MemoryError
        When the file is cut short, damaged or gone; or does not fit.
    """
    with open_regular(layout.file) as stream:
        before = _state(stream)
        check_length(layout, before[0])
        if mapped and _mappable(layout):
            return _mapped(stream, layout, frame)
        stream.seek(layout.start)
        source = io.BufferedReader(Unpacked(stream), CHUNK) if layout.packed else stream
        values = _values(source, layout, frame)
        if layout.packed:
            _finish(source, layout, frame)
        if _state(stream) != before:
            raise InputError(
                f"{layout.file.name} changed while it was read; wait until it is written, then "
                "read it again."
            )
    return values.reshape(layout.shape, order="F")


def _state(stream: BinaryIO) -> tuple[int, int]:
    status = os.fstat(stream.fileno())
    return status.st_size, status.st_mtime_ns


def _frame_start(layout: Layout, frame: int) -> int:
    size = layout.voxels * layout.dtype.itemsize
    return layout.skip + (0 if layout.interleaved else frame * size)


def _mappable(layout: Layout) -> bool:
    as_they_are = not layout.packed and not layout.interleaved and layout.scaling == (1.0, 0.0)
    aligned = (layout.start + layout.skip) % layout.dtype.alignment == 0
    return as_they_are and aligned and _result_dtype(layout) == layout.dtype


def _mapped(stream: BinaryIO, layout: Layout, frame: int) -> np.ndarray:
    offset = layout.start + _frame_start(layout, frame)
    return np.memmap(stream, layout.dtype, "c", offset, layout.shape, order="F")


def _result_dtype(layout: Layout) -> np.dtype:
    """Tell the dtype of the values: as stored, scaled integers in float32."""
    dtype = layout.dtype.newbyteorder("=")
    if dtype.kind == "f":
        return dtype if dtype.itemsize <= 8 else np.dtype(np.float64)
    return dtype if layout.scaling == (1.0, 0.0) else np.dtype(np.float32)


def _values(source: BinaryIO, layout: Layout, frame: int) -> np.ndarray:
    _skip(source, _frame_start(layout, frame))
    values = np.empty(layout.voxels, _result_dtype(layout))
    together = layout.frames if layout.interleaved else 1
    step = max(1, CHUNK // (layout.dtype.itemsize * together))
    for begin in range(0, values.size, step):
        piece = values[begin : begin + step]
        stored = np.empty(piece.size * together, layout.dtype)
        _fill(source, stored)
        one = stored[frame::together] if together > 1 else stored
        with np.errstate(over="ignore", invalid="ignore"):  # infinity is judged with the values
            piece[:] = _scaled(one, layout.scaling)
    return values


def _scaled(stored: np.ndarray, scaling: tuple[float, float]) -> np.ndarray:
    if scaling == (1.0, 0.0):
        return stored
    slope, intercept = scaling
    return stored * np.float64(slope) + np.float64(intercept)


def _fill(source: BinaryIO, array: np.ndarray) -> None:
    view = array.view(np.uint8).data
    while len(view):
        count = source.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise EOFError("the voxels are cut short")
        view = view[count:]


def _skip(source: BinaryIO, count: int) -> None:
    if isinstance(source, io.BufferedReader) and isinstance(source.raw, Unpacked):
        while count:
            passed = len(source.read(min(count, CHUNK)))
            if not passed:
                raise EOFError("the voxels are cut short")
            count -= passed
    else:
        source.seek(count, io.SEEK_CUR)


def _finish(source: BinaryIO, layout: Layout, frame: int) -> None:
    """Read to the end of a packed stream: only there it tells whether all of it was intact."""
    size = layout.voxels * layout.dtype.itemsize * (layout.frames if layout.interleaved else 1)
    left = layout.limit - _frame_start(layout, frame) - size
    while count := len(source.read(CHUNK)):
        left -= count
        if left < 0:
            raise EOFError("more is packed than the header says")
