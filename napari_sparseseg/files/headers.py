"""Text headers of NRRD and MetaImage: read up to a bound, each field once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from napari_sparseseg.errors import InputError
from napari_sparseseg.files.layout import Layout, beside

MAX_HEADER = 4 << 20
"""Bytes beyond which nothing is a header."""


MAX_DIMENSION = 8
"""Number of axes beyond which no header is believed."""


def lines(stream: BinaryIO) -> Iterator[str]:
    """Give the lines of a header without their ends.

    Raises
    ------
    ValueError
        When the header does not come to an end within `MAX_HEADER`.
    """
    left = MAX_HEADER
    while line := stream.readline(left):
        left -= len(line)
        if not left:
            raise ValueError("the header is too long")
        yield line.decode("latin-1").rstrip("\r\n")


def add_once(fields: dict[str, str], key: str, value: str) -> None:
    """Take a field; ``ValueError`` for the second one of a kind, of which programs take either."""
    if key in fields:
        raise ValueError(f"the header gives {key} twice")
    fields[key] = value.strip()


def sizes(text: str, dimension: str) -> tuple[int, ...]:
    """Parse the number of voxels along each axis; ``ValueError`` when they are not `dimension`."""
    counts = tuple(int(number) for number in text.split())
    if len(counts) != int(dimension) or not 1 <= len(counts) <= MAX_DIMENSION:
        raise ValueError("as many sizes as dimensions are needed")
    return counts


def numbers(text: str, count: int) -> str:
    """Return `text` when it consists of `count` numbers, in one spelling; else ``ValueError``.

    What a library makes of other text, or of too few numbers, is nobody's promise.
    """
    values = [float(number) for number in text.split()]
    if len(values) != count:
        raise ValueError(f"{count} numbers are needed")
    return " ".join(map(repr, values))


def word(text: str) -> str:
    """Return `text` when it is a short name, such as that of a type; else ``ValueError``."""
    if re.fullmatch(r"\w[\w ]{0,30}", text, re.ASCII) is None:
        raise ValueError("the header gives no name where one is needed")
    return text


def with_voxels(layout: Layout, header: Path, data_file: str, skip: int) -> Layout:
    """Add to a layout in which file the voxels lie, and where.

    Parameters
    ----------
    layout : Layout
        With the place where the header ends as `start`, and `packed` None for an unknown packing.
    header : pathlib.Path
        The file of the header.
    data_file : str
        What it names as the file of voxels; empty when they follow the header.
    skip : int
        Bytes before the voxels; -1 when they stand at the end of the file.

    Raises
    ------
    InputError
        When the voxels lie in several files, outside the folder, or are packed in another way.
    """
    if layout.packed is None:
        raise InputError(
            f"{header.name} keeps its voxels as text or in a packing other than gzip; save it "
            "again as raw or gzip."
        )
    if re.match(r"list(\s|$)|.*%\d*d", data_file, re.IGNORECASE):
        raise InputError(
            f"{header.name} keeps its voxels in several files; save the scan as one file (.nrrd, "
            ".mha or .nii.gz)."
        )
    if skip < -1 or (skip and layout.packed):
        raise ValueError("bytes to skip in packed voxels")
    if data_file:
        layout = replace(layout, file=beside(header, data_file), start=0)
    start = layout.file.stat().st_size - layout.length if skip == -1 else layout.start + skip
    return replace(layout, start=start)
