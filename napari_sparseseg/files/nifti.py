"""NIfTI-1 and NIfTI-2, by nibabel."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from napari_sparseseg.errors import InputError
from napari_sparseseg.files.formats import CHUNK, many_values, storable
from napari_sparseseg.volume import Volume, check_shape

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Image


def read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return voxels ``(I, J, K)`` and affine to RAS mm; raises whatever nibabel raises."""
    with _open_plain_or_gzip(path) as stream:
        image = _nifti_class(stream).from_stream(stream)
        _check_nifti_header(image, stream, path.name)
        data = np.asanyarray(image.dataobj)
        if isinstance(data, np.memmap):  # the file may change or vanish under a mapping
            data = np.array(data)
        # Only the end of a gzip stream tells whether all of it was intact.
        while stream.read(CHUNK):
            pass
    if data.dtype.kind == "f":  # nibabel scales to float64, which is twice the memory for nothing
        stored = image.get_data_dtype()
        data = data.astype(stored if stored.kind == "f" else np.float32, copy=False)
    data = data.astype(data.dtype.newbyteorder("="), copy=False)
    return data.reshape(data.shape[:3]), np.asarray(image.affine, dtype=np.float64)


def _open_plain_or_gzip(path: Path) -> BinaryIO | gzip.GzipFile:
    """Open by content, for files are often renamed between ``.nii`` and ``.nii.gz``."""
    with open(path, "rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if zipped else open(path, "rb")


def _nifti_class(stream: BinaryIO | gzip.GzipFile) -> Any:
    from nibabel.nifti1 import Nifti1Image
    from nibabel.nifti2 import Nifti2Image

    start = stream.read(4)
    stream.seek(0)
    is_second = 540 in (int.from_bytes(start, "little"), int.from_bytes(start, "big"))
    return Nifti2Image if is_second else Nifti1Image


def _check_nifti_header(
    image: Nifti1Image, stream: BinaryIO | gzip.GzipFile, file_name: str
) -> None:
    dtype = image.header.get_data_dtype()
    if dtype.names or dtype.kind == "c":
        raise InputError(many_values(file_name))
    shape = image.header.get_data_shape()
    if max(shape[3:], default=1) == 1:
        shape = shape[:3]
    check_shape(shape, file_name)
    # nibabel reads a zero spacing as 1 mm and drops its sign: look at what the file really says.
    stream.seek(0)
    stored = type(image).header_class.from_fileobj(stream, check=False)
    if stored["sform_code"] <= 0 and not (stored["pixdim"][1:4] > 0).all():
        raise InputError(
            f"{file_name} has a zero or negative voxel spacing; correct the spacing in its header."
        )


def write_nifti(volume: Volume, path: Path) -> None:
    """Write one file, with the affine as sform and qform."""
    import nibabel as nib

    data = storable(volume.data)
    image = nib.Nifti1Image(data, volume.affine, dtype=data.dtype)
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.affine, code="scanner")
    image.set_qform(volume.affine, code="scanner")
    nib.save(image, path)
