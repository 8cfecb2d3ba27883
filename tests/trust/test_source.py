"""What the code of the project never does, whatever else it does: read from the source itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDERS = ("napari_sparseseg", "benchmarks", "slicer_extension", "scripts")

CALLS = {
    "torch.load": "unpickles",
    "torch.save": "pickles",
    "torch.hub.load": "downloads and runs code",
    "yaml.load": "runs what it reads",
    "os.system": "starts a shell",
    "os.popen": "starts a shell",
    "eval": "runs text",
    "exec": "runs text",
    "compile": "makes code of text",
    "tempfile.mktemp": "can be raced",
    "tarfile.open": "can write anywhere",
    "shutil.unpack_archive": "can write anywhere",
}
MODULES = ("pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "cloudpickle", "telnetlib")
NETWORK = ("urllib", "http", "socket", "ssl", "requests", "httpx", "ftplib", "aiohttp", "smtplib")
ADDRESSES = re.compile(r"http://(?!www\.apache\.org/licenses/)")


def sources() -> list[Path]:
    repository = Path(__file__).parents[2]
    found = [path for folder in FOLDERS for path in (repository / folder).rglob("*.py")]
    assert len(found) > 150
    return sorted(found)


def called(node: ast.Call) -> str:
    """Give the dotted name of what is called; "" for what has none."""
    parts: list[str] = []
    target: ast.expr = node.func
    while isinstance(target, ast.Attribute):
        parts.append(target.attr)
        target = target.value
    if not isinstance(target, ast.Name):
        return ""
    return ".".join([target.id, *reversed(parts)])


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def faults(text: str, *, may_go_online: bool) -> list[str]:
    """Tell what a source does that it must not."""
    tree = ast.parse(text)
    found = [f"imports {name}" for name in imported(tree) if name.split(".")[0] in MODULES]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = called(node)
        keywords = {k.arg: k.value for k in node.keywords}
        if name in CALLS:
            found.append(f"{name} {CALLS[name]}")
        if name in ("np.load", "numpy.load") and not is_constant(
            keywords.get("allow_pickle"), False
        ):
            found.append(f"{name} without allow_pickle=False")
        if is_constant(keywords.get("allow_pickle"), True):
            found.append(f"{name} with allow_pickle=True")
        if "shell" in keywords and not is_constant(keywords["shell"], False):
            found.append(f"{name} with a shell")
    if not may_go_online:
        online = [name for name in imported(tree) if name.split(".")[0] in NETWORK]
        found += [f"imports {name}, which goes online" for name in online]
    return found + ["an address without https" for _ in ADDRESSES.finditer(text)]


def is_constant(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_no_source_runs_what_it_reads_or_goes_online() -> None:
    found = {
        str(path): problems
        for path in sources()
        if (problems := faults(path.read_text(), may_go_online=path.name == "downloads.py"))
    }

    assert not found


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("import torch\ntorch.load(path, weights_only=True)", "unpickles"),
        ("import torch\ntorch.save(state, path)", "pickles"),
        ("import pickle", "imports pickle"),
        ("from pickle import loads", "imports pickle"),
        ("import numpy as np\nnp.load(path)", "without allow_pickle=False"),
        ("import numpy as np\nnp.save(path, a, allow_pickle=True)", "allow_pickle=True"),
        ("import subprocess\nsubprocess.run(text, shell=True)", "with a shell"),
        ("eval(text)", "runs text"),
        ("import os\nos.system(text)", "starts a shell"),
        ("import requests", "goes online"),
        ("from urllib.request import urlopen", "goes online"),
        ("URL = 'http://example.org'", "without https"),
    ],
)
def test_the_scan_finds_what_it_looks_for(text: str, fault: str) -> None:
    assert any(fault in found for found in faults(text, may_go_online=False))


def test_the_scan_lets_the_rest_be() -> None:
    text = "import numpy as np\nnetwork.eval()\nloop.exec()\nnp.load(path, allow_pickle=False)\n"
    assert faults(text + "URL = 'https://example.org'", may_go_online=False) == []
