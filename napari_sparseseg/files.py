"""Volumes from and to files: NIfTI, NRRD and MetaImage, written whole or not at all."""

from __future__ import annotations

import errno
import gzip
import os
import re
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from napari_sparseseg.errors import InputError, OutputError
from napari_sparseseg.volume import Volume, check_shape

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Image
    from SimpleITK import Image

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
"""File name endings that can be read and written."""

TEMPORARY = ".sparseseg-"
"""How the names of files begin that are not finished, or that wait to be put back."""

_ITK_FORMATS = {
    ".nrrd": "NrrdImageIO",
    ".nhdr": "NrrdImageIO",
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
}
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
_CHUNK = 1 << 20
_DATA_FILE = re.compile(rb"(?:ElementDataFile\s*=|data ?file:)\s*(.+?)\s*$", re.IGNORECASE)
_COMPRESSED = re.compile(rb"(?:CompressedData\s*=\s*True|encoding:\s*gz(?:ip)?)\s*$", re.IGNORECASE)


def read_volume(path: str | os.PathLike[str]) -> Volume:
    """Read a scan or a label map.

    Parameters
    ----------
    path : path-like
        A file that ends in one of `SUFFIXES`. A 4-D file with one frame is read as 3-D.

    Returns
    -------
    Volume
        Voxels (I, J, K) in the file's index order, scaled as the file says, with the affine to
        RAS mm. For NIfTI the sform counts, else the qform. The name is that of the file.
        Values are not judged: see `Volume.validated`.

    Raises
    ------
    InputError
        When the file is missing, damaged, of another format, or not one 3-D frame with one
        real number per voxel.
    """
    path = Path(path)
    suffix = _image_suffix(path) or ""
    try:
        _check_source(path, suffix)
        data, affine = _read_itk(path, suffix) if suffix in _ITK_FORMATS else _read_nifti(path)
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(f"{path} may not be read; change its permissions.") from error
    except MemoryError as error:
        raise InputError(
            f"{path.name} does not fit into memory; crop or downsample it first."
        ) from error
    except Exception as error:  # the libraries raise a zoo of types on a damaged file
        raise InputError(
            f"{path.name} cannot be read: it is damaged, cut short or not a {suffix} image; "
            "export it again."
        ) from error
    return Volume(data, affine, path.name[: -len(suffix)] or path.name)


def write_volume(volume: Volume, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a scan or a label map, whole or not at all.

    NIfTI gets the affine as sform and qform (code 1, scanner). ``.nhdr`` and ``.mhd`` files
    hold header and voxels in one file, as both formats allow: two could not be replaced at once.

    Parameters
    ----------
    volume : Volume
        Voxels (I, J, K); for NIfTI also (I, J, K, N) with the frames last. The dtype is kept;
        bool becomes uint8 and float16 becomes float32.
    path : path-like
        A file name that ends in one of `SUFFIXES`, in an existing folder.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    OutputError
        When the ending is unknown, the file exists, or the folder does not take it.
    """
    path = Path(path)
    suffix = _image_suffix(path)
    if suffix is None:
        raise OutputError(f"{path.name} has an unknown ending; use one of {', '.join(SUFFIXES)}.")
    if suffix in _ITK_FORMATS:
        if volume.data.ndim != 3:
            raise OutputError(f"{path.name} cannot hold several frames; write .nii.gz instead.")
        one_file = ".nrrd" if suffix in (".nrrd", ".nhdr") else ".mha"
        with _replaced(path, one_file, overwrite) as temporary:
            _write_itk(volume, temporary, one_file)
    else:
        with _replaced(path, suffix, overwrite) as temporary:
            _write_nifti(volume, temporary)


def _check_source(path: Path, suffix: str) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder; choose an image file ({', '.join(SUFFIXES)}).")
    if not suffix:
        raise InputError(f"{path.name} has an unknown ending; use one of {', '.join(SUFFIXES)}.")
    if not path.exists():
        raise InputError(f"{path} does not exist; check the name and the folder.")


@contextmanager
def atomic_path(
    path: str | os.PathLike[str], *, overwrite: bool = False, durable: bool = True
) -> Iterator[Path]:
    """Give a temporary path that becomes `path` when the block succeeds.

    Parameters
    ----------
    path : path-like
        The file to write, in an existing folder.
    overwrite : bool
        Replace an existing file.
    durable : bool
        Wait until it is on the disk; a file that is read at once and then removed need not be.

    Yields
    ------
    pathlib.Path
        An empty file in the same folder, with the same full suffix (``.nii.gz``), to write to.
        When the block raises, it is removed and `path` is as before.

    Raises
    ------
    OutputError
        When `path` exists, its folder is missing or read-only, or the disk is full; also for an
        ``OSError`` that the block raises.
    """
    path = Path(path)
    suffixes = path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]
    with _replaced(path, "".join(suffixes), overwrite, durable) as temporary:
        yield temporary


@contextmanager
def _replaced(path: Path, suffix: str, overwrite: bool, durable: bool = True) -> Iterator[Path]:
    """Do the work of `atomic_path` with a chosen suffix of the temporary file."""
    temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}{suffix}"
    try:
        _check_target(path, overwrite)
        # Not tempfile: its files are private, this one shall have the usual permissions.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        if durable:
            with open(temporary, "rb+") as stream:
                os.fsync(stream.fileno())
        _check_target(path, overwrite)  # another program may have written it meanwhile
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {_reason(error)}.") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _check_target(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give the name of a file in it.")
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent} is not an existing folder; create it or choose another.")
    if not overwrite and os.path.lexists(path):
        raise OutputError(f"{path} exists already; allow overwriting or choose another name.")


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space or choose another folder"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "the folder is read-only; choose another folder"
    return f"{error.strerror or error}; choose another name or folder"


def _image_suffix(path: Path) -> str | None:
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


# NIfTI


def _read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with _open_plain_or_gzip(path) as stream:
        image = _nifti_class(stream).from_stream(stream)
        _check_nifti_header(image, stream, path.name)
        data = np.asanyarray(image.dataobj)
        if isinstance(data, np.memmap):  # the file may change or vanish under a mapping
            data = np.array(data)
        # Only the end of a gzip stream tells whether all of it was intact.
        while stream.read(_CHUNK):
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
        raise InputError(_many_values(file_name))
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


def _write_nifti(volume: Volume, path: Path) -> None:
    import nibabel as nib

    data = _storable(volume.data)
    image = nib.Nifti1Image(data, volume.affine, dtype=data.dtype)
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.affine, code="scanner")
    image.set_qform(volume.affine, code="scanner")
    nib.save(image, path)


# NRRD and MetaImage


def _read_itk(path: Path, suffix: str) -> tuple[np.ndarray, np.ndarray]:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(_ITK_FORMATS[suffix])
    reader.ReadImageInformation()
    if reader.GetNumberOfComponents() != 1:
        raise InputError(_many_values(path.name))
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
        chunk = stream.read(_CHUNK)
        if not chunk:
            raise EOFError("the compressed voxels are cut short")
        unpacker.decompress(chunk)


def itk_image(volume: Volume) -> Image:
    """Return a volume as an image of SimpleITK, whose axes run left, posterior, superior."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(_storable(volume.data).T)
    spacing = volume.spacing
    image.SetSpacing(spacing)
    image.SetOrigin((_LPS_TO_RAS @ volume.affine[:3, 3]).tolist())
    image.SetDirection((_LPS_TO_RAS @ volume.affine[:3, :3] / spacing).ravel().tolist())
    return image


def _write_itk(volume: Volume, path: Path, suffix: str) -> None:
    import SimpleITK as sitk

    image = itk_image(volume)
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(path))
    writer.SetImageIO(_ITK_FORMATS[suffix])
    writer.UseCompressionOn()
    try:
        writer.Execute(image)
    except RuntimeError as error:
        # ITK keeps the system's error to itself; the file was opened, so it is the writing.
        raise OSError(errno.EIO, "the disk is full or fails") from error


def _storable(data: np.ndarray) -> np.ndarray:
    """Turn the dtypes that no image format knows into the next larger one."""
    if data.dtype.kind == "b":
        return data.astype(np.uint8)
    return data.astype(np.float32) if data.dtype == np.float16 else data


def _many_values(file_name: str) -> str:
    return (
        f"{file_name} holds several values per voxel (colour, vector or complex); choose a scan "
        "with one real number per voxel."
    )
