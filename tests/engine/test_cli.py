"""The ``sparseseg`` command: what it says of itself, and what it writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from checks import snapshot
from cli_checks import COMMAND, LIA, TINY, Answer, Sparseseg, assert_refused

from napari_sparseseg import __version__
from napari_sparseseg.files import read_volume
from napari_sparseseg.plugin import demo
from napari_sparseseg.tokens import TRACE_FILES, TokenTrace
from napari_sparseseg.weights import ModelInfo

HEAVY = (
    "torch", "monai", "SimpleITK", "nibabel", "scipy", "matplotlib", "jinja2", "napari", "qtpy"
)  # fmt: skip


# What it says of itself


def test_help_and_the_list_of_models_are_quick(registry: Path) -> None:
    code = f"""
import sys
from napari_sparseseg.cli import main
commands = ["segment", "sweep", "compare", "models"]
for text in ("--help", *(f"{{command}} --help" for command in commands), "models", "models --json"):
    sys.argv = ["sparseseg", *text.split()]
    try:
        main()
    except SystemExit as left:
        assert not left.code, left.code
print("loaded:", *sorted(set({HEAVY}) & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert result.stdout.splitlines()[-1].split() == ["loaded:"]
    assert "tiny-stp" in result.stdout


def test_help_tells_every_option_with_its_unit(sparseseg: Sparseseg) -> None:
    answer = sparseseg("segment", "--help")

    text = " ".join(answer.out.split())
    options = "--model --keep-ratio --device --precision --trace --report --overwrite"
    units = "auto|cpu|cuda[:n] seconds (MB) millilitres GMACs"
    for word in f"INPUT OUTPUT {options} {units}".split():
        assert word in text
    assert answer.code == 0


def test_the_version_is_that_of_the_package(sparseseg: Sparseseg) -> None:
    assert sparseseg("--version") == Answer(0, f"sparseseg {__version__}\n", "")


def test_models_are_listed_for_people(sparseseg: Sparseseg) -> None:
    answer = sparseseg("models")

    assert (answer.code, answer.err) == (0, "")
    assert "tiny-stp\n  Tiny stp\n  for made-up scans\n" in answer.out
    assert "4 structures, computed at 1 mm; default keep ratio 0.3" in answer.out


def test_models_are_listed_for_programs(
    sparseseg: Sparseseg, registry: Path, tiny_models: dict[str, ModelInfo]
) -> None:
    answer = sparseseg("models", "--json")

    listed = {entry["name"]: entry for entry in json.loads(answer.out)}
    assert sorted(tiny_models) == list(listed)
    stp = listed["tiny-stp"]
    assert stp["classes"] == list(tiny_models["tiny-stp"].classes)
    assert stp["network"]["stages"] == [1, 2, 3]
    assert stp["path"] == str(registry / "tiny-stp.safetensors")
    assert len(stp["sha256"]) == 64


def test_an_empty_registry_is_said_to_be_empty(sparseseg: Sparseseg, tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text('{"models": []}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSESEG_WEIGHTS", str(tmp_path))

        assert sparseseg("models") == Answer(0, "No models are installed.\n", "")
        assert sparseseg("models", "--json").out == "[]\n"


def test_a_damaged_registry_is_one_sentence(sparseseg: Sparseseg, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSESEG_WEIGHTS", str(tmp_path))

        assert_refused(sparseseg("models"), "No models were found")


# What it does


def test_a_scan_is_segmented_with_all_that_was_asked_for(registry: Path, scan: Path) -> None:
    """As a user does it: in a process of its own, with files as the only way in and out."""
    folder = scan.parent
    outputs = ("--trace", "deep/trace", "--report", "report.json", "--keep-ratio", "0.4")
    command = [*COMMAND, "segment", scan.name, "labels.nii.gz", *TINY, *outputs]
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder)

    assert (result.returncode, result.stderr) == (0, "")
    names = ["deep", "labels.nii.gz", "report.json", scan.name]
    assert sorted(os.listdir(folder)) == names
    labels = nib.Nifti1Image.from_filename(folder / "labels.nii.gz")
    np.testing.assert_allclose(labels.affine, LIA)
    assert labels.get_data_dtype() == np.uint8
    facts = json.loads((folder / "report.json").read_text())
    voxels = [entry["voxels"] for entry in facts["classes"].values()]
    counts = np.bincount(np.asarray(labels.dataobj).ravel(), minlength=5)
    assert voxels == counts[1:].tolist() and sum(voxels) > 0
    assert facts["setting"] == {"name": "keep ratio", "value": 0.4}
    assert facts["volume"] == {"shape": [20, 18, 16], "spacing": [1, 1, 1], "orientation": "LIA"}
    trace = TokenTrace.load(folder / "deep" / "trace")
    assert trace.counts() == facts["tokens"]
    assert set(os.listdir(folder / "deep" / "trace")) == {*TRACE_FILES} - {"dependencies.npz"}
    for line in (
        "Labels   labels.nii.gz",
        "Model    tiny-stp, sparsifier stp, keep ratio 0.4, cpu, float32",
        f"Tokens   {facts['tokens']['total']}: {facts['tokens']['kept']} kept to the last block, "
        f"{facts['tokens']['pruned']} pruned, 0 exited, {facts['tokens']['air']} air",
        "Research use only, not for diagnosis.",
    ):
        assert line in result.stdout.splitlines()
    assert all(word in result.stdout for word in (" GMACs, ", " % of the dense ", " s (", " MB "))


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
def test_labels_are_written_in_the_format_of_their_name(
    sparseseg: Sparseseg, scan: Path, suffix: str
) -> None:
    output = scan.with_name(f"labels{suffix}")
    answer = sparseseg("segment", scan, output, *TINY)

    assert (answer.code, answer.err) == (0, "")
    labels = read_volume(output)
    np.testing.assert_allclose(labels.affine, LIA, atol=1e-6)
    assert labels.shape == (20, 18, 16) and labels.data.max() > 0


def test_a_model_can_be_given_by_its_file(
    sparseseg: Sparseseg, registry: Path, scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = registry / "tiny-dense.safetensors"
    monkeypatch.setenv("SPARSESEG_WEIGHTS", "/nowhere")
    answer = sparseseg("segment", scan, scan.with_name("labels.nii"), "--model", model)

    assert answer.code == 0
    own = "(your own file, not of the registry)"
    assert f"Model    tiny-dense {own}, sparsifier dense, cpu" in answer.out


def test_existing_outputs_are_replaced_when_asked(sparseseg: Sparseseg, scan: Path) -> None:
    folder = scan.parent
    others = ("--trace", folder / "trace", "--report", folder / "report.json")
    arguments = ("segment", scan, folder / "labels.nii.gz", *TINY, *others)
    sparseseg(*arguments, "--keep-ratio", 0.9)
    names = sorted(snapshot(folder))
    answer = sparseseg(*arguments, "--keep-ratio", 0.2, "--overwrite")

    assert answer.code == 0
    assert sorted(snapshot(folder)) == names
    facts = json.loads((folder / "report.json").read_text())
    assert facts["setting"]["value"] == 0.2
    assert TokenTrace.load(folder / "trace").counts() == facts["tokens"]


def test_the_demo_is_that_of_the_plugin(
    sparseseg: Sparseseg, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []

    def run(output: Path | None) -> None:
        calls.append(output)

    monkeypatch.setattr(demo, "check_display", lambda: None)
    monkeypatch.setattr(demo, "run", run)

    assert sparseseg("demo") == Answer(0, "", "")
    assert calls == [None]


def test_the_demo_without_napari_says_what_to_install(
    sparseseg: Sparseseg, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "napari", None)

    assert_refused(sparseseg("demo"), "pip install 'napari-sparseseg[napari,sample]'")
