"""Volumes from and to files: NIfTI, NRRD and MetaImage, written whole or not at all."""

from napari_sparseseg.files.atomic import TEMPORARY, atomic_path
from napari_sparseseg.files.formats import SUFFIXES
from napari_sparseseg.files.itk import itk_image
from napari_sparseseg.files.reading import read_volume
from napari_sparseseg.files.segments import LABEL_SUFFIXES, write_labels, write_names
from napari_sparseseg.files.writing import write_volume

__all__ = [
    "LABEL_SUFFIXES",
    "SUFFIXES",
    "TEMPORARY",
    "atomic_path",
    "itk_image",
    "read_volume",
    "write_labels",
    "write_names",
    "write_volume",
]
