"""The model registry: which models there are, where their weights lie, and loading them.

A model is one safetensors file. Its metadata holds everything needed to run it, so a file alone
is enough; ``index.json`` beside it adds the checksum that a shipped model must have.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sparseseg.errors import ModelError
from napari_sparseseg.files import atomic_path
from napari_sparseseg.model_info import Intensity, ModelInfo, judged_info
from napari_sparseseg.tensor_file import (
    read_json,
    read_metadata,
    read_whole,
    tensors_of,
    write_tensors,
)

if TYPE_CHECKING:
    from torch import Tensor

    from napari_sparseseg.network import SparseUNETR

__all__ = [
    "DEFAULT_MODEL",
    "METADATA_KEY",
    "Intensity",
    "ModelInfo",
    "checksum",
    "find_model",
    "load_network",
    "models",
    "read_model_file",
    "register_model",
    "save_model",
    "user_folder",
    "weights_checksum",
    "weights_folder",
]

DEFAULT_MODEL = "brain-mr-stp"
METADATA_KEY = "sparseseg"
_LARGEST_INDEX = 2**22  # bytes
_ENTRY = {"name", "file", "sha256", "metadata", "size_bytes", "card", "url"}
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}\.safetensors")
_CARD = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,150}\.md)?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_URL = re.compile(r"(https://[\x21-\x7e]+)?")


def weights_folder() -> Path:
    """Return the folder that holds ``index.json`` and the shipped weights.

    ``$SPARSESEG_WEIGHTS`` if set, else the folder inside an installed package, else that of a
    source checkout.
    """
    if os.environ.get("SPARSESEG_WEIGHTS"):
        return Path(os.environ["SPARSESEG_WEIGHTS"])
    package = Path(__file__).parent
    packaged = package / "_weights"
    return packaged if packaged.is_dir() else package.parent / "weights"


def user_folder() -> Path:
    """Return the folder of downloaded weights.

    That of the shipped ones if it can be written or was chosen by ``$SPARSESEG_WEIGHTS``, else
    one of the user's own.
    """
    folder = weights_folder()
    if os.environ.get("SPARSESEG_WEIGHTS") or os.access(folder, os.W_OK):
        return folder
    from platformdirs import user_data_path

    return user_data_path("napari-sparseseg", appauthor=False) / "weights"


def models() -> tuple[ModelInfo, ...]:
    """List the registered models, without loading them.

    Raises
    ------
    ModelError
        If the index is missing or damaged.
    """
    folder = weights_folder()
    try:
        found = tuple(_from_index(entry, folder) for entry in _read_index(folder)["models"])
        if len({info.name for info in found}) < len(found):
            raise ValueError("two models share a name")
        return found
    except OSError as error:
        raise ModelError(
            f"No models were found in {folder}; reinstall napari-sparseseg or set "
            "SPARSESEG_WEIGHTS to the folder that holds index.json."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"The model index {folder / 'index.json'} is damaged; reinstall napari-sparseseg."
        ) from error


def _read_index(folder: Path) -> Any:
    with (folder / "index.json").open("rb") as file:
        content = file.read(_LARGEST_INDEX + 1)
    if len(content) > _LARGEST_INDEX:
        raise ValueError("too large")
    return read_json(content)


def _from_index(entry: dict[str, Any], folder: Path) -> ModelInfo:
    """Judge an entry: it cannot point outside its folder, and nothing goes without a hash."""
    if unknown := entry.keys() - _ENTRY:
        raise ValueError(f"unknown member {min(unknown)}")
    name = Path(entry["file"]).name
    size, card, url = entry.get("size_bytes", 0), entry.get("card", ""), entry.get("url", "")
    fits = [(_FILE, name), (_CARD, card), (_SHA256, entry["sha256"]), (_URL, url)]
    if not all(pattern.fullmatch(text) for pattern, text in fits):
        raise ValueError("a file, a checksum or an address that is none")
    if type(size) is not int or size < 0 or (url and not size):
        raise ValueError("no size")
    info = judged_info(
        entry["metadata"],
        _place(name, folder),
        sha256=entry["sha256"],
        card=card,
        size_bytes=size,
        url=url,
    )
    if entry["name"] != info.name:
        raise ValueError("two names for one model")
    return info


def _place(name: str, folder: Path) -> Path:
    """Return where a file lies: among the shipped ones, or where downloads go."""
    shipped = folder / name
    if shipped.exists():
        return shipped
    downloaded = user_folder() / name
    return downloaded if downloaded.exists() else shipped


def find_model(name: str | Path) -> ModelInfo:
    """Return a registered model by its name, or any model by the path of its file.

    Raises
    ------
    ModelError
        If there is no such model, or the file is none of ours.
    """
    text = str(name)
    if text.endswith(".safetensors") or os.sep in text:
        return read_model_file(Path(text))
    known = {info.name: info for info in models()}
    if text not in known:
        raise ModelError(
            f"There is no model named '{text}'; choose one of {', '.join(known)}, or give the "
            "path of a .safetensors file."
        )
    return known[text]


def read_model_file(path: Path) -> ModelInfo:
    """Read what a weights file says about itself.

    Raises
    ------
    ModelError
        If it is missing, not a safetensors file, or not written by this project.
    """
    try:
        return judged_info(read_metadata(path, METADATA_KEY), path)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path} holds no SparseSeg model; train or export one with "
            "'python -m napari_sparseseg.training'."
        ) from error


def load_network(info: ModelInfo) -> SparseUNETR:
    """Load a model's network, ready for inference in float32 on the CPU.

    The file is read once: the bytes whose checksum is compared are those that are loaded. Memory
    for a network is taken only when the tensors in the file fit the architecture that it names.

    Raises
    ------
    ModelError
        If the file is missing, its checksum differs from ``info.sha256``, its tensors do not fit
        the architecture, or hold numbers that are not finite.
    """
    from napari_sparseseg.network import NetworkConfig, SparseUNETR

    content = _checked_content(info)
    tensors = tensors_of(content, info.path)
    try:
        config = NetworkConfig.from_dict(info.network)
        if not len(info.classes) == len(info.colors) == config.classes:
            raise ValueError("not one name and colour for each class")
        _check_tensors(tensors, config)
        network = SparseUNETR(config)
        network.load_state_dict({k: v.float() for k, v in tensors.items()})
    except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:
        raise ModelError(
            f"The weights in {info.path} are of another architecture; use the version of "
            "napari-sparseseg that they were made with."
        ) from error
    if not all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values()):
        raise ModelError(
            f"The weights in {info.path} hold numbers that are not finite; train or export them "
            "again."
        )
    return network.eval()


def _check_tensors(tensors: dict[str, Tensor], config: Any) -> None:
    """Compare the tensors of a file with those of a network that takes no memory."""
    import torch

    from napari_sparseseg.network import SparseUNETR

    with torch.device("meta"):
        expected = SparseUNETR(config).state_dict()
    found = {name: (tensor.shape, tensor.is_complex()) for name, tensor in tensors.items()}
    if found != {name: (tensor.shape, False) for name, tensor in expected.items()}:
        raise ValueError("other tensors than those of the network")


def _checked_content(info: ModelInfo) -> bytes:
    if not info.registered:
        return read_whole(info.path)
    if not info.path.exists():
        raise ModelError(_missing(info))
    if info.size_bytes not in (0, info.path.stat().st_size):
        raise ModelError(_damaged(info))
    content = read_whole(info.path)
    if hashlib.sha256(content).hexdigest() != info.sha256:
        raise ModelError(_damaged(info))
    return content


def _missing(info: ModelInfo) -> str:
    if info.url:
        return (
            f"The weights file {info.path.name} is missing; run 'sparseseg download {info.name}', "
            f"or put the file from {info.url} into {user_folder()}."
        )
    return (
        f"The weights file {info.path} is missing; reinstall napari-sparseseg or set "
        "SPARSESEG_WEIGHTS to the folder that holds it."
    )


def _damaged(info: ModelInfo) -> str:
    cure = f"run 'sparseseg download {info.name}'" if info.url else "reinstall napari-sparseseg"
    return f"The weights file {info.path} is damaged (its checksum differs); {cure}."


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises
    ------
    ModelError
        If the file cannot be read.
    """
    return hashlib.sha256(read_whole(path)).hexdigest()


def weights_checksum(path: Path) -> str:
    """Return the SHA-256 of the tensors of a model file, without what it says about itself.

    It stays the same when only a title or a default changes, so that what was measured of the
    weights still holds.

    Raises
    ------
    ModelError
        If the file cannot be read.
    """
    content = read_whole(path)
    return hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()


def save_model(tensors: dict[str, Tensor], info: ModelInfo) -> None:
    """Write a model file at ``info.path``, weights in half precision.

    Half precision keeps eleven significant bits, more than bf16 inference uses, at half the
    size. A file that is there already stays until the new one is complete.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    halves = {k: v.detach().cpu().half().contiguous() for k, v in tensors.items()}
    write_tensors(halves, {METADATA_KEY: json.dumps(info.metadata())}, info.path)


def register_model(info: ModelInfo) -> None:
    """Enter a model file into the ``index.json`` beside it, replacing one of the same name.

    Raises
    ------
    ModelError, OutputError
        If the file cannot be read or the index cannot be written.
    """
    index_path = info.path.parent / "index.json"
    index = _read_index(info.path.parent) if index_path.exists() else {"models": []}
    entry = {
        "name": info.name,
        "file": info.path.name,
        "sha256": checksum(info.path),
        "size_bytes": info.path.stat().st_size,
        "card": info.card,
        "metadata": info.metadata(),
        **({"url": info.url} if info.url else {}),
    }
    others = [e for e in index["models"] if e["name"] != info.name]
    index["models"] = sorted([*others, entry], key=lambda e: e["name"])
    with atomic_path(index_path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(index, indent=2) + "\n")
