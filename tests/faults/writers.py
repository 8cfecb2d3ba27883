"""Everything of the project that writes a file which a user keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from napari_sparseseg.files import LABEL_SUFFIXES, write_labels
from napari_sparseseg.structures import structures_of
from napari_sparseseg.volume import Volume
from tests.faults.killing import Writer

LABELS = tuple(f"labels{suffix}" for suffix in LABEL_SUFFIXES)
TOGETHER = ("run", "page", "sweep")
IN_PLACE = "in place"
"""Writes as nothing here may: the old file is half the new one on the way."""
ALONE = ("report", "trace", "model", "checkpoint", "log", "curve")


def make_writers(names: Iterable[str], folder: Path) -> dict[str, Writer]:
    """Prepare writers by their names.

    Parameters
    ----------
    names : iterable of str
        Of :data:`LABELS`, :data:`TOGETHER` or :data:`ALONE`.
    folder : Path
        A folder for what they need.
    """
    makers: dict[str, Callable[[], Writer]] = {
        "run": lambda: _run(folder),
        "page": lambda: _page(folder),
        "sweep": _sweep,
        "report": lambda: _report(folder),
        "trace": lambda: _trace(folder),
        "model": _model,
        "checkpoint": _checkpoint,
        "log": _log,
        "curve": lambda: _curve(folder),
        IN_PLACE: lambda: Writer(lambda at, n: (at / "file").write_text(f"{n}" * 50_000)),
    }
    return {name: _labels(name, folder) if name in LABELS else makers[name]() for name in names}


def _labels(name: str, folder: Path) -> Writer:
    noise = np.random.default_rng(0).integers(0, 5, (2, 24, 20, 18)).astype(np.uint8)
    affine = np.diag([-1.0, -2, 3, 1])
    volumes = [Volume(data, affine, "labels") for data in noise]
    structures = structures_of(["background", "one", "two", "three", "four"], ["#102030"] * 5)
    source = _series(folder / "series", affine) if name.endswith(".dcm") else []

    def write(at: Path, n: int) -> None:
        write_labels(volumes[n], structures, at / name, source=source, overwrite=True)

    return Writer(write, _pixels) if source else Writer(write)


def _series(folder: Path, affine: np.ndarray) -> list[Path]:
    from tests.outputs.series import write_series

    folder.mkdir(exist_ok=True)
    return write_series(folder, np.zeros((24, 20, 18), np.int16), affine)


def _pixels(path: Path) -> bytes:
    """Read what does not change from one time to the next; identifiers do."""
    import pydicom

    return bytes(pydicom.dcmread(path).PixelData)


@cache
def _results(folder: Path) -> list[Any]:
    """Segment one scan twice, at settings that give other labels, and open no thread."""
    import torch

    from tests.faults.made import make_scan, make_segmenter

    torch.set_num_threads(1)
    with make_segmenter(folder).open(make_scan()) as session:
        return [session.run(setting, probabilities=True) for setting in (0.2, 0.9)]


def _run(folder: Path) -> Writer:
    from napari_sparseseg.outputs import Outputs

    def write(at: Path, n: int) -> None:
        files = Outputs(
            at / "labels.nii.gz", at / "trace", at / "report.json", overwrite=True,
            names=at / "names.tsv", probabilities=at / "p.nii.gz",
        )  # fmt: skip
        files.write(_results(folder)[n])

    _results(folder)
    return Writer(write)


def _page(folder: Path) -> Writer:
    """Write a page of fixed content: drawing it changes no disk."""
    from napari_sparseseg.together import content_step, write_together

    def write(at: Path, n: int) -> None:
        contents = {"page.html": b"<p>" * (5000 + n), "page.json": b"[0]" * (700 + n)}
        write_together(content_step(at / k, v, overwrite=True) for k, v in contents.items())

    return Writer(write)


def _report(folder: Path) -> Writer:
    from napari_sparseseg.report import write_report

    results = _results(folder)
    return Writer(lambda at, n: write_report(results[n].report, at / "r.json", overwrite=True))


def _trace(folder: Path) -> Writer:
    results = _results(folder)
    return Writer(lambda at, n: results[n].trace.save(at / "trace", overwrite=True))


def _sweep() -> Writer:
    from napari_sparseseg.analysis.sweep import write_sweep
    from tests.analysis.sweeps import point, swept

    def write(at: Path, n: int) -> None:
        made = swept([point(1.0, [1, 1]), point(0.5, [0.9 - 0.1 * n, 0.8])])
        write_sweep(made, at / "sweep", overwrite=True)

    return Writer(write)


def _model() -> Writer:
    import torch

    from napari_sparseseg.weights import ModelInfo, register_model, save_model

    info = ModelInfo(
        "a-stp", "A", "stp", "any", 1.0, ("background", "one"), ("#000000", "#ffffff"),
        0.5, {}, "Apache-2.0", Path("a.safetensors"),
    )  # fmt: skip

    def write(at: Path, n: int) -> None:
        own = replace(info, path=at / "a.safetensors", title=f"A {n}")
        save_model({"weight": torch.full((300,), float(n))}, own)
        register_model(own)

    return Writer(write)


def _checkpoint() -> Writer:
    import torch

    from napari_sparseseg.training.run import load_checkpoint, save_checkpoint

    def write(at: Path, n: int) -> None:
        save_checkpoint({"weight": torch.full((3000,), float(n))}, at / "checkpoint.pt")

    return Writer(write, lambda path: load_checkpoint(path)["weight"].tolist())


def _log() -> Writer:
    from napari_sparseseg.training.log import open_log

    def write(at: Path, n: int) -> None:
        """Begin with forty lines, then cut off all behind the twentieth."""
        log = at / "log.csv"
        if n == 0:
            lines = (f"{step},{step / 7}\r\n" for step in range(40))
            log.write_bytes(("step,loss\r\n" + "".join(lines)).encode())
        else:
            open_log(log, ("step", "loss"), 20)

    return Writer(write)


def _curve(folder: Path) -> Writer:
    from napari_sparseseg.training.curve import draw_curve
    from napari_sparseseg.training.loop import LOG_COLUMNS, TERMS

    for n in (0, 1):
        rows = [
            ",".join(str(step * (n + 1)) for _ in LOG_COLUMNS) for step in range(0, 100, 10 + n)
        ]
        (folder / f"{n}.csv").write_text("\n".join([",".join(LOG_COLUMNS), *rows]))
    assert TERMS
    return Writer(lambda at, n: draw_curve(folder / f"{n}.csv", at / "curve.png"))
