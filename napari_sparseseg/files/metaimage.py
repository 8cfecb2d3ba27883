"""MetaImage headers: judged here, and understood by ITK."""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

from napari_sparseseg.errors import InputError
from napari_sparseseg.files.headers import add_once, lines, numbers, sizes, with_voxels, word
from napari_sparseseg.files.itk import geometry_of
from napari_sparseseg.files.layout import Layout, open_regular, split_shape
from napari_sparseseg.files.placing import ASSUMED_LPS, in_millimetres

_LAST = "ElementDataFile"
_AXES = ("TransformMatrix", "Rotation", "Orientation")
_PLACES = ("Offset", "Position", "Origin")
_SPACINGS = ("ElementSpacing", "ElementSize")
_KNOWN = (
    *_AXES,
    *_PLACES,
    *_SPACINGS,
    "BinaryData",
    "BinaryDataByteOrderMSB",
    "CenterOfRotation",
    "CompressedData",
    "DimSize",
    "DistanceUnits",
    "ElementByteOrderMSB",
    "ElementNumberOfChannels",
    "ElementType",
    "HeaderSize",
    "NDims",
    _LAST,
)


def metaimage_layout(path: Path) -> Layout:
    """Judge the header of a MetaImage; raises whatever ITK raises on a damaged one."""
    with open_regular(path) as stream:
        fields = _fields(stream)
        start = stream.tell()
    counts = sizes(fields["DimSize"], fields["NDims"])
    shape, frames = split_shape(counts, path.name)
    if not any(key in fields for key in _SPACINGS):  # ITK would take 1 mm
        raise InputError(
            f"{path.name} does not give its voxel spacing; add it to its header or export it again."
        )
    affine, dtype = geometry_of(_plain_header(fields, counts), ".mha", shape, path.name)
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
    if not data_file:
        raise ValueError("the header names no file of voxels")
    local = data_file.upper() == "LOCAL"
    skip = int(fields.get("HeaderSize", 0))
    if local and skip > 0:
        raise ValueError("a header of a length of its own")
    return with_voxels(layout, path, "" if local else data_file, skip)


def _fields(stream: BinaryIO) -> dict[str, str]:
    """Read the fields up to the one that ends the header."""
    fields: dict[str, str] = {}
    for line in lines(stream):
        key, *value = (text.strip() for text in re.split("[=:]", line, maxsplit=1))
        if key in _KNOWN and value:  # the rest is free text
            add_once(fields, key, value[0])
        if key == _LAST:
            return fields
    raise ValueError("the header does not end")


def _plain_header(fields: dict[str, str], counts: tuple[int, ...]) -> str:
    """Write a header with all that ITK needs to place the voxels, and nothing else."""
    n = len(counts)
    plain = {
        "ObjectType": "Image",
        "NDims": str(n),
        "BinaryData": "True",
        "DimSize": " ".join(map(str, counts)),
        "ElementNumberOfChannels": str(int(fields.get("ElementNumberOfChannels", 1))),
    }
    for names, length in ((_AXES, n * n), (_PLACES, n), (_SPACINGS, n)):
        given = [name for name in names if name in fields]
        if len(given) > 1 and names is not _SPACINGS:  # of which programs take either
            raise ValueError("the header says one thing twice")
        if given:
            plain[given[0]] = numbers(fields[given[0]], length)
    plain |= {"ElementType": word(fields["ElementType"]), _LAST: "LOCAL"}
    return "".join(f"{key} = {value}\n" for key, value in plain.items())


def _is_big(fields: dict[str, str]) -> bool:
    return _truth(fields, "BinaryDataByteOrderMSB") or _truth(fields, "ElementByteOrderMSB")


def _truth(fields: dict[str, str], key: str, default: str = "False") -> bool:
    return fields.get(key, default)[:1].upper() in ("T", "1")
