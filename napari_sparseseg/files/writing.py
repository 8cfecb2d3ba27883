"""Volumes to files, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from napari_sparseseg.errors import OutputError
from napari_sparseseg.files.atomic import replaced
from napari_sparseseg.files.formats import ITK_FORMATS, SUFFIXES, image_suffix
from napari_sparseseg.files.itk import write_itk
from napari_sparseseg.files.nifti import write_nifti
from napari_sparseseg.volume import Volume


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
    suffix = image_suffix(path)
    if suffix is None:
        raise OutputError(f"{path.name} has an unknown ending; use one of {', '.join(SUFFIXES)}.")
    if suffix in ITK_FORMATS:
        if volume.data.ndim != 3:
            raise OutputError(f"{path.name} cannot hold several frames; write .nii.gz instead.")
        one_file = ".nrrd" if suffix in (".nrrd", ".nhdr") else ".mha"
        with replaced(path, one_file, overwrite) as temporary:
            write_itk(volume, temporary, one_file)
    else:
        with replaced(path, suffix, overwrite) as temporary:
            write_nifti(volume, temporary)
