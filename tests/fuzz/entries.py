"""Everything that reads what others wrote, and the small valid inputs that are spoilt for it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from napari_sparseseg.files import read_volume
from napari_sparseseg.files.parts import parts
from napari_sparseseg.repeat import RunRecord
from napari_sparseseg.tokens import TokenTrace
from napari_sparseseg.training.checkpoint import load_checkpoint, save_checkpoint
from napari_sparseseg.weights import find_model, load_network, models, register_model
from napari_sparseseg.worker.failures import Refusal
from napari_sparseseg.worker.folder import Folder
from tests.dicom.series import values, write_enhanced, write_series
from tests.files.samples import write_samples
from tests.fuzz.conversations import conversation_entry
from tests.fuzz.fuzzing import Entry
from tests.fuzz.mutations import as_bytes, edits, spoilt, spoilt_json
from tests.quality.tiny import make_model, make_scan

LARGEST = 2**26
"""Bytes that a spoilt file of a few kilobytes may unpack to."""


def entries(folder: Path) -> Iterator[Entry]:
    """Make every entry point; their files lie in a folder that nobody else uses."""
    samples = folder / "samples"
    samples.mkdir()
    for name, path in write_samples(samples, (4, 3, 2)).items():
        beside = sorted(p for p in samples.iterdir() if p.stem == path.stem)
        yield file_entry(f"read {name}", folder / f"at {name}", beside, path.name, _read)
    yield from _dicom_entries(folder)
    yield from _model_entries(folder)
    yield from _result_entries(folder)
    yield from _worker_entries(folder)


def file_entry(
    name: str, folder: Path, files: list[Path], main: str, call: Callable[[Path], object]
) -> Entry:
    """Spoil one of some files that belong together, and open the main one.

    Parameters
    ----------
    name : str
        What it is called.
    folder : Path
        Where the spoilt files go; made.
    files : list of Path
        The valid ones.
    main : str
        Name of the file that is opened, "" for the folder.
    call : callable
        Opens it.
    """
    folder.mkdir(parents=True)
    contents = {path.name: path.read_bytes() for path in files}
    inputs = st.sampled_from(sorted(contents)).flatmap(
        lambda which: st.tuples(st.just(which), edits(len(contents[which])))
    )

    def attempt(drawn: Any) -> None:
        which, chosen = drawn
        for other, content in contents.items():
            (folder / other).write_bytes(spoilt(content, chosen) if other == which else content)
        call(folder / main)

    return Entry(name, inputs, attempt)


def json_entry(name: str, data: Any, call: Callable[[bytes], object]) -> Entry:
    """Spoil members of JSON data."""
    return Entry(name, spoilt_json(data), lambda drawn: call(as_bytes(drawn)))


def _read(path: Path) -> None:
    parts(path)
    volume = read_volume(path)
    assert volume.data.nbytes <= LARGEST, "a small file became a large volume"
    volume.validated()


def _dicom_entries(folder: Path) -> Iterator[Entry]:
    from pydicom.uid import ImplicitVRLittleEndian

    plain = write_series(folder / "dicom", values((5, 4, 3)))
    implicit = write_series(folder / "implicit", values((5, 4, 3)), syntax=ImplicitVRLittleEndian)
    for name, paths in {"dicom": plain, "dicom implicit": implicit}.items():
        yield file_entry(f"read {name}", folder / f"at {name}", paths, "", _read)
    one = write_enhanced(folder / "enhanced.dcm", values((5, 4, 3)))
    yield file_entry("read dicom, one file", folder / "at one", [one], one.name, _read)


def _model_entries(folder: Path) -> Iterator[Entry]:
    registry = folder / "registry"
    registry.mkdir()
    info = make_model(registry, "stp")
    register_model(info)
    os.environ["SPARSESEG_WEIGHTS"] = str(registry)
    content = info.path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    own = folder / "own.safetensors"

    def load(data: bytes) -> None:
        own.write_bytes(data)
        load_network(find_model(own))

    def with_header(text: bytes) -> None:
        load(len(text).to_bytes(8, "little") + text + content[end:])

    def with_metadata(text: bytes) -> None:
        with_header(as_bytes({**header, "__metadata__": {"sparseseg": text.decode()}}))

    yield Entry("weights, bytes", edits(len(content)), lambda e: load(spoilt(content, e)))
    yield json_entry("weights, header", header, with_header)
    metadata = json.loads(header["__metadata__"]["sparseseg"])
    yield json_entry("weights, metadata", metadata, with_metadata)
    changed = replace(info, network=metadata["network"]).metadata()["network"]
    yield json_entry(
        "weights, network",
        changed,
        lambda text: with_metadata(as_bytes({**metadata, "network": json.loads(text)})),
    )
    index = registry / "index.json"
    data = json.loads(index.read_bytes())

    def listed(text: bytes) -> None:
        index.write_bytes(text)
        try:
            for found in models():
                load_network(found)
        finally:
            index.write_bytes(as_bytes(data))

    yield json_entry("model index", data, listed)
    yield Entry("model index, bytes", edits(2000), lambda e: listed(spoilt(as_bytes(data), e)))


def _result_entries(folder: Path) -> Iterator[Entry]:
    run = folder / "run.safetensors"
    import torch

    save_checkpoint({"step": 3, "average": {"a": torch.ones(2, 3)}, "groups": [{0: 0.5}]}, run)
    yield file_entry(
        "training checkpoint", folder / "at run", [run], run.name, lambda p: load_checkpoint(p)
    )
    from napari_sparseseg.segmenter import Segmenter

    for method in ("stp", "apformer"):  # one with dependencies
        model = make_model(folder, method)
        with Segmenter(model, "cpu", "float32").open(make_scan()) as session:
            result = session.run(0.5)
        trace = folder / f"trace {method}"
        result.trace.save(trace)
        files = sorted(trace.iterdir())
        at = folder / f"at trace {method}"
        yield file_entry(f"trace, {method}", at, files, "", TokenTrace.load)
        yield _facts_entry(f"trace.json, {method}", trace, folder / f"facts {method}")
    report = folder / "report.json"

    def reported(text: bytes) -> None:
        report.write_bytes(text)
        RunRecord.read(report)

    yield json_entry("report", result.report, reported)
    raw = as_bytes(result.report)
    yield Entry("report, bytes", edits(len(raw)), lambda e: reported(spoilt(raw, e)))


def _facts_entry(name: str, trace: Path, at: Path) -> Entry:
    shutil.copytree(trace, at)
    facts = json.loads((trace / "trace.json").read_bytes())

    def load(text: bytes) -> None:
        (at / "trace.json").write_bytes(text)
        TokenTrace.load(at)

    return json_entry(name, facts, load)


def _worker_entries(folder: Path) -> Iterator[Entry]:
    shared = folder / "shared"
    shared.mkdir()
    place = Folder(shared)
    np.save(shared / "seed.npy", np.zeros((4, 3, 2), np.int16))
    content = (shared / "seed.npy").read_bytes()

    def read(chosen: Any) -> None:
        (shared / "scan.npy").write_bytes(spoilt(content, chosen))
        voxels = place.read("scan.npy", "scan")
        assert voxels.nbytes <= LARGEST

    yield Entry("worker, voxels", edits(len(content)), read)

    def names(name: str) -> None:
        try:
            place.read(name, "scan")
        except Refusal:
            return
        assert (shared / name).parent == shared

    yield Entry("worker, file names", st.text(max_size=40).map(lambda t: t + ".npy"), names)
    yield conversation_entry(folder / "conversation")
