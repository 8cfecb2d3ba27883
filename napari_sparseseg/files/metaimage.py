"""MetaImage headers: judged here, and understood by ITK."""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

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
    "ObjectType",
    _LAST,
)


def metaimage_layout(path: Path) -> Layout:
    """Judge the header of a MetaImage; raises whatever ITK raises on a damaged one."""
    with open_regular(path) as stream:
        fields = _fields(stream)
        start = stream.tell()
    if fields.get("ObjectType", "Image") != "Image":
        raise ValueError("the file holds no image")
    counts = sizes(fields["DimSize"], fields["NDims"])
    shape, frames = split_shape(counts, path.name)
    affine, dtype, notes = _place(fields, counts, shape, path.name)
    packed = _truth(fields, "CompressedData") if _truth(fields, "BinaryData", "True") else None
    dtype = dtype.newbyteorder(_byte_order(fields))
    layout = Layout(path, shape, dtype, affine, notes, start, packed=packed, frames=frames)
    data_file, skip = fields[_LAST], int(fields.get("HeaderSize", 0))
    local = data_file.upper() == "LOCAL"
    if local and skip > 0:
        raise ValueError("the header does not say where the voxels lie")
    return with_voxels(layout, path, "" if local else data_file, skip)


def _place(
    fields: dict[str, str], counts: tuple[int, ...], shape: tuple[int, int, int], name: str
) -> tuple[np.ndarray, np.dtype, tuple[str, ...]]:
    """Return the affine to RAS mm, the dtype of the voxels and the notes."""
    if not any(key in fields for key in _SPACINGS):  # ITK would take 1 mm
        raise InputError(
            f"{name} does not give its voxel spacing; add it to its header or export it again."
        )
    affine, dtype = geometry_of(_plain_header(fields, counts), ".mha", shape, name)
    affine, notes = in_millimetres(affine, [fields.get("DistanceUnits", "")], name)
    if not any(key in fields for key in _AXES):
        notes += (f"The file does not say how its axes lie in the patient; {ASSUMED_LPS}.",)
    # Every other program leaves it out as well: it belongs to a transform that is not there.
    if any(map(float, fields.get("CenterOfRotation", "0").split())):
        notes += ("The centre of rotation that the file names was left out, as ITK does.",)
    return affine, dtype, notes


def _fields(stream: BinaryIO) -> dict[str, str]:
    """Read the fields up to the one that ends the header."""
    fields: dict[str, str] = {}
    for line in lines(stream):
        key, *value = (text.strip() for text in re.split("[=:]", line, maxsplit=1))
        if key and (not value or not value[0]):  # ITK would read the next line as its value
            raise ValueError("a line of the header is no field")
        if key in _KNOWN:  # the rest is free text
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


def _byte_order(fields: dict[str, str]) -> Literal["<", ">"]:
    names = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
    orders = {_truth(fields, name) for name in names if name in fields} or {False}
    if len(orders) > 1:
        raise ValueError("the header gives two orders of bytes")
    return ">" if orders.pop() else "<"


def _truth(fields: dict[str, str], key: str, default: str = "False") -> bool:
    return fields.get(key, default)[:1].upper() in ("T", "1")
