"""The same scan gives the same labels and maps on the command line and through the worker."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from napari_sparseseg import maps
from napari_sparseseg.cli import main
from napari_sparseseg.files import read_volume, write_volume
from napari_sparseseg.tokens import TokenTrace
from napari_sparseseg.volume import Volume

from .client import CPU, MODEL, Host
from .conftest import OBLIQUE

FLIPPED = np.array([[0, -1.0, 0, 40], [0, 0, -1.0, 12], [-1.0, 0, 0, 8], [0, 0, 0, 1]])
ANISOTROPIC = np.diag([1.0, 0.9, 1.3, 1.0])


@pytest.mark.parametrize(
    "affine",
    [np.eye(4), FLIPPED, OBLIQUE, OBLIQUE @ FLIPPED @ ANISOTROPIC],
    ids=["plain", "flipped", "oblique", "oblique, flipped and anisotropic"],
)
def test_command_and_worker_give_the_same(
    host: Host, scan: Volume, affine: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, labels, traced = (tmp_path / name for name in ("scan.nii.gz", "labels.nii.gz", "trace"))
    write_volume(Volume(scan.data, affine), source)
    options = ["--model", MODEL, "--device", CPU["device"], "--precision", CPU["precision"]]
    command = ["sparseseg", "segment", source, labels, "--keep-ratio", 0.3, "--trace", traced]
    monkeypatch.setattr(sys, "argv", [*map(str, command), *options])
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code

    opened = host.open(read_volume(source))
    answer = host.call("run", setting=0.3)

    written, trace = read_volume(labels), TokenTrace.load(traced)
    told, arrays = host.take_all(answer)
    assert told.any()
    np.testing.assert_array_equal(told, written.data)
    assert opened["grid"]["shape"] == [*trace.grid.shape]
    # NIfTI holds affines in single precision
    np.testing.assert_allclose(opened["grid"]["affine"], trace.grid.affine, atol=1e-4)
    shown = maps.scores(trace)
    for facts, array in zip(answer["maps"], arrays, strict=True):
        values = maps.values_of(trace, facts["kind"], facts["stage"] or 1, 0, shown)
        np.testing.assert_array_equal(array, values)
