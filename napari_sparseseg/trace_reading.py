"""What a folder with a trace holds, judged before memory is taken for it.

Nothing here says what a trace means; see :mod:`napari_sparseseg.tokens`. All functions raise
``OSError``, ``ValueError`` or one of its kin for a damaged file.
"""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from napari_sparseseg.npy_header import read_npy_header

_LARGEST_FACTS = 2**28  # bytes of trace.json, for the largest scans that are accepted
_LARGEST_DEPENDENCIES = 2**30  # bytes, unpacked
_MOST_BLOCKS = 64
_NUMBERS = "biuf"


def read_facts(folder: Path) -> dict[str, Any]:
    """Read ``trace.json``; its lists bound the size of everything else."""
    file = folder / "trace.json"
    if not file.is_file() or file.stat().st_size > _LARGEST_FACTS:
        raise ValueError("no file, or too large")
    try:
        facts = json.loads(file.read_bytes())
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    shape, patch = facts["grid"]["shape"], facts["grid"]["patch"]
    for sides in (shape, patch):
        if len(sides) != 3 or not all(type(n) is int and 0 < n < 2**31 for n in sides):
            raise ValueError("the grid is no box")
    affine = np.array(facts["grid"]["affine"], dtype=np.float64)
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise ValueError("the grid has no place")
    for cells in (facts["air"], facts["left_stage"]):
        if len(cells) != math.prod(shape):
            raise ValueError("the lists are of another grid")
    blocks, stages = facts["num_blocks"], facts["stages"]
    if type(blocks) is not int or not 0 < blocks <= _MOST_BLOCKS:
        raise ValueError("a strange number of blocks")
    if not all(type(stage) is int and 0 <= stage <= blocks for stage in stages):
        raise ValueError("a stage behind the last block")
    if not all(type(left) is int and 0 <= left <= len(stages) for left in facts["left_stage"]):
        raise ValueError("tokens left at a stage that there is not")
    return dict(facts)


def read_map(folder: Path, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Read a map whose shape is known; another one is not unpacked."""
    import nibabel as nib

    file = folder / f"{name}.nii.gz"
    if not file.is_file():
        raise ValueError("no file")
    image: Any = nib.load(file)
    if tuple(image.shape) != shape or image.get_data_dtype().kind not in _NUMBERS:
        raise ValueError("the maps are of another trace")
    return np.asarray(image.dataobj)


def read_arrays(file: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of an ``.npz`` file; what its headers say has to be what it holds."""
    arrays = {}
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > _LARGEST_DEPENDENCIES:
            raise ValueError("too large")
        for member in members:
            with cast(BinaryIO, archive.open(member)) as stream:
                shape, dtype = read_npy_header(stream)
                whole = stream.tell() + math.prod(shape) * dtype.itemsize
            if dtype.kind not in _NUMBERS or whole != member.file_size:
                raise ValueError("no numbers, or not as many as the header says")
            with archive.open(member) as stream:
                arrays[member.filename.removesuffix(".npy")] = npy.read_array(
                    stream, allow_pickle=False
                )
    return arrays
