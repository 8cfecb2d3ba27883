"""NRRD and MetaImage, by SimpleITK."""

from __future__ import annotations

import errno
import struct
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from napari_sparseseg.errors import InputError
from napari_sparseseg.files.formats import ITK_FORMATS, many_values, storable
from napari_sparseseg.volume import Volume

if TYPE_CHECKING:
    from SimpleITK import Image, ImageFileReader

NO_FACTS: Mapping[str, str] = MappingProxyType({})

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def geometry_of(
    header: str, suffix: str, shape: tuple[int, int, int], name: str
) -> tuple[np.ndarray, np.dtype]:
    """Let ITK say what a judged header means.

    It gets a copy of the header alone, so that it opens no other file, allocates nothing by what
    a header claims, and cannot find another header than the one that was judged.

    Parameters
    ----------
    header : str
        The header, with voxels behind it that are not there.
    suffix : str
        Ending of the file.
    shape : tuple of int
        What the voxels of a frame were judged to be.
    name : str
        Name for messages.

    Returns
    -------
    numpy.ndarray, numpy.dtype
        Affine (4, 4) to RAS mm, and the type of the voxels in native byte order.

    Raises
    ------
    InputError
        When a voxel has several values or its spacing or axes are unusable.
    """
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"header{suffix}"
        copy.write_text(header, encoding="latin-1")
        reader.SetFileName(str(copy))
        reader.SetImageIO(ITK_FORMATS[suffix])
        reader.ReadImageInformation()
    pixel = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    if reader.GetNumberOfComponents() != 1 or pixel not in _DTYPES:
        raise InputError(many_values(name))
    if reader.GetSize()[:3] != shape:
        raise ValueError("ITK reads another shape in the header")
    return _affine(reader, name), np.dtype(_DTYPES[pixel])


_DTYPES = {
    f"{8 * np.dtype(kind).itemsize}-bit {word}": kind
    for word, kinds in {
        "signed integer": ("i1", "i2", "i4", "i8"),
        "unsigned integer": ("u1", "u2", "u4", "u8"),
        "float": ("f4", "f8"),
    }.items()
    for kind in kinds
}


def _affine(reader: ImageFileReader, name: str) -> np.ndarray:
    n = reader.GetDimension()
    direction = np.reshape(reader.GetDirection(), (n, n))[:3, :3]
    spacing = np.array(reader.GetSpacing()[:3])
    if not (np.isfinite(spacing) & (spacing > 0)).all():
        raise InputError(
            f"{name} has a zero or negative voxel spacing; correct the spacing in its header."
        )
    if not np.allclose(np.linalg.norm(direction, axis=0), 1, atol=1e-3):
        raise InputError(
            f"{name} has axes that are not of unit length, so that its voxel spacing is unclear; "
            "correct its header or export it again."
        )
    affine = np.eye(4)
    affine[:3, :3] = _LPS_TO_RAS @ direction * spacing
    affine[:3, 3] = _LPS_TO_RAS @ reader.GetOrigin()[:3]
    return affine


def itk_image(volume: Volume) -> Image:
    """Return a volume as an image of SimpleITK, whose axes run left, posterior, superior."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(storable(volume.data).T)
    spacing = volume.spacing
    image.SetSpacing(spacing)
    image.SetOrigin((_LPS_TO_RAS @ volume.affine[:3, 3]).tolist())
    image.SetDirection((_LPS_TO_RAS @ volume.affine[:3, :3] / spacing).ravel().tolist())
    return image


def write_itk(volume: Volume, path: Path, suffix: str, facts: Mapping[str, str] = NO_FACTS) -> None:
    """Write one file, compressed, with facts for its header; ``OSError`` when the disk fails."""
    import SimpleITK as sitk

    image = itk_image(volume)
    for key, value in facts.items():
        image.SetMetaData(key, value)
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(path))
    writer.SetImageIO(ITK_FORMATS[suffix])
    writer.UseCompressionOn()
    try:
        writer.Execute(image)
    except RuntimeError as error:
        # ITK keeps the system's error to itself; the file was opened, so it is the writing.
        raise OSError(errno.EIO, "the disk is full or fails") from error
    if suffix == ".nrrd" and not _ends_whole(path, sitk.GetArrayViewFromImage(image)):
        raise OSError(errno.EIO, "the disk is full or fails")


def _ends_whole(path: Path, data: np.ndarray) -> bool:
    """Tell whether a file ends as the gzip stream of the voxels does: with their checksum and size.

    ITK says nothing when the disk does not take the last few kilobytes of an NRRD file.
    """
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 8))
        end = file.read()
    return end == struct.pack("<II", zlib.crc32(data.data), data.nbytes % 2**32)
