"""Volumes from files."""

from __future__ import annotations

import os
from pathlib import Path

from napari_sparseseg.errors import InputError
from napari_sparseseg.files.formats import ITK_FORMATS, SUFFIXES, image_suffix
from napari_sparseseg.files.itk import read_itk
from napari_sparseseg.files.nifti import read_nifti
from napari_sparseseg.volume import Volume


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
    suffix = image_suffix(path) or ""
    try:
        _check_source(path, suffix)
        data, affine = read_itk(path, suffix) if suffix in ITK_FORMATS else read_nifti(path)
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


def _check_source(path: Path, suffix: str) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder; choose an image file ({', '.join(SUFFIXES)}).")
    if not suffix:
        raise InputError(f"{path.name} has an unknown ending; use one of {', '.join(SUFFIXES)}.")
    if not path.exists():
        raise InputError(f"{path} does not exist; check the name and the folder.")
