"""Volumes from and to files: NIfTI, NRRD and MetaImage, written whole or not at all.

Analyze 7.5 and NIfTI in two files can be read only.
"""

from napari_sparseseg.files.atomic import TEMPORARY, atomic_path
from napari_sparseseg.files.formats import READABLE, SUFFIXES
from napari_sparseseg.files.itk import itk_image
from napari_sparseseg.files.parts import Part, parts
from napari_sparseseg.files.reading import read_volume
from napari_sparseseg.files.segments import LABEL_SUFFIXES, write_labels, write_names
from napari_sparseseg.files.writing import write_volume

__all__ = [
    "LABEL_SUFFIXES",
    "READABLE",
    "SUFFIXES",
    "TEMPORARY",
    "Part",
    "atomic_path",
    "itk_image",
    "parts",
    "read_volume",
    "write_labels",
    "write_names",
    "write_volume",
]
