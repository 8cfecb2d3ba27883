"""NRRD and MetaImage, by SimpleITK."""

from __future__ import annotations

import errno
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from napari_sparseseg.errors import InputError
from napari_sparseseg.files.formats import CHUNK, ITK_FORMATS, many_values, storable
from napari_sparseseg.volume import Volume, check_shape

if TYPE_CHECKING:
    from SimpleITK import Image

NO_FACTS: Mapping[str, str] = MappingProxyType({})

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
_DATA_FILE = re.compile(rb"(?:ElementDataFile\s*=|data ?file:)\s*(.+?)\s*$", re.IGNORECASE)
_COMPRESSED = re.compile(rb"(?:CompressedData\s*=\s*True|encoding:\s*gz(?:ip)?)\s*$", re.IGNORECASE)


def read_itk(path: Path, suffix: str) -> tuple[np.ndarray, np.ndarray]:
    """Return voxels ``(I, J, K)`` and affine to RAS mm; raises whatever ITK raises."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(ITK_FORMATS[suffix])
    reader.ReadImageInformation()
    if reader.GetNumberOfComponents() != 1:
        raise InputError(many_values(path.name))
    shape = reader.GetSize()
    if max(shape[3:], default=1) == 1:
        shape = shape[:3]
    check_shape(shape, path.name)
    _check_compressed_voxels(path)
    image = reader.Execute()
    data = sitk.GetArrayFromImage(image).T  # ITK's arrays are (..., z, y, x)
    return data.reshape(data.shape[:3]), _itk_affine(image)


def _itk_affine(image: Image) -> np.ndarray:
    n = image.GetDimension()
    direction = np.reshape(image.GetDirection(), (n, n))[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = _LPS_TO_RAS @ direction * image.GetSpacing()[:3]
    affine[:3, 3] = _LPS_TO_RAS @ image.GetOrigin()[:3]
    return affine


def _check_compressed_voxels(path: Path) -> None:
    """Raise ``zlib.error`` or ``EOFError`` when compressed voxels are damaged.

    ITK returns whatever it could unpack, without an error.
    """
    compressed, data_file = False, b""
    with open(path, "rb") as stream:
        for line in stream:
            compressed |= _COMPRESSED.match(line) is not None
            match = _DATA_FILE.match(line)
            data_file = match[1] if match else data_file
            # A MetaImage header ends with its data file, a NRRD header with an empty line.
            if line.lower().startswith(b"elementdatafile") or not line.strip():
                break
        if not compressed:
            return
        if data_file in (b"", b"LOCAL"):
            _unpack(stream)
            return
    beside = path.parent / os.fsdecode(data_file)
    if beside.is_file():  # else a list or a pattern of files, which is ITK's to find
        with open(beside, "rb") as stream:
            _unpack(stream)


def _unpack(stream: BinaryIO) -> None:
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # zlib or gzip, as the data say
    while not unpacker.eof:
        chunk = stream.read(CHUNK)
        if not chunk:
            raise EOFError("the compressed voxels are cut short")
        unpacker.decompress(chunk)


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
