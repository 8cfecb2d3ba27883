"""What the requests take: one dataclass a method, checked before anything is done."""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from napari_sparseseg.worker.failures import INVALID_PARAMS, Refusal

Matrix = list[list[float]]
Number = float | None

T = TypeVar("T")


@dataclass(frozen=True)
class Nothing:
    """Parameters of a method that takes none."""


@dataclass(frozen=True)
class Hello:
    """Parameters of ``hello``: the version that the host speaks, and its name."""

    protocol: int
    host: str = ""


@dataclass(frozen=True)
class VolumeFile:
    """A scan: the file of its voxels, their place in the patient, and a name for messages."""

    data: str
    affine: Matrix
    name: str = "scan"


@dataclass(frozen=True)
class Open:
    """Parameters of ``open``; all but the volume are those of ``Segmenter``."""

    volume: VolumeFile
    model: str
    device: str = "auto"
    precision: str = "auto"
    sparsifier: str = ""
    memory_gb: Number = None


@dataclass(frozen=True)
class Run:
    """Parameters of ``run``: a setting, the model's default for None, and whether to compare."""

    setting: Number = None
    compare_dense: bool = False


@dataclass(frozen=True)
class Preview:
    """Parameters of ``preview``."""

    setting: float


def decode(kind: type[T], params: object, where: str) -> T:
    """Make a dataclass of JSON data.

    Parameters
    ----------
    kind : type
        The dataclass.
    params : object
        The data.
    where : str
        What the data is, for messages.

    Raises
    ------
    Refusal
        If something is missing, unknown, of the wrong type, or a number that is not finite.
    """
    if not isinstance(params, dict):
        raise _invalid(f"{where} is not an object")
    assert is_dataclass(kind)
    known = {field.name: field for field in fields(kind)}
    if unknown := params.keys() - known:
        takes = ", ".join(known) or "nothing"
        raise _invalid(f"{where} has the unknown member '{min(unknown)}'; it takes {takes}")
    for name, field in known.items():
        if field.default is MISSING and name not in params:
            raise _invalid(f"{where}.{name} is missing")
    hints = get_type_hints(kind)
    values = {
        name: _checked(value, hints[name], f"{where}.{name}") for name, value in params.items()
    }
    return kind(**values)


def _checked(value: Any, hint: Any, where: str) -> Any:
    if is_dataclass(hint) and isinstance(hint, type):
        return decode(hint, value, where)
    if hint == Matrix:
        return _matrix(value, where)
    if hint == Number and value is None:
        return None
    if hint in (float, Number):
        return _number(value, where)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise _invalid(f"{where} is not {_NAMES[hint]}")
    return value


_NAMES = {str: "a string", int: "an integer", bool: "true or false"}


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _invalid(f"{where} is not a number")
    # an integer can be too large for a float
    if abs(value) > 1e300 or not math.isfinite(value):
        raise _invalid(f"{where} is not a finite number")
    return float(value)


def _matrix(value: Any, where: str) -> Matrix:
    rows = value if isinstance(value, list) else []
    if len(rows) != 4 or any(not isinstance(row, list) or len(row) != 4 for row in rows):
        raise _invalid(f"{where} is not a list of four rows of four numbers")
    return [[_number(number, where) for number in row] for row in rows]


def _invalid(reason: str) -> Refusal:
    return Refusal(f"The request cannot be followed: {reason}.", INVALID_PARAMS)
