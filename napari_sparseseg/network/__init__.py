"""The network in plain torch: tensors in, tensors out."""

from __future__ import annotations

from napari_sparseseg.network.config import CompletionConfig, DecoderConfig, NetworkConfig
from napari_sparseseg.network.trace import WindowTrace
from napari_sparseseg.network.unetr import Macs, Output, Prepared, SparseUNETR

__all__ = [
    "CompletionConfig",
    "DecoderConfig",
    "Macs",
    "NetworkConfig",
    "Output",
    "Prepared",
    "SparseUNETR",
    "WindowTrace",
]
