"""Whole-brain label maps: which FreeSurfer label is which class, and loading them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

STRUCTURES: dict[str, tuple[int, ...]] = {
    "background": (0,),
    "cerebral white matter": (2, 41, 25, 57),
    "cerebral cortex": (3, 42),
    "lateral ventricle": (4, 43, 5, 44),
    "cerebellum white matter": (7, 46),
    "cerebellum cortex": (8, 47),
    "thalamus": (10, 49),
    "caudate": (11, 50),
    "putamen": (12, 51),
    "pallidum": (13, 52),
    "3rd ventricle": (14,),
    "4th ventricle": (15,),
    "brain-stem": (16,),
    "hippocampus": (17, 53),
    "amygdala": (18, 54),
    "accumbens": (26, 58),
    "ventral DC": (28, 60),
    "CSF": (24,),
}
"""Class names in order, each with its FreeSurfer labels, left and right merged.

White-matter lesions (25, 57) belong to the white matter that they lie in.
"""

OTHER_BRAIN = (30, 62, 72, 85)
"""Inside the brain mask but in no class: vessels, 5th ventricle, optic chiasm."""

FARTHEST_RIM = 20
"""Distances from the brain are stored up to this many millimetres."""


def class_of_label(labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Map FreeSurfer labels to class indices; labels of no structure become background.

    Parameters
    ----------
    labels : ndarray of int
        Any shape, FreeSurfer numbering.
    """
    table = np.zeros(int(max(labels.max(), 0)) + 1, dtype=np.uint8)
    for index, codes in enumerate(STRUCTURES.values()):
        for code in codes:
            if code < len(table):
                table[code] = index
    return table[labels]


@dataclass(frozen=True)
class Head:
    """One label map, ready to be sampled.

    Attributes
    ----------
    tissue : ndarray of uint8
        ``(R, A, S)`` at 1 mm: index into ``Anatomy.tissues``.
    rim : ndarray of uint8
        Distance in mm to the nearest brain voxel that is not CSF, at most
        :data:`FARTHEST_RIM`.
    centre : ndarray
        ``(3,)`` voxel in the middle of the brain's bounding box.
    """

    tissue: NDArray[np.uint8]
    rim: NDArray[np.uint8]
    centre: NDArray[np.float64]


@dataclass(frozen=True)
class Anatomy:
    """Label maps with a common numbering of tissues.

    Attributes
    ----------
    heads : tuple of Head
        The maps.
    tissues : ndarray of int
        FreeSurfer label that stands for each tissue index; left and right are one tissue.
    classes : ndarray of uint8
        Class of each tissue.
    cranial : ndarray of bool
        True for the tissues outside the brain (skull, skin, eyes, neck ...).
    """

    heads: tuple[Head, ...]
    tissues: NDArray[np.integer]
    classes: NDArray[np.uint8]
    cranial: NDArray[np.bool_]


def load_anatomy(files: list[Path]) -> Anatomy:
    """Read label maps and renumber their labels.

    Parameters
    ----------
    files : list of Path
        NIfTI label maps in FreeSurfer numbering at about 1 mm.

    Raises
    ------
    FileNotFoundError
        If the list is empty or a file is missing.
    """
    if not files:
        raise FileNotFoundError("no label maps were found; check --data")
    maps = [_read_merged(file) for file in files]
    tissues = np.unique(np.concatenate([np.unique(m) for m in maps]))
    classes = class_of_label(tissues)
    inside = (classes > 0) | np.isin(tissues, OTHER_BRAIN)
    cranial = (tissues > 0) & ~inside
    csf = list(STRUCTURES).index("CSF")
    solid = inside & (classes != csf)
    heads = tuple(_make_head(np.searchsorted(tissues, m).astype(np.uint8), solid) for m in maps)
    return Anatomy(heads, tissues, classes, cranial)


def _read_merged(file: Path) -> NDArray[np.int64]:
    image = nib.as_closest_canonical(nib.load(file))
    labels = np.rint(np.asarray(image.dataobj)).astype(np.int64)
    for codes in (*STRUCTURES.values(), (30, 62)):
        for code in codes[1:]:
            labels[labels == code] = codes[0]
    return labels


def _make_head(tissue: NDArray[np.uint8], solid: NDArray[np.bool_]) -> Head:
    box = ndimage.find_objects((tissue > 0).astype(np.uint8))[0]
    tissue = np.ascontiguousarray(tissue[box])
    brain = solid[tissue]
    distance = ndimage.distance_transform_edt(~brain)
    rim = np.minimum(distance, FARTHEST_RIM).astype(np.uint8)
    inner = ndimage.find_objects(brain.astype(np.uint8))[0]
    centre = np.array([(s.start + s.stop - 1) / 2 for s in inner])
    return Head(tissue, rim, centre)
