"""The engine as the panel sees it, with the real one in its process."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from SparseSegLib.catalogue import read_catalogue
from SparseSegLib.engine import Engine
from SparseSegLib.jobs import Launch, Scan
from SparseSegLib.runner import Worker

from .conftest import Record, finish, wait_until

MODEL = "hippocampus-mr-stp"


@pytest.fixture
def engine(python: str, environment: dict[str, str], tmp_path: Path, log: list[str]):
    command = (python, "-m", "napari_sparseseg.worker")
    engine = Engine(lambda: Launch(command, environment), Worker(on_log=log.append), tmp_path)
    yield engine
    engine.stop()
    assert list(tmp_path.glob("sparseseg-*")) == []


@pytest.fixture
def phantom() -> Scan:
    """Give a small ball with an edge, obliquely placed."""
    axes = np.indices((40, 48, 36)) - np.array([20, 24, 18]).reshape(3, 1, 1, 1)
    voxels = np.clip(16 - np.sqrt((axes**2).sum(axis=0)), 0, 8) * 20 + 2 * np.abs(axes[0])
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = 12, -7, 30
    return Scan(voxels.astype(np.int16), affine, "phantom", "phantom")


def answers_of(engine: Engine, ask: Callable[[Callable, Callable], None]) -> dict:
    found: list = []
    ask(found.append, found.append)
    wait_until(engine.poll, lambda: bool(found))
    assert isinstance(found[0], dict), found[0]
    return found[0]


def test_catalogue_holds_the_models_with_their_settings(engine: Engine):
    catalogue = read_catalogue(answers_of(engine, lambda *told: engine.ask("models", *told)))

    model = catalogue.model("")
    assert model is not None and model.name == catalogue.default == "brain-mr-stp"
    assert model.control is not None and model.control.name == "keep ratio"
    assert {rule.name for rule in catalogue.controls} == {"random", "truncated", "none"}
    assert catalogue.setting_of(model, "truncated") is None
    assert catalogue.setting_of(model, "random") == model.control
    assert [found.name for found in catalogue.search("parotid dtop")] == ["headneck-ct-dtop"]
    assert engine.worker.facts["notice"] == "Research use only, not for diagnosis."


def test_run_gives_what_the_engine_gives_in_python(
    engine: Engine, phantom: Scan, record: Record, python: str, environment, tmp_path: Path
):
    engine.segment(record.job(phantom, 0.5, model=MODEL, device="cpu", precision="float32"))
    finish(engine)
    assert record.errors == []
    (answer,) = record.answers
    assert {step[2] for step in record.steps} >= {"First encoder blocks"}
    np.save(tmp_path / "scan.npy", phantom.array)
    code = (
        "import json, sys, numpy as np\n"
        "from napari_sparseseg import Segmenter, Volume\n"
        f"volume = Volume(np.load('scan.npy'), np.array(json.loads(sys.argv[1])))\n"
        f"result = Segmenter('{MODEL}', 'cpu', 'float32').segment(volume, 0.5)\n"
        "np.save('labels.npy', result.labels.data)\n"
        "np.save('depth.npy', result.trace.depth)\n"
        "np.save('affine.npy', result.trace.grid.affine)\n"
    )
    subprocess.run(
        [python, "-c", code, json.dumps(phantom.affine.tolist())],
        cwd=tmp_path, env=environment, check=True,
    )  # fmt: skip

    assert (answer.labels == np.load(tmp_path / "labels.npy")).all()
    (depth,) = (shown for shown in answer.maps if shown.kind == "depth")
    assert (np.maximum(depth.data, 0) == np.load(tmp_path / "depth.npy")).all()
    np.testing.assert_allclose(answer.grid.affine, np.load(tmp_path / "affine.npy"))


def test_preview_and_sliders_need_no_second_opening(engine: Engine, phantom: Scan, record: Record):
    job, maps = record.job(phantom, 0.5, model=MODEL, device="cpu"), []
    engine.segment(job)
    finish(engine)
    steps = len(record.steps)
    engine.preview(job.session, 0.2, lambda shown, grid: maps.append((shown, grid)))
    wait_until(engine.poll, lambda: bool(maps))
    engine.segment(record.job(phantom, 0.2, model=MODEL, device="cpu"))
    finish(engine)

    shown, grid = maps[0]
    assert shown.data.shape == grid.shape == record.answers[0].grid.shape
    assert "First encoder blocks" not in {step[2] for step in record.steps[steps:]}
    assert [answer.report["setting"]["value"] for answer in record.answers] == [0.5, 0.2]


def test_scan_that_cannot_be_segmented_is_refused_with_the_engines_sentence(
    engine: Engine, phantom: Scan, record: Record
):
    flat = Scan(np.zeros_like(phantom.array), phantom.affine, "empty", "empty")
    engine.segment(record.job(flat, 0.5, model=MODEL))
    finish(engine)

    assert record.errors[0].kind == "input"
    assert "empty" in str(record.errors[0])
    assert engine.worker.alive


def test_cancel_while_the_engine_loads_gives_the_panel_back(
    engine: Engine, phantom: Scan, record: Record
):
    engine.segment(record.job(phantom, 0.5, model=MODEL))
    engine.poll()
    engine.cancel()
    finish(engine)
    assert [error.kind for error in record.errors] == ["cancelled"]
    engine.segment(record.job(phantom, 0.5, model=MODEL))
    finish(engine)

    assert len(record.answers) == 1
