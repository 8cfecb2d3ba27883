"""The state of a run on disk: tensors as safetensors, all else as JSON in the same file.

Nothing in it is code: a checkpoint from elsewhere can be opened without trusting whoever made it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_sparseseg.errors import ModelError
from napari_sparseseg.tensor_file import (
    read_metadata,
    read_whole,
    tensors_of,
    write_tensors,
)

CHECKPOINT = "checkpoint.safetensors"
_KEY = "sparseseg-run"


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write the state of a run; the old file stays until the new one is complete.

    Parameters
    ----------
    state : dict
        Tensors, numbers, text and None, in any nesting of dictionaries, lists and tuples; keys
        are text or whole numbers.
    path : Path
        The file; tuples come back as lists.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    plain = _packed(state, tensors)
    write_tensors(tensors, {_KEY: json.dumps(plain)}, path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote, on the CPU.

    Raises
    ------
    ModelError
        If the file cannot be read, is damaged or is no checkpoint.
    """
    try:
        state = _unpacked(read_metadata(path, _KEY), tensors_of(read_whole(path), path))
        if not isinstance(state, dict):
            raise TypeError("no dictionary")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path} holds no checkpoint of this version; move it away and train again."
        ) from error
    return state


def _packed(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return JSON-ready data with numbers in the place of tensors, which are collected."""
    if isinstance(value, Tensor):
        name, last = str(len(tensors)), _is_channels_last(value)
        value = value.detach().cpu()
        # in the order in which it lies in memory: the optimiser's state has to match its weights
        tensors[name] = (value.permute(0, 2, 3, 4, 1) if last else value).contiguous()
        return {"tensor": name, "channels_last": last}
    if isinstance(value, dict):
        return {"items": [[key, _packed(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_packed(item, tensors) for item in value]
    return value


def _unpacked(data: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(data, list):
        return [_unpacked(item, tensors) for item in data]
    if not isinstance(data, dict):
        return data
    if "tensor" not in data:
        return {key: _unpacked(item, tensors) for key, item in data["items"]}
    tensor = tensors[data["tensor"]]
    if not data["channels_last"]:
        return tensor
    if tensor.ndim != 5:
        raise ValueError("no image weights")
    return tensor.permute(0, 4, 1, 2, 3)


def _is_channels_last(tensor: Tensor) -> bool:
    return (
        tensor.ndim == 5
        and not tensor.is_contiguous()
        and tensor.is_contiguous(memory_format=torch.channels_last_3d)
    )
