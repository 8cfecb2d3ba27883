"""Safetensors files: judged and read once, written whole or not at all.

It is the one format in which weights are kept: it holds numbers and text and can run no code.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from napari_sparseseg.errors import ModelError
from napari_sparseseg.files import atomic_path

if TYPE_CHECKING:
    from torch import Tensor

MAX_BYTES = 2**31
"""Largest file that is read: twice the published network's weights in float32, and more."""

MAX_HEADER = 2**20
"""Largest header in bytes."""


def read_metadata(path: Path, key: str) -> Any:
    """Return what a file says about itself; only its header is read.

    Parameters
    ----------
    path : Path
        The file.
    key : str
        Entry of the metadata that holds it as JSON.

    Raises
    ------
    ModelError
        If the file cannot be read or is no safetensors file.
    KeyError, TypeError, ValueError
        If it has no such entry, or that is no JSON.
    """
    with _opened(path) as file:
        length = int.from_bytes(file.read(8), "little")
        content = file.read(length) if 0 < length <= MAX_HEADER else b""
    try:
        if not content or len(content) < length:
            raise ValueError("no safetensors header")
        header = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{path} is not a safetensors file; only models in this format are loaded."
        ) from error
    return read_json(header["__metadata__"][key])


def read_json(text: str | bytes) -> Any:
    """Read JSON of unknown origin.

    Raises
    ------
    TypeError, ValueError
        If it is none, or nested so deep that no one could have meant it.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def read_whole(path: Path) -> bytes:
    """Read a file of tensors in one go: what is checked is then what is used.

    Raises
    ------
    ModelError
        If it cannot be read, or is too large.
    """
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(size) if size <= MAX_BYTES else b""
    if size > MAX_BYTES:
        raise ModelError(
            f"{path} is larger than any model ({MAX_BYTES >> 30} GB); choose a model file."
        )
    return content


def tensors_of(content: bytes, path: Path) -> dict[str, Tensor]:
    """Return the tensors in a file's content, on the CPU.

    safetensors checks that the header's shapes and offsets fill the file exactly before it takes
    memory for a tensor.

    Raises
    ------
    ModelError
        If they do not.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(content)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"The weights file {path} is damaged; reinstall it.") from error


def write_tensors(tensors: dict[str, Tensor], metadata: dict[str, str], path: Path) -> None:
    """Write a file of tensors; one that exists stays until the new one is complete.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    from safetensors.torch import save

    content = save(tensors, metadata)
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_bytes(content)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file; nobody may wait for a pipe that lies in its place."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "it is no regular file")
            yield file
    except OSError as error:
        raise ModelError(
            f"The weights file {path} cannot be read ({error.strerror}); check the path."
        ) from error


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
