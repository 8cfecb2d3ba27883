"""What the values of a label map stand for: names, colours and standard codes.

The codes are SNOMED CT's, as the DICOM master list that comes with 3D Slicer has them. This is
their only home: hosts get them from the worker, with each structure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from napari_sparseseg.errors import InputError


class Code(NamedTuple):
    """What a structure is, for programs.

    Attributes
    ----------
    value, meaning : str
        Code of SNOMED CT, and its words.
    side : str
        "left", "right", or "" where the structure is not one of a pair.
    """

    value: str
    meaning: str
    side: str = ""


_CODES = {
    "cerebral white matter": Code("68523003", "Cerebral White Matter"),
    "cerebral cortex": Code("40146001", "Cerebral cortex"),
    "lateral ventricle": Code("66720007", "Lateral ventricle"),
    "cerebellum white matter": Code("33060004", "Cerebellar white matter"),
    "thalamus": Code("42695009", "Thalamus"),
    "caudate": Code("11000004", "Caudate nucleus"),
    "putamen": Code("89278009", "Putamen"),
    "pallidum": Code("14738005", "Globus pallidus"),
    "3rd ventricle": Code("49841001", "Third ventricle"),
    "4th ventricle": Code("35918002", "Fourth ventricle"),
    "brain-stem": Code("119238007", "Brain stem"),
    "brainstem": Code("119238007", "Brain stem"),
    "hippocampus": Code("5366008", "Hippocampus"),
    "amygdala": Code("4958002", "Amygdala"),
    "accumbens": Code("427667007", "Nucleus accumbens"),
    "CSF": Code("65216001", "Cerebrospinal Fluid"),
    "spinal cord": Code("2748008", "Spinal cord"),
    "right parotid": Code("45289007", "Parotid gland", "right"),
    "left parotid": Code("45289007", "Parotid gland", "left"),
}

CATEGORY = Code("123037004", "Anatomical Structure")
"""What all structures are."""

# Slicer's words for where its codes come from, and for no code.
_CONTEXT = "Segmentation category and type - DICOM master list"
_REGIONS = "Anatomic codes - DICOM master list"
_NONE = "^^"

SIDES = {"right": Code("24028007", "Right"), "left": Code("7771000", "Left")}
"""Codes of the sides."""


@dataclass(frozen=True)
class Structure:
    """One structure of a label map.

    Attributes
    ----------
    value : int
        Value of its voxels, from 1.
    name : str
        Name for people.
    color : str
        "#rrggbb".
    """

    value: int
    name: str
    color: str

    @property
    def code(self) -> Code | None:
        """What it is for programs, None where no standard code is known."""
        return _CODES.get(self.name)

    @property
    def terminology(self) -> str | None:
        """The code as 3D Slicer writes it, None where no standard code is known."""
        if self.code is None:
            return None
        side = "^".join(("SCT", *SIDES[self.code.side][:2])) if self.code.side else _NONE
        category, kind = (f"SCT^{code.value}^{code.meaning}" for code in (CATEGORY, self.code))
        return "~".join((_CONTEXT, category, kind, side, _REGIONS, _NONE, _NONE))

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green and blue, from 0 to 255."""
        red, green, blue = bytes.fromhex(self.color[1:7])
        return red, green, blue


def structures_of(classes: Sequence[str], colors: Sequence[str]) -> tuple[Structure, ...]:
    """Return the structures of a model.

    Parameters
    ----------
    classes, colors : sequence of str
        Class names and "#rrggbb" colours; index 0 is background, which is left out.
    """
    pairs = zip(classes[1:], colors[1:], strict=True)
    return tuple(Structure(value, *pair) for value, pair in enumerate(pairs, start=1))


def class_indices(classes: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    """Return the indices of some classes of a model, in the order of the names; all for none.

    Raises
    ------
    InputError
        If a name is not that of a class.
    """
    for name in names:
        if name not in classes:
            raise InputError(
                f"The model has no class '{name}'; choose one of: {', '.join(classes)}."
            )
    return tuple(classes.index(name) for name in names) or tuple(range(len(classes)))
