"""MetaImage headers: judged here, and understood by ITK."""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

from napari_sparseseg.errors import InputError
from napari_sparseseg.files.headers import add_once, integers, lines, with_voxels
from napari_sparseseg.files.itk import geometry_of
from napari_sparseseg.files.layout import Layout, open_regular, split_shape
from napari_sparseseg.files.placing import ASSUMED_LPS, in_millimetres

_FIELD = re.compile(r"\s*(\w+)\s*[=:]\s*(.*)")
_LAST = "ElementDataFile"
_AXES = ("TransformMatrix", "Rotation", "Orientation")
_PLACES = ("Offset", "Position", "Origin")
_SPACINGS = ("ElementSpacing", "ElementSize")
# What ITK needs to place the voxels; it is told nothing else.
_PASSED = ("ObjectType", "NDims", "DimSize", "ElementType", "ElementNumberOfChannels")


def metaimage_layout(path: Path) -> Layout:
    """Judge the header of a MetaImage; raises whatever ITK raises on a damaged one."""
    with open_regular(path) as stream:
        fields = _fields(stream)
        start = stream.tell()
    sizes = integers(fields["DimSize"])
    if len(sizes) != int(fields["NDims"]):
        raise ValueError("as many sizes as dimensions are needed")
    shape, frames = split_shape(sizes, path.name)
    if not any(key in fields for key in _SPACINGS):  # ITK would take 1 mm
        raise InputError(
            f"{path.name} does not give its voxel spacing; add it to its header or export it again."
        )
    affine, dtype = geometry_of(_plain_header(fields), ".mha", shape, path.name)
    affine, notes = in_millimetres(affine, [fields.get("DistanceUnits", "")], path.name)
    if not any(key in fields for key in _AXES):
        notes += (f"The file does not say how its axes lie in the patient; {ASSUMED_LPS}.",)
    # Every other program leaves it out as well: it belongs to a transform that is not there.
    if any(map(float, fields.get("CenterOfRotation", "0").split())):
        notes += ("The centre of rotation that the file names was left out, as ITK does.",)
    dtype = dtype.newbyteorder(">" if _is_big(fields) else "<")
    packed = _truth(fields, "CompressedData") if _truth(fields, "BinaryData", "True") else None
    layout = Layout(path, shape, dtype, affine, notes, start, packed=packed, frames=frames)
    data_file = fields[_LAST]
    local = data_file.upper() == "LOCAL"
    return with_voxels(layout, path, "" if local else data_file, int(fields.get("HeaderSize", 0)))


def _fields(stream: BinaryIO) -> dict[str, str]:
    """Read the fields up to the one that ends the header."""
    fields: dict[str, str] = {}
    for line in lines(stream):
        if not line.strip() or line.startswith("#"):
            continue
        match = _FIELD.fullmatch(line)
        if match is None:
            raise ValueError("a line of the header is no field")
        add_once(fields, match[1], match[2])
        if match[1] == _LAST:
            return fields
    raise ValueError("the header names no file of voxels")


def _plain_header(fields: dict[str, str]) -> str:
    for names in (_AXES, _PLACES, _SPACINGS):  # of which programs take either
        if sum(name in fields for name in names) > (2 if names is _SPACINGS else 1):
            raise ValueError("the header says one thing twice")
    passed = (*_PASSED, *_AXES, *_PLACES, *_SPACINGS)
    plain = [f"{key} = {value}" for key, value in fields.items() if key in passed]
    return "\n".join([*plain, "BinaryData = True", f"{_LAST} = LOCAL", ""])


def _is_big(fields: dict[str, str]) -> bool:
    return _truth(fields, "BinaryDataByteOrderMSB") or _truth(fields, "ElementByteOrderMSB")


def _truth(fields: dict[str, str], key: str, default: str = "False") -> bool:
    return fields.get(key, default)[:1].upper() in ("T", "1", "Y")
