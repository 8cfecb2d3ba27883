"""NIfTI-1 and NIfTI-2, one file or a pair, by nibabel."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np

from napari_sparseseg.errors import InputError
from napari_sparseseg.files.formats import many_values, storable
from napari_sparseseg.files.layout import Layout, open_regular, split_shape
from napari_sparseseg.files.placing import placed_by_forms
from napari_sparseseg.files.unpacking import Unpacked, is_gzip
from napari_sparseseg.volume import Volume

HEADER_BYTES = 540
"""Length of the longest header, that of NIfTI-2; what follows it are extensions."""

_QUIET = logging.Logger(__name__)
_QUIET.addHandler(logging.NullHandler())
_MAGIC = {
    b"n+1\0": (1, "single"),
    b"ni1\0": (1, "pair"),
    b"n+2\0": (2, "single"),
    b"ni2\0": (2, "pair"),
}


def nifti_layout(path: Path) -> Layout:
    """Judge the header of a NIfTI file; raises whatever nibabel raises on a damaged one."""
    start, packed = read_start(path)
    header = nifti_header(start, "single")
    if header is None:
        raise ValueError("no NIfTI header")
    return layout_of(header, start, path, path, packed)


def read_start(path: Path) -> tuple[bytes, bool]:
    """Read what can be a header; unpack by content, for files are often renamed."""
    with open_regular(path) as stream:
        packed = is_gzip(stream)
        source = io.BufferedReader(Unpacked(stream)) if packed else stream
        return source.read(HEADER_BYTES), packed


def nifti_header(start: bytes, kind: str) -> Any:
    """Parse a header of the kind ``"single"`` or ``"pair"``, None if there is none."""
    version = _version(start, kind)
    if version is None:
        return None
    return parsed_header(_header_class(version, kind), start[: 348 if version == 1 else 540])


def parsed_header(header_class: Any, block: bytes) -> Any:
    """Parse a header; what nibabel mends in it is not the user's business."""
    header = header_class(block, check=False)
    header.check_fix(logger=_QUIET)
    return header


def _version(start: bytes, kind: str) -> int | None:
    for magic, (version, its_kind) in _MAGIC.items():
        place = 344 if version == 1 else 4
        if start[place : place + 4] == magic and its_kind == kind:
            return version
    return None


def _header_class(version: int, kind: str) -> Any:
    from nibabel import nifti1, nifti2

    classes = {
        (1, "single"): nifti1.Nifti1Header,
        (1, "pair"): nifti1.Nifti1PairHeader,
        (2, "single"): nifti2.Nifti2Header,
        (2, "pair"): nifti2.Nifti2PairHeader,
    }
    return classes[version, kind]


def layout_of(header: Any, start: bytes, path: Path, data: Path, packed: bool) -> Layout:
    """Put together what a NIfTI header says; `data` is the file of its voxels."""
    dtype = real_dtype(header, path.name)
    shape, frames = split_shape(tuple(int(n) for n in header.get_data_shape()), path.name)
    # nibabel reads a zero spacing as 1 mm and drops its sign: look at what the file really says.
    stored = type(header)(start[: header.sizeof_hdr], check=False)
    if header["sform_code"] <= 0 and not (stored["pixdim"][1:4] > 0).all():
        raise InputError(
            f"{path.name} has a zero or negative voxel spacing; correct the spacing in its header."
        )
    offset = header.get_data_offset()
    if data == path and offset < header.sizeof_hdr:
        raise ValueError("the voxels begin inside the header")
    affine, notes = placed_by_forms(header, shape)
    slope, intercept = header.get_slope_inter()
    return Layout(
        data,
        shape,
        dtype,
        affine,
        notes,
        start=0 if packed else offset,
        packed=packed,
        skip=offset if packed else 0,
        frames=frames,
        scaling=(1.0, 0.0) if slope is None else (slope, intercept or 0.0),
    )


def real_dtype(header: Any, name: str) -> np.dtype:
    """Return the dtype of the voxels; an InputError when they are not real numbers."""
    dtype: np.dtype = header.get_data_dtype()
    if dtype.names or dtype.kind == "c":
        raise InputError(many_values(name))
    if dtype.kind not in "iuf":
        raise ValueError("the header names a type of voxels that is none")
    return dtype


def write_nifti(volume: Volume, path: Path) -> None:
    """Write one file, with the affine as sform and qform."""
    import nibabel as nib

    data = storable(volume.data)
    image = nib.Nifti1Image(data, volume.affine, dtype=data.dtype)
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.affine, code="scanner")
    image.set_qform(volume.affine, code="scanner")
    nib.save(image, path)
