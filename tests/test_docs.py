"""What the documentation tells a developer to do works as it is written."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest
import torch

from napari_sparseseg import methods
from napari_sparseseg.network import SparseUNETR
from napari_sparseseg.network.sparsifiers import base
from tests.network.conftest import make_network, small_config


def test_the_example_of_a_new_sparsifier_runs(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File, entry and test of docs/add-a-sparsifier.md, put in place by what the page says."""
    page = (repository / "docs" / "add-a-sparsifier.md").read_text()
    rule, entry, test = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    (file,) = re.findall(r"^`napari_sparseseg/network/sparsifiers/(\w+)\.py`$", page, re.MULTILINE)
    module = types.ModuleType(f"napari_sparseseg.network.sparsifiers.{file}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(rule, module.__dict__)
    method = eval(entry, dict(vars(methods)))
    monkeypatch.setitem(methods.METHODS, method.name, method)

    exec(f"{test}\ntest_the_token_that_differs_most_goes_on()", globals() | module.__dict__)
    network = make_network(small_config(sparsifier=method.name))
    assert isinstance(network, SparseUNETR)
    windows = torch.rand(1, 1, 32, 48, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        output = network.finish(network.prepare(windows), 0.3)
    trace = network.trace(output.encoded)[0]
    assert 0 < trace.ran.all(dim=0).sum() < 96
    assert trace.importance.isfinite().any()


def test_every_member_that_a_sparsifier_may_override_is_on_the_page(repository: Path) -> None:
    page = (repository / "docs" / "add-a-sparsifier.md").read_text()
    own = {name for name in vars(base.Sparsifier) if not name.startswith("_")} - {"fate"}

    assert own, "the protocol has members"
    assert [name for name in own if f"`{name}" not in page and f", `{name}" not in page] == []
