"""Sparse-token segmentation of 3-D scans, and what the sparsity did.

``Volume``, ``Segmenter`` and ``models`` are imported when they are first used, so that
importing the package, listing models or opening the dock loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_sparseseg.segmenter import Segmenter
    from napari_sparseseg.volume import Volume
    from napari_sparseseg.weights import models

__version__ = "0.1.0"
_PLACES = {"Segmenter": "segmenter", "Volume": "volume", "models": "weights"}

__all__ = ["Segmenter", "Volume", "__version__", "models"]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
