"""Pairs of ``.hdr`` and ``.img``: Analyze 7.5 and NIfTI, by nibabel."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_sparseseg.errors import InputError
from napari_sparseseg.files.layout import Layout, beside, open_regular, split_shape
from napari_sparseseg.files.nifti import (
    layout_of,
    nifti_header,
    parsed_header,
    read_start,
    real_dtype,
)
from napari_sparseseg.files.placing import ASSUMED_AXES
from napari_sparseseg.files.unpacking import is_gzip

_ORIENT = 252  # place of the byte that says which way the slices lie
_TRANSVERSE = (0, ord("0"), ord(" "))


def pair_layout(path: Path) -> Layout:
    """Judge the header of a pair; `path` is either of its files."""
    header_file = _partner(path, ".hdr")
    data = beside(header_file, _partner(path, ".img").name)
    start, _ = read_start(header_file)
    with open_regular(data) as stream:
        packed = is_gzip(stream)
    nifti = nifti_header(start, "pair")
    if nifti is not None:
        return layout_of(nifti, start, header_file, data, packed)
    return _analyze_layout(start, header_file, data, packed)


def _partner(path: Path, suffix: str) -> Path:
    """Return the file of a pair that ends in `suffix`, in the case of the file that is known."""
    if path.suffix.lower() == suffix:
        return path
    partner = path.with_suffix(suffix.upper() if path.suffix.isupper() else suffix)
    if not partner.exists():
        raise InputError(
            f"{path.name} cannot be read without {partner.name}, which is missing; put both files "
            "into one folder."
        )
    return partner


def _analyze_layout(start: bytes, path: Path, data: Path, packed: bool) -> Layout:
    from nibabel.spm2analyze import Spm2AnalyzeHeader

    if not Spm2AnalyzeHeader.may_contain_header(start):
        raise ValueError("no Analyze header")
    block = start[: Spm2AnalyzeHeader.sizeof_hdr]
    header = parsed_header(Spm2AnalyzeHeader, block)
    dtype = real_dtype(header, path.name)
    shape, frames = split_shape(tuple(int(n) for n in header.get_data_shape()), path.name)
    if not (Spm2AnalyzeHeader(block, check=False)["pixdim"][1:4] > 0).all():
        raise InputError(
            f"{path.name} has a zero or negative voxel spacing; correct the spacing in its header."
        )
    _check_placeable(start, path, data)
    slope, intercept = header.get_slope_inter()
    offset = header.get_data_offset()
    return Layout(
        data,
        shape,
        dtype,
        np.asarray(header.get_best_affine(), dtype=np.float64),
        (f"Analyze files do not say for certain how their axes lie; {ASSUMED_AXES}.",),
        start=0 if packed else offset,
        packed=packed,
        skip=offset if packed else 0,
        frames=frames,
        scaling=(1.0, 0.0) if slope is None else (float(slope), float(intercept or 0.0)),
    )


def _check_placeable(start: bytes, path: Path, data: Path) -> None:
    """Refuse what programs read in different ways, for a wrong place is worse than none."""
    if start[_ORIENT] not in _TRANSVERSE:
        raise InputError(
            f"{path.name} says that its slices are not transverse, which programs read in "
            "different ways; convert it to NIfTI."
        )
    if data.with_suffix(".mat").exists():
        raise InputError(
            f"{path.name} has its place in a .mat file beside it, which is not read; convert it "
            "to NIfTI with the program that wrote it."
        )
