"""NRRD headers: judged here, and understood by ITK."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from napari_sparseseg.errors import InputError
from napari_sparseseg.files.formats import many_values
from napari_sparseseg.files.headers import add_once, lines, numbers, sizes, with_voxels, word
from napari_sparseseg.files.itk import geometry_of
from napari_sparseseg.files.layout import Layout, open_regular, split_shape
from napari_sparseseg.files.placing import ASSUMED_LPS, in_millimetres

_PACKED = {"raw": False, "gz": True, "gzip": True}
_NAMES = (
    *("axis maxs", "axis mins", "block size", "byte skip", "centers", "content", "data file"),
    *(
        "dimension",
        "encoding",
        "endian",
        "kinds",
        "labels",
        "line skip",
        "max",
        "measurement frame",
    ),
    *("min", "number", "old max", "old min", "sample units", "sizes", "space", "space dimension"),
    *(
        "space directions",
        "space origin",
        "space units",
        "spacings",
        "thicknesses",
        "type",
        "units",
    ),
)
_FIELDS = {name.replace(" ", ""): name for name in _NAMES} | {"centerings": "centers"}
_FRAME_KINDS = ("list", "time")
_GRID_KINDS = ("domain", "space", "???", "none")
_SPACES = {
    "right-anterior-superior": "RAS",
    "left-posterior-superior": "LPS",
    "left-anterior-superior": "LAS",
    **{name + time: name.upper() for name in ("ras", "lps", "las") for time in ("", "t")},
}
_NAMELESS = ("scanner-xyz", "3d-right-handed")
_VECTOR = re.compile(r"none|\([^()]*\)")


def nrrd_layout(path: Path) -> Layout:
    """Judge the header of a NRRD file; raises whatever ITK raises on a damaged one."""
    with open_regular(path) as stream:
        fields = _fields(stream)
        start = stream.tell()
    counts = sizes(fields["sizes"], fields["dimension"])
    axis = _frame_axis(fields, counts, path.name)
    grid = tuple(count for place, count in enumerate(counts) if place != axis)
    shape, frames = split_shape(grid if axis is None else (*grid, counts[axis]), path.name)
    affine, dtype, notes = _place(fields, shape, axis, path.name)
    dtype = dtype.newbyteorder(_byte_order(fields.get("endian", "").lower(), dtype.itemsize))
    layout = Layout(path, shape, dtype, affine, notes, start, frames=frames, interleaved=axis == 0)
    if int(fields.get("line skip", 0)):
        raise InputError(
            f"{path.name} skips lines of text before its voxels, which is not read; save it again "
            "as one .nrrd file."
        )
    return with_voxels(
        replace(layout, packed=_PACKED.get(fields["encoding"].lower())),
        path,
        fields.get("data file", ""),
        int(fields.get("byte skip", 0)),
    )


def _byte_order(endian: str, itemsize: int) -> Literal["<", ">"]:
    if endian not in ("big", "little") and itemsize > 1:
        raise ValueError("the header does not give the order of bytes")
    return ">" if endian == "big" else "<"


def _fields(stream: BinaryIO) -> dict[str, str]:
    """Read the fields up to the empty line that ends the header, in small letters."""
    header = lines(stream)
    if re.fullmatch(r"NRRD000[1-6]", next(header, "")) is None:
        raise ValueError("no NRRD header")
    fields: dict[str, str] = {}
    for line in header:
        if not line.strip():
            break
        if line.startswith("#") or ":=" in line:  # remarks and free text
            continue
        key, _, value = line.partition(":")
        add_once(fields, _FIELDS[key.lower().replace(" ", "")], value)
    return fields


def _frame_axis(fields: dict[str, str], counts: tuple[int, ...], name: str) -> int | None:
    """Find the axis that counts frames, None if there is none."""
    kinds = fields.get("kinds", "").lower().split() or ["???"] * len(counts)
    if len(kinds) != len(counts):
        raise ValueError("as many kinds as dimensions are needed")
    if any(kind not in (*_FRAME_KINDS, *_GRID_KINDS) for kind in kinds):
        raise InputError(many_values(name))
    if len(counts) < 4:
        if any(kind in _FRAME_KINDS for kind in kinds):
            raise InputError(
                f"{name} holds 2-D frames; choose a single 3-D scan (not a slice or a film)."
            )
        return None
    directions = _VECTOR.findall(fields.get("space directions", ""))
    marked = [place for place, kind in enumerate(kinds) if kind in _FRAME_KINDS]
    marked = marked or [place for place, vector in enumerate(directions) if vector == "none"]
    axis = marked[0] if marked else len(counts) - 1
    if len(counts) > 4 or len(marked) > 1 or axis not in (0, len(counts) - 1):
        raise InputError(
            f"{name} has {len(counts)} dimensions; choose a 3-D scan or one with frames along its "
            "first or last axis."
        )
    return axis


def _place(
    fields: dict[str, str], shape: tuple[int, int, int], axis: int | None, name: str
) -> tuple[np.ndarray, np.dtype, tuple[str, ...]]:
    """Return the affine to RAS mm, the dtype of the voxels and the notes."""
    plain = {"type": word(fields["type"]), "dimension": "3", "sizes": " ".join(map(str, shape))}
    if "space directions" in fields:
        added, notes = _oriented(fields, axis, name)
    else:
        added, notes = _unoriented(fields, axis, name)
    plain |= {**added, "endian": "little", "encoding": "raw"}
    header = "\n".join(["NRRD0005", *(f"{key}: {value}" for key, value in plain.items()), "", ""])
    affine, dtype = geometry_of(header, ".nrrd", shape, name)
    named = fields.get("space units") or fields.get("units", "")
    units = _without(re.findall(r'"([^"]*)"', named), axis if "units" in fields else None)[:3]
    affine, about_units = in_millimetres(affine, units, name)
    return affine, dtype, (*notes, *about_units)


def _oriented(
    fields: dict[str, str], axis: int | None, name: str
) -> tuple[dict[str, str], list[str]]:
    """Return what places a frame in a space of three dimensions."""
    space = fields.get("space", "").lower().removesuffix("-time")
    if space.startswith("3d-left-handed"):
        raise InputError(
            f"{name} is placed in a mirrored space, in which left is not known; export it again "
            "in a space such as left-posterior-superior."
        )
    known = _SPACES.get(space)
    nameless = fields.get("space dimension") if not space else space in _NAMELESS
    if known is None and not nameless:
        raise ValueError("directions without a space")
    vectors = _without(_VECTOR.findall(fields["space directions"]), axis)
    plain = {
        "space": known or "LPS",
        "space directions": " ".join(_three(vector) for vector in vectors),
        "space origin": _three(fields.get("space origin", "(0,0,0)")),
    }
    return plain, [] if known else [f"The file does not name its space; {ASSUMED_LPS}."]


def _unoriented(
    fields: dict[str, str], axis: int | None, name: str
) -> tuple[dict[str, str], list[str]]:
    """Return the spacing of a file that knows no directions; ITK takes 1 mm where it is missing."""
    steps = _without(fields.get("spacings", "").split(), axis)
    if len(steps) != 3 or not np.isfinite([float(step) for step in steps]).all():
        raise InputError(
            f"{name} does not give its voxel spacing; add it to its header or export it again."
        )
    plain = {"spacings": numbers(" ".join(steps), 3)}
    for key in ("axis mins", "axis maxs"):  # which make the origin
        if key in fields:
            plain[key] = numbers(" ".join(_without(fields[key].split(), axis)), 3)
    if "centers" in fields:
        plain["centers"] = " ".join(word(c) for c in _without(fields["centers"].split(), axis))
    return plain, [f"The file does not say how its axes lie in the patient; {ASSUMED_LPS}."]


def _without(values: list[str], axis: int | None) -> list[str]:
    return [value for place, value in enumerate(values) if place != axis]


def _three(vector: str) -> str:
    """Return the first three coordinates of a vector, whose fourth is time."""
    coordinates = [float(number) for number in vector.strip("() ").split(",")]
    if len(coordinates) not in (3, 4):
        raise ValueError("a vector of the header has not three coordinates")
    return "(" + ",".join(map(repr, coordinates[:3])) + ")"
