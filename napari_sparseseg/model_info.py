"""What is known of a model without its weights, and the judging of what a file says of itself."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from napari_sparseseg.methods import METHODS

FORMAT = 2
MAX_CLASSES = 256
"""Labels are bytes."""

_LONGEST = {"name": 100, "title": 200, "modality": 300, "license": 100}
_LONGEST_CLASS = 100
_OF_REGISTRY = ("path", "sha256", "card", "size_bytes", "url")  # no file may say it of itself
_SPACINGS = (0.1, 20.0)  # mm; a smaller one would blow every scan up
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")

Intensity = Literal["mr", "ct"]
"""What the numbers of a scan mean: arbitrary units of MR, or Hounsfield units of CT."""


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a model without loading its weights.

    Attributes
    ----------
    name, title : str
        Identifier, and a line for people.
    method : str
        Sparsifier that the model was trained with; "dense" for a dense twin.
    modality : str
        Scans that it is for, in words.
    spacing : float
        Working spacing in mm.
    classes, colors : tuple of str
        Class names and "#rrggbb" colours; index 0 is background.
    default_setting : float
        Value of the method's setting to start with.
    network : dict
        Data of ``NetworkConfig``.
    license : str
        SPDX identifier of the weights' licence.
    path : Path
        The safetensors file.
    sha256 : str
        Its checksum; "" for a file that is not in the registry.
    card : str
        File name of the model card, "" if there is none.
    intensity : {"mr", "ct"}
        What the numbers of a scan mean to it; models written before CT was known are for MR.
    size_bytes : int
        Size of the file by the registry; 0 if that does not say.
    url : str
        Where the registry has it from, "" if it comes with the package.
    """

    name: str
    title: str
    method: str
    modality: str
    spacing: float
    classes: tuple[str, ...]
    colors: tuple[str, ...]
    default_setting: float
    network: dict[str, Any]
    license: str
    path: Path
    sha256: str = ""
    card: str = ""
    intensity: Intensity = "mr"
    size_bytes: int = 0
    url: str = ""

    @property
    def task(self) -> str:
        """What it segments, "brain-mr": models of one task differ in their method."""
        return self.name.removesuffix(f"-{self.method}")

    @property
    def registered(self) -> bool:
        """Whether the registry vouches for its weights; no hash is known of a user's own file."""
        return bool(self.sha256)

    def metadata(self) -> dict[str, Any]:
        """Return the JSON-ready data that goes into the file itself."""
        data = asdict(self)
        for key in _OF_REGISTRY:
            del data[key]
        return {"format": FORMAT, **data}


def judged_info(metadata: dict[str, Any], path: Path, **registry: Any) -> ModelInfo:
    """Make a :class:`ModelInfo` of what a file or the registry says, believing nothing.

    Parameters
    ----------
    metadata : dict
        Data of :meth:`ModelInfo.metadata`.
    path : Path
        The safetensors file.
    **registry
        What only the registry knows: ``sha256``, ``card``, ``size_bytes``, ``url``.

    Raises
    ------
    KeyError, TypeError, ValueError
        If something is missing, unknown, of the wrong type or out of range.
    """
    fields = {k: v for k, v in metadata.items() if k != "format"}
    if claimed := fields.keys() & set(_OF_REGISTRY):
        raise ValueError(f"{min(claimed)} is for the registry to say")
    if metadata["format"] not in (1, FORMAT):
        raise ValueError(f"format {metadata['format']}")
    if metadata["format"] == 1:  # knew only keep ratios
        fields["default_setting"] = fields.pop("default_keep_ratio")
    if fields["method"] not in METHODS:
        raise ValueError(f"unknown method {fields['method']}")
    if fields.get("intensity", "mr") not in get_args(Intensity):
        raise ValueError(f"unknown intensity {fields['intensity']}")
    if not isinstance(fields["network"], dict):
        raise ValueError("the network is no object")
    for key, longest in _LONGEST.items():
        _check_text(fields[key], longest)
    _check_classes(fields["classes"], fields["colors"])
    for key, (low, high) in {"spacing": _SPACINGS, "default_setting": (0.0, 1.0)}.items():
        value = fields[key]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{key} is no number")
        if not low <= value <= high:
            raise ValueError(f"{key} is out of range")
    for key in ("classes", "colors"):
        fields[key] = tuple(fields[key])
    return ModelInfo(**fields, path=path, **registry)


def _check_classes(classes: Any, colors: Any) -> None:
    if not isinstance(classes, list | tuple) or not isinstance(colors, list | tuple):
        raise ValueError("classes and colours are no lists")
    if not 2 <= len(classes) <= MAX_CLASSES or len(colors) > MAX_CLASSES:
        raise ValueError(f"a model has 2 to {MAX_CLASSES} classes")
    for name in classes:
        _check_text(name, _LONGEST_CLASS)
    if len(set(classes)) < len(classes):
        raise ValueError("two classes share a name")
    if not all(isinstance(color, str) and _COLOR.fullmatch(color) for color in colors):
        raise ValueError("a colour is not '#rrggbb'")


def _check_text(value: Any, longest: int) -> None:
    """Refuse what is no short line of text: it is shown in panels, pages and terminals."""
    if not isinstance(value, str) or not 0 < len(value) <= longest or not value.isprintable():
        raise ValueError("no short line of text")
