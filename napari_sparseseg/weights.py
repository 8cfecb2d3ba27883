"""The model registry: which models there are, where their weights lie, and loading them.

A model is one safetensors file. Its metadata holds everything needed to run it, so a file alone
is enough; ``index.json`` beside it adds the checksum that a shipped model must have.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from napari_sparseseg.errors import ModelError
from napari_sparseseg.methods import METHODS

if TYPE_CHECKING:
    from torch import Tensor

    from napari_sparseseg.network import SparseUNETR

DEFAULT_MODEL = "brain-mr-stp"
METADATA_KEY = "sparseseg"
FORMAT = 2
_LARGEST_HEADER = 2**20

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

    @property
    def task(self) -> str:
        """What it segments, "brain-mr": models of one task differ in their method."""
        return self.name.removesuffix(f"-{self.method}")

    def metadata(self) -> dict[str, Any]:
        """Return the JSON-ready data that goes into the file itself."""
        data = asdict(self)
        for key in ("path", "sha256", "card"):
            del data[key]
        return {"format": FORMAT, **data}


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


def models() -> tuple[ModelInfo, ...]:
    """List the shipped models, without loading them.

    Raises
    ------
    ModelError
        If the index is missing or damaged.
    """
    folder = weights_folder()
    try:
        index = json.loads((folder / "index.json").read_text())
        return tuple(_from_index(entry, folder) for entry in index["models"])
    except OSError as error:
        raise ModelError(
            f"No models were found in {folder}; reinstall napari-sparseseg or set "
            "SPARSESEG_WEIGHTS to the folder that holds index.json."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"The model index {folder / 'index.json'} is damaged; reinstall napari-sparseseg."
        ) from error


def _from_index(entry: dict[str, Any], folder: Path) -> ModelInfo:
    name = Path(entry["file"]).name  # an index cannot point outside its folder
    return _info(
        entry["metadata"], folder / name, sha256=entry["sha256"], card=entry.get("card", "")
    )


def _info(metadata: dict[str, Any], path: Path, sha256: str = "", card: str = "") -> ModelInfo:
    fields = {k: v for k, v in metadata.items() if k != "format"}
    if metadata["format"] == 1:  # knew only keep ratios
        fields["default_setting"] = fields.pop("default_keep_ratio")
    if fields["method"] not in METHODS:
        raise ValueError(f"unknown method {fields['method']}")
    if fields.get("intensity", "mr") not in get_args(Intensity):
        raise ValueError(f"unknown intensity {fields['intensity']}")
    for key in ("classes", "colors"):
        fields[key] = tuple(fields[key])
    return ModelInfo(**fields, path=path, sha256=sha256, card=card)


def find_model(name: str | Path) -> ModelInfo:
    """Return a shipped model by its name, or any model by the path of its file.

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
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length < _LARGEST_HEADER:
                raise ValueError("no safetensors header")
            header = json.loads(file.read(length))
    except OSError as error:
        raise ModelError(
            f"The weights file {path} cannot be read ({error.strerror}); check the path."
        ) from error
    except ValueError as error:
        raise ModelError(
            f"{path} is not a safetensors file; only models in this format are loaded."
        ) from error
    try:
        metadata = json.loads(header["__metadata__"][METADATA_KEY])
        if metadata["format"] not in (1, FORMAT):
            raise ValueError(f"format {metadata['format']}")
        return _info(metadata, path)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path} holds no SparseSeg model; train or export one with "
            "'python -m napari_sparseseg.training'."
        ) from error


def load_network(info: ModelInfo) -> SparseUNETR:
    """Load a model's network, ready for inference in float32 on the CPU.

    Raises
    ------
    ModelError
        If the file is missing, its checksum differs from the index, or its tensors do not fit
        the architecture that it names.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from napari_sparseseg.network import NetworkConfig, SparseUNETR

    if info.sha256 and checksum(info.path) != info.sha256:
        raise ModelError(
            f"The weights file {info.path} is damaged (its checksum differs); reinstall "
            "napari-sparseseg."
        )
    try:
        config = NetworkConfig.from_dict(info.network)
        if not len(info.classes) == len(info.colors) == config.classes:
            raise ValueError("not one name and colour for each class")
        network = SparseUNETR(config)
        tensors = load_file(info.path)
        network.load_state_dict({k: v.float() for k, v in tensors.items()})
    except (OSError, SafetensorError) as error:
        raise ModelError(f"The weights file {info.path} is damaged; reinstall it.") from error
    except (RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"The weights in {info.path} are of another architecture; use the version of "
            "napari-sparseseg that they were made with."
        ) from error
    return network.eval()


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises
    ------
    ModelError
        If the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(
            f"The weights file {path} is missing; reinstall napari-sparseseg or set "
            "SPARSESEG_WEIGHTS to the folder that holds it."
        ) from error


def weights_checksum(path: Path) -> str:
    """Return the SHA-256 of the tensors of a model file, without what it says about itself.

    It stays the same when only a title or a default changes, so that what was measured of the
    weights still holds.

    Raises
    ------
    ModelError
        If the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            file.seek(int.from_bytes(file.read(8), "little"), os.SEEK_CUR)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"The weights file {path} cannot be read; check the path.") from error


def save_model(tensors: dict[str, Tensor], info: ModelInfo) -> None:
    """Write a model file at ``info.path``, weights in half precision.

    Half precision keeps eleven significant bits, more than bf16 inference uses, at half the
    size.
    """
    from safetensors.torch import save_file

    halves = {k: v.detach().cpu().half().contiguous() for k, v in tensors.items()}
    save_file(halves, info.path, {METADATA_KEY: json.dumps(info.metadata())})


def register_model(info: ModelInfo) -> None:
    """Enter a model file into the ``index.json`` beside it, replacing one of the same name."""
    index_path = info.path.parent / "index.json"
    index = json.loads(index_path.read_text()) if index_path.exists() else {"models": []}
    entry = {
        "name": info.name,
        "file": info.path.name,
        "sha256": checksum(info.path),
        "size_bytes": info.path.stat().st_size,
        "card": info.card,
        "metadata": info.metadata(),
    }
    others = [e for e in index["models"] if e["name"] != info.name]
    index["models"] = sorted([*others, entry], key=lambda e: e["name"])
    index_path.write_text(json.dumps(index, indent=2) + "\n")
