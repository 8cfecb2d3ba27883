"""What a configuration from a file may ask for, judged before anything is built of it."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

if TYPE_CHECKING:
    from napari_sparseseg.network.config import CompletionConfig, DecoderConfig, NetworkConfig

_LARGEST = {
    "classes": 256,
    "channels": 16,
    "window": 512,
    "patch": 64,
    "dim": 4096,
    "depth": 64,
    "heads": 64,
    "mlp_ratio": 16,
    "stages": 64,
    "feature_size": 256,
    "finest": 2,
}
"""Far above the published networks; more is a damaged or hostile file."""

_LARGEST_GRID = 48**3  # tokens of a window
_MOST_OPTIONS = 16


def check_limits(config: NetworkConfig | CompletionConfig | DecoderConfig) -> None:
    """Refuse a configuration with values of other types or sizes than a network can have.

    Raises
    ------
    ValueError
        If a value is of the wrong type, not finite, or larger than any sensible network's.
    """
    hints = get_type_hints(type(config))
    for field in fields(config):
        value = getattr(config, field.name)
        for single in value if isinstance(value, tuple) else (value,):
            _check(field.name, single, hints[field.name])


def check_window(window: tuple[int, ...], patch: int) -> None:
    """Refuse a window that is no box, or of more tokens than a network can take.

    Raises
    ------
    ValueError
        In both cases.
    """
    if len(window) != 3 or math.prod(w // patch for w in window) > _LARGEST_GRID:
        raise ValueError(f"window {window} is no box of at most {_LARGEST_GRID} tokens")


def _check(name: str, value: Any, hint: Any) -> None:
    if name in _LARGEST:
        if type(value) is not int or not 0 < value <= _LARGEST[name]:
            raise ValueError(f"{name} must be a whole number from 1 to {_LARGEST[name]}")
    elif hint is float:
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number")
    elif choices := get_args(hint):
        if isinstance(choices[0], str) and value not in choices:
            raise ValueError(f"{name} must be one of {choices}")
    elif name == "sparsifier" and not isinstance(value, str):
        raise ValueError("the sparsifier must be named")
    if name == "options" and not _plain_options(value):
        raise ValueError("options must be a few plain values by name")


def _plain_options(options: Any) -> bool:
    return (
        isinstance(options, dict)
        and len(options) <= _MOST_OPTIONS
        and all(type(value) in (bool, int, float, str) for value in options.values())
        and all(
            abs(value) <= _LARGEST["dim"]
            for value in options.values()
            if isinstance(value, int | float)
        )
    )
