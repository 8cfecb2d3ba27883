"""Every method and every control through a session, and what a model may not be run with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checks import assert_same_result, assert_sentence
from cli_checks import Sparseseg, assert_refused

from napari_sparseseg.errors import InputError
from napari_sparseseg.methods import METHODS, controls
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.session import PREVIEW_AIR, PREVIEW_OPEN, Segmentation
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import ModelInfo

Models = dict[str, ModelInfo]
LEARNED = ("stp", "dtop", "svit", "apformer")


@pytest.fixture(scope="module")
def scan(make_scan: Callable[..., Volume]) -> Volume:
    """Give a scan that fits into one window, where counts and patches are exact."""
    return make_scan((34, 34, 34))


def run(
    models: Models, scan: Volume, method: str, setting: float | None = None, **options: object
) -> Segmentation:
    segmenter = Segmenter(models[f"tiny-{method}"], "cpu", "float32", **options)  # type: ignore[arg-type]
    with segmenter.open(scan) as session:
        return session.run(setting)


@pytest.mark.parametrize("method", LEARNED)
def test_a_setting_of_one_runs_every_token_through_every_block(
    tiny_models: Models, scan: Volume, method: str
) -> None:
    result = run(tiny_models, scan, method, 1.0)

    tokens = result.report["tokens"]
    assert tokens["kept"] == tokens["total"] - tokens["air"] > 0
    assert not result.trace.left_stage.any()


@pytest.mark.parametrize("method", LEARNED)
def test_a_run_tells_the_method_and_what_it_did(
    tiny_models: Models, scan: Volume, method: str
) -> None:
    result = run(tiny_models, scan, method)
    report, control = result.report, METHODS[method].control

    assert control is not None
    default = tiny_models[f"tiny-{method}"].default_setting
    assert report["setting"] == {"name": control.name, "value": default}
    assert (report["method"], report["sparsifier"], result.trace.method) == (method,) * 3
    tokens = report["tokens"]
    assert tokens["kept"] + tokens["pruned"] + tokens["exited"] + tokens["air"] == tokens["total"]
    assert tokens["kept"] < tokens["total"] - tokens["air"]
    assert report["gmacs"]["run"] < report["gmacs"]["dense"] * 1.1
    assert {view.kind for view in result.trace.views} >= {"depth"}


@pytest.mark.parametrize("method", LEARNED)
def test_the_preview_is_what_the_run_does_at_the_first_stage(
    tiny_models: Models, scan: Volume, method: str
) -> None:
    segmenter = Segmenter(tiny_models[f"tiny-{method}"], "cpu", "float32")
    setting = segmenter.info.default_setting
    with segmenter.open(scan) as session:
        preview, trace = session.preview(setting), session.run(setting).trace

    np.testing.assert_array_equal(preview == PREVIEW_AIR, trace.air)
    ran_next = trace.ran[trace.stages[0]]
    np.testing.assert_array_equal(preview == PREVIEW_OPEN, ran_next)


@pytest.mark.parametrize("method", LEARNED)
def test_the_same_scan_gives_the_same_answer(
    tiny_models: Models, scan: Volume, method: str
) -> None:
    assert_same_result(run(tiny_models, scan, method), run(tiny_models, scan, method))


def test_an_exited_patch_holds_its_class_alone(tiny_models: Models, scan: Volume) -> None:
    """The scan has the model's spacing and its axes, so that patches are whole in it."""
    result = run(tiny_models, scan, "dtop")
    trace, labels = result.trace, result.labels
    exited = np.argwhere(trace.left_stage > 0)
    assert len(exited)
    to_voxel = np.linalg.inv(labels.affine) @ trace.grid.affine
    for token in exited:
        centre = (to_voxel @ [*token, 1])[:3]
        low = np.maximum(np.round(centre - 3.5).astype(int), 0)
        high = np.round(centre + 4.5).astype(int)
        patch = labels.data[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        assert len(np.unique(patch)) == 1


def test_dependencies_are_those_of_tokens_with_a_query(tiny_models: Models, scan: Volume) -> None:
    trace = run(tiny_models, scan, "apformer").trace

    kept = np.flatnonzero(trace.kept)
    muted = np.flatnonzero(~trace.kept & ~trace.air)
    assert len(kept) and len(muted)
    for token in kept:
        shares = trace.attended(int(token))
        assert shares is not None and np.nanmax(shares) > 0
        assert np.isnan(shares[trace.air]).all()
    assert all(trace.attended(int(token)) is None for token in muted)


@pytest.mark.parametrize("method", LEARNED)
def test_random_keeps_as_many_tokens_but_others(
    tiny_models: Models, scan: Volume, method: str
) -> None:
    informed = run(tiny_models, scan, method)
    drawn = run(tiny_models, scan, method, sparsifier="random")
    other = run(tiny_models, scan, method, sparsifier="random", seed=1)

    first = informed.trace.stages[0]
    for trace in (drawn.trace, other.trace):
        for block, given in enumerate(informed.trace.ran):
            assert trace.ran[block].sum() == given.sum()
        assert (trace.ran[first] != informed.trace.ran[first]).any()
    assert (drawn.trace.ran[first] != other.trace.ran[first]).any()
    assert drawn.report["sparsifier"] == "random"
    assert drawn.report["setting"] == informed.report["setting"]
    assert drawn.trace.views == informed.trace.views


@pytest.mark.parametrize("method", [*LEARNED, "dense"])
@pytest.mark.parametrize(("control", "depth"), [("truncated", 1), ("none", 0)])
def test_a_shortened_encoder_runs_no_later_block(
    tiny_models: Models, scan: Volume, method: str, control: str, depth: int
) -> None:
    result = run(tiny_models, scan, method, sparsifier=control)

    assert (result.trace.depth[~result.trace.air] == depth).all()
    assert result.report["setting"] is None
    assert result.report["gmacs"]["run"] < result.report["gmacs"]["dense"]
    assert result.labels.data.any()


@pytest.mark.parametrize("name", ["dtop", "dense", "nonsense", "Random"])
def test_a_model_runs_with_its_own_sparsifier_or_a_control_only(
    tiny_models: Models, name: str
) -> None:
    with pytest.raises(InputError, match=f"'{name}'.*random, truncated, none") as caught:
        Segmenter(tiny_models["tiny-stp"], "cpu", sparsifier=name)
    assert_sentence(caught.value)


def test_every_control_can_be_asked_for_on_the_command_line(
    sparseseg: Sparseseg, make_scan: Callable[..., Volume], tmp_path: Path
) -> None:
    from napari_sparseseg.files import write_volume

    write_volume(make_scan((20, 18, 16), margin=1), tmp_path / "scan.nii")
    for control in controls():
        report = tmp_path / f"{control}.json"
        command = ("segment", tmp_path / "scan.nii", tmp_path / f"{control}.nii")
        options = ("--model", "tiny-stp", "--sparsifier", control, "--report", report)
        answer = sparseseg(*command, *options)

        assert (answer.code, answer.err) == (0, "")
        assert f"sparsifier {control}" in answer.out
        assert json.loads(report.read_text())["sparsifier"] == control


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--model", "tiny-dtop", "--keep-ratio", "0.5"], "exit threshold is set with --threshold"),
        (["--model", "tiny-stp", "--threshold", "0.5"], "keep ratio is set with --keep-ratio"),
        (["--model", "tiny-dense", "--keep-ratio", "0.5"], "'dense' has no keep ratio"),
        (["--model", "tiny-dtop", "--threshold", "0"], "exit threshold 0 is out of range"),
        (["--model", "tiny-stp", "--sparsifier", "dtop"], "was trained with 'stp'"),
        (["--model", "tiny-stp", "--sparsifier", "best"], "no such sparsifier"),
        (
            ["--model", "tiny-stp", "--sparsifier", "none", "--keep-ratio", "0.5"],
            "'none' has no keep ratio",
        ),
    ],
)
def test_an_option_that_does_not_fit_the_method_is_refused(
    sparseseg: Sparseseg, tmp_path: Path, options: list[str], match: str
) -> None:
    (tmp_path / "scan.nii").touch()

    assert_refused(
        sparseseg("segment", tmp_path / "scan.nii", tmp_path / "out.nii", *options), match
    )
    assert not (tmp_path / "out.nii").exists()
