"""Standard codes of structures, so that an exported DICOM segmentation says what they are.

The codes are SNOMED CT's, as the DICOM master list that comes with Slicer has them.
"""

from __future__ import annotations

_CONTEXT = "Segmentation category and type - DICOM master list"
_CATEGORY = "SCT^123037004^Anatomical Structure"
_NONE = "^^"
_REGIONS = "Anatomic codes - DICOM master list"
_RIGHT, _LEFT = "SCT^24028007^Right", "SCT^7771000^Left"

_CODES = {
    "cerebral white matter": ("68523003", "Cerebral White Matter", _NONE),
    "cerebral cortex": ("40146001", "Cerebral cortex", _NONE),
    "lateral ventricle": ("66720007", "Lateral ventricle", _NONE),
    "cerebellum white matter": ("33060004", "Cerebellar white matter", _NONE),
    "thalamus": ("42695009", "Thalamus", _NONE),
    "caudate": ("11000004", "Caudate nucleus", _NONE),
    "putamen": ("89278009", "Putamen", _NONE),
    "pallidum": ("14738005", "Globus pallidus", _NONE),
    "3rd ventricle": ("49841001", "Third ventricle", _NONE),
    "4th ventricle": ("35918002", "Fourth ventricle", _NONE),
    "brain-stem": ("119238007", "Brain stem", _NONE),
    "brainstem": ("119238007", "Brain stem", _NONE),
    "hippocampus": ("5366008", "Hippocampus", _NONE),
    "amygdala": ("4958002", "Amygdala", _NONE),
    "accumbens": ("427667007", "Nucleus accumbens", _NONE),
    "CSF": ("65216001", "Cerebrospinal Fluid", _NONE),
    "spinal cord": ("2748008", "Spinal cord", _NONE),
    "right parotid": ("45289007", "Parotid gland", _RIGHT),
    "left parotid": ("45289007", "Parotid gland", _LEFT),
}


def terminology_of(structure: str) -> str | None:
    """Return a structure's terminology entry as Slicer writes it, None if it has no code."""
    if structure not in _CODES:
        return None
    code, meaning, side = _CODES[structure]
    kind = f"SCT^{code}^{meaning}"
    return "~".join((_CONTEXT, _CATEGORY, kind, side, _REGIONS, _NONE, _NONE))
