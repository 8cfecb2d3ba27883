"""What fuzzing has found: each crash, named, in the smallest input that showed it."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from napari_sparseseg.errors import InputError, ModelError
from napari_sparseseg.files.dicom_pixels import syntax_name
from napari_sparseseg.repeat import RunRecord
from napari_sparseseg.tensor_file import read_whole
from napari_sparseseg.tokens import TokenGrid, TokenTrace
from napari_sparseseg.training.checkpoint import load_checkpoint
from napari_sparseseg.weights import find_model
from napari_sparseseg.worker.folder import Folder


def npy_file(folder: Path, header: bytes) -> str:
    """Write a .npy file with a header of choice; gives its name."""
    length = len(header).to_bytes(2, "little")
    (folder / "scan.npy").write_bytes(b"\x93NUMPY\x01\x00" + length + header + bytes(48))
    return "scan.npy"


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<i2', 'fortran_order': False, 'shape': (4, 3, 2), ",
        b"(" * 5000,
        b"{'descr': '<i2', 'fortran_order': False, 'shape': (-4, 3, -2), }",
        b"{'descr': '<i2', 'fortran_order': False, 'shape': (True, 3, 8), }",
        b"{[]: 3}",
        b"\x00",
    ],
)
def test_a_header_of_voxels_that_python_cannot_parse(tmp_path: Path, header: bytes) -> None:
    """numpy lets ``tokenize.TokenError`` and its like through."""
    with pytest.raises(InputError, match="damaged or no .npy file; write it again"):
        Folder(tmp_path).read(npy_file(tmp_path, header), "scan")


@pytest.mark.parametrize("means", [None, [], "all", 3])
def test_a_report_whose_switches_are_no_object(tmp_path: Path, means: Any) -> None:
    report = {"setting": None, "means": means}
    (tmp_path / "report.json").write_text(json.dumps(report))

    with pytest.raises(InputError, match="what a repetition needs"):
        RunRecord.read(tmp_path / "report.json")


def test_a_model_file_that_claims_to_be_registered(tmp_path: Path) -> None:
    """It would have passed for one whose hash was checked."""
    metadata = json.dumps({"format": 2, "name": "x", "sha256": "0" * 64})
    header = json.dumps({"__metadata__": {"sparseseg": metadata}}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)

    with pytest.raises(ModelError, match="holds no SparseSeg model"):
        find_model(path)


def test_a_small_file_is_read_without_room_for_the_largest(tmp_path: Path) -> None:
    """Python takes the memory of all that it is asked to read beforehand."""
    import tracemalloc

    (tmp_path / "x.safetensors").write_bytes(bytes(100))
    tracemalloc.start()
    assert read_whole(tmp_path / "x.safetensors") == bytes(100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


DEEP = "[" * 100_000


def test_json_nested_deeper_than_python_goes(tmp_path: Path) -> None:
    (tmp_path / "trace.json").write_text(DEEP)
    with pytest.raises(InputError, match="no complete trace"):
        TokenTrace.load(tmp_path)
    metadata = json.dumps({"__metadata__": {"sparseseg-run": DEEP}}).encode()
    run = tmp_path / "run.safetensors"
    run.write_bytes(len(metadata).to_bytes(8, "little") + metadata)
    with pytest.raises(ModelError, match="holds no checkpoint"):
        load_checkpoint(run)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Write a sound trace of two tokens; gives its folder."""
    shape = (1, 1, 2)
    TokenTrace(
        TokenGrid(shape, (8, 8, 8), np.eye(4)),
        "stp",
        (1,),
        air=np.zeros(shape, bool),
        importance=np.zeros((1, *shape), np.float32),
        left_stage=np.array([[[1, 0]]], np.uint8),
        ran=np.ones((2, *shape), bool),
        confidence=np.ones(shape, np.float32),
    ).save(tmp_path)
    TokenTrace.load(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("left_stage", [300, 0]),  # no byte
        ("left_stage", [7, 0]),  # no stage
        ("left_stage", [10**30, 0]),
        ("left_stage", "00"),
        ("stages", [5]),
        ("num_blocks", 10**9),
        ("grid", {"shape": [-1, -1, 2], "patch": [8, 8, 8], "affine": np.eye(4).tolist()}),
        ("grid", {"shape": [1, 1, 10**9], "patch": [8, 8, 8], "affine": np.eye(4).tolist()}),
        ("grid", {"shape": [1, 1, 2], "patch": [0, 8, 8], "affine": np.eye(4).tolist()}),
        ("grid", {"shape": [1, 1, 2], "patch": [8, 8, 8], "affine": [[float("nan")] * 4] * 4}),
        ("grid", []),
        ("method", []),
    ],
)
def test_facts_of_a_trace_that_cannot_be(trace: Path, key: str, value: Any) -> None:
    facts = json.loads((trace / "trace.json").read_text())
    (trace / "trace.json").write_text(json.dumps({**facts, key: value}))

    with pytest.raises(InputError, match="no complete trace"):
        TokenTrace.load(trace)


def test_a_map_that_unpacks_to_more_than_the_trace_has(trace: Path) -> None:
    """A file of a few kilobytes would have taken gigabytes."""
    image = nib.Nifti1Image(np.zeros((1, 1, 2), np.float32), np.eye(4))
    header = image.header.copy()
    header.set_data_shape((2000, 2000, 2000))
    with gzip.open(trace / "confidence.nii.gz", "wb") as file:
        header.write_to(file)
        file.write(bytes(2**20))

    with pytest.raises(InputError, match="no complete trace"):
        TokenTrace.load(trace)


def test_dependencies_whose_headers_promise_more_than_there_is(trace: Path) -> None:
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (10000000000,), }"
    length = len(header).to_bytes(2, "little")
    with zipfile.ZipFile(trace / "dependencies.npz", "w") as archive:
        archive.writestr("heads.npy", b"\x93NUMPY\x01\x00" + length + header + bytes(16))

    with pytest.raises(InputError, match="no complete trace"):
        TokenTrace.load(trace)


@pytest.mark.parametrize("syntax", ["\x00.2.840.10008.1.2.1", "Doe^Jane"])
def test_a_transfer_syntax_that_is_none_is_not_quoted(syntax: str) -> None:
    assert syntax_name(syntax) == "an unknown transfer syntax"
    assert syntax_name("1.2.840.10008.1.2.1") == "Explicit VR Little Endian"
