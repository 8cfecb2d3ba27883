"""The sample scan: found without nilearn being imported, and told clearly when it is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Layer

from napari_sparseseg.errors import InputError
from napari_sparseseg.plugin.sample import icbm152_t1


def test_sample_is_the_template_at_1_mm_with_anterior_up():
    (data,) = icbm152_t1()
    layer = Layer.create(*data)

    assert layer.name == "ICBM152 T1"
    assert layer.data.shape == (189, 233, 197)
    np.testing.assert_allclose(layer.scale, 1)
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    # the template's origin, the anterior commissure, lies at the origin of napari's world
    origin = np.linalg.inv(layer.metadata["affine"]) @ [0, 0, 0, 1]
    np.testing.assert_allclose(layer.data_to_world(origin[:3]), 0, atol=1e-6)
    # the eyes are in front: the brain reaches further back than forward of it
    filled = np.argwhere(layer.data > 0)
    front, back = (layer.data_to_world(f)[1] for f in (filled.min(0), filled.max(0)))
    assert back > -front > 0


def test_sample_does_not_import_nilearn():
    code = (
        "import sys\n"
        "from napari_sparseseg.plugin.sample import icbm152_t1\n"
        "icbm152_t1()\n"
        "print(sorted({'nilearn', 'torch', 'napari'} & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert result.stdout.strip() == "[]", result.stderr


@pytest.mark.parametrize("present", [False, True], ids=["no nilearn", "nilearn without its data"])
def test_missing_template_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present: bool
):
    others = [p for p in sys.path if not (Path(p) / "nilearn").exists()]
    if present:
        (tmp_path / "nilearn").mkdir()
        (tmp_path / "nilearn" / "__init__.py").touch()
        others = [str(tmp_path), *others]
    monkeypatch.setattr(sys, "path", others)
    monkeypatch.delitem(sys.modules, "nilearn", raising=False)

    with pytest.raises(InputError, match=r"pip install napari-sparseseg\[sample\]"):
        icbm152_t1()


def test_sample_opens_from_the_menu(make_napari_viewer_proxy: Any):
    viewer = make_napari_viewer_proxy()

    viewer.open_sample("napari-sparseseg", "icbm152")

    assert [layer.name for layer in viewer.layers] == ["ICBM152 T1"]
