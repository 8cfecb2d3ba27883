"""What the worker answers is what the engine, the registry and the panel of napari say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from napari_sparseseg import __version__, maps
from napari_sparseseg.analysis.metrics import dice_per_class
from napari_sparseseg.catalog import short_title
from napari_sparseseg.methods import METHODS, control_of, controls
from napari_sparseseg.report import NOTICE
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.session import Segmentation
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import DEFAULT_MODEL, models

from .client import CPU, Host

OURS = "hippocampus-mr-"


def test_handshake_names_the_versions_and_imports_no_torch(start: Callable[..., Host]) -> None:
    spy = "import atexit, os, sys; leave = os._exit\n" + (
        "os._exit = lambda code: leave(3 if {'torch', 'monai', 'napari', 'qtpy'} "
        "& set(sys.modules) else code)"
    )
    host = start(spy)

    answer = host.call("hello", protocol=1, host="a test")
    host.call("models")

    assert answer["protocol"] == 1
    assert answer["version"] == __version__
    assert answer["notice"] == NOTICE
    assert host.end() == 0, "torch or a window was imported"


def test_models_are_those_of_the_registry(host: Host) -> None:
    answer = host.call("models")

    known = {info.name: info for info in models()}
    assert {m["name"] for m in answer["models"]} == known.keys()
    assert answer["default"] == DEFAULT_MODEL
    assert [c["name"] for c in answer["controls"]] == [*controls()]
    assert [c["title"] for c in answer["controls"]] == [METHODS[c].title for c in controls()]
    for told in answer["models"]:
        info = known[told["name"]]
        assert told["title"] == info.title
        assert (told["task"], told["task_title"]) == (info.task, short_title(info))
        assert told["structures"] == [*info.classes[1:]]
        assert told["colors"] == [*info.colors[1:]]
        assert told["method_title"] == METHODS[info.method].title
        assert told["size_mb"] == pytest.approx(info.path.stat().st_size / 1e6, abs=0.05)
        control = control_of(info.method, info.method)
        assert (told["control"] or {}).get("name") == (control.name if control else None)


def test_devices_end_with_the_cpu(host: Host) -> None:
    devices = host.call("devices")["devices"]

    assert devices[-1]["name"] == "cpu"
    assert all(d.keys() == {"name", "title", "memory_mb", "free_mb"} for d in devices)
    assert all(0 < d["free_mb"] <= d["memory_mb"] for d in devices[:-1])


def check_answer(host: Host, answer: dict[str, Any], result: Segmentation) -> None:
    """Expect an answer to be a result of the engine, voxel for voxel and word for word."""
    labels, arrays = host.take_all(answer)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, result.labels.data)
    for key in ("tokens", "gmacs", "setting", "sparsifier", "model", "volume", "classes"):
        assert answer["report"][key] == result.report[key]
    assert answer["fate"] == result.trace.fate
    for value, told in enumerate(answer["structures"], start=1):
        assert (told["value"], told["name"]) == (value, result.classes[value])
        assert told["color"] == result.colors[value]
        assert told["voxels"] == (labels == value).sum()
    trace, shown = result.trace, maps.scores(result.trace)
    expected = [
        (view, stage)
        for view in trace.views
        if view.kind != "dependencies"
        for stage in (range(1, len(trace.stages) + 1) if view.kind == "importance" else [None])
    ]
    assert [(m["kind"], m["stage"]) for m in answer["maps"]] == [(v.kind, s) for v, s in expected]
    for told, array, (view, stage) in zip(answer["maps"], arrays, expected, strict=True):
        values = maps.values_of(trace, view.kind, stage or 1, 0, shown)
        np.testing.assert_array_equal(array, values)
        assert told["title"].startswith(view.title)
        assert told["about"] == view.about
        if told["type"] == "categories":
            legend = {e["value"]: (e["text"], e["color"], e["count"]) for e in told["legend"]}
            assert legend == {
                e.value: (e.text, e.color, e.count) for e in maps.legend_of(trace, view.kind)
            }
        else:
            assert told["range"] == [0, 1]
            assert np.nanmin(array) >= 0
            assert np.nanmax(array) <= 1


def test_runs_are_those_of_the_engine_whatever_the_slider_did_before(
    host: Host, scan: Volume, segmenter: Segmenter
) -> None:
    opened = host.open(scan)
    with segmenter.open(scan) as session:
        assert opened["grid"]["shape"] == [*session.grid.shape]
        assert opened["grid"]["patch"] == [8, 8, 8]
        np.testing.assert_array_equal(opened["grid"]["affine"], session.grid.affine)
        assert opened["control"]["name"] == "keep ratio"
        for setting in (0.5, 0.1, 1.0, 0.5):
            answer = host.call("run", setting=setting)
            result = session.run(setting)
            assert result.labels.data.any()
            check_answer(host, answer, result)
        check_answer(host, host.call("run"), session.run())
    assert host.files() == []


def test_seconds_tell_that_a_moved_slider_does_not_open_the_scan_again(
    host: Host, scan: Volume
) -> None:
    host.open(scan)

    first, second = host.call("run", setting=0.5), host.call("run", setting=0.4)

    assert first["report"]["seconds"]["preprocess"] > 0
    assert second["report"]["seconds"]["preprocess"] == 0
    host.take_all(first), host.take_all(second)


@pytest.mark.parametrize("method", ["dense", "dtop", "svit", "apformer"])
def test_each_method_shows_its_own_maps(host: Host, scan: Volume, method: str) -> None:
    host.open(scan, OURS + method)

    answer = host.call("run")

    check_answer(host, answer, Segmenter(OURS + method, **CPU).segment(scan))


@pytest.mark.parametrize("sparsifier", ["random", "truncated"])
def test_controls_take_the_place_of_the_rule(host: Host, scan: Volume, sparsifier: str) -> None:
    opened = host.open(scan, sparsifier=sparsifier)
    own = Segmenter(OURS + "stp", **CPU, sparsifier=sparsifier)

    answer = host.call("run")

    assert (opened["control"] is None) == (own.control is None)
    check_answer(host, answer, own.segment(scan))


def test_preview_shows_what_the_first_stage_lets_go_on(
    host: Host, scan: Volume, segmenter: Segmenter
) -> None:
    host.open(scan)

    told = host.call("preview", setting=0.3)["map"]

    with segmenter.open(scan) as session:
        states = maps.preview_map(session.preview(0.3), len(segmenter.stages))
        legend = maps.preview_legend(states, len(segmenter.stages), "pruned")
    np.testing.assert_array_equal(host.take(told["data"]), states)
    assert (told["kind"], told["title"]) == ("kept", "kept / pruned")
    assert {e["value"]: (e["text"], e["color"], e["count"]) for e in told["legend"]} == {
        e.value: (e.text, e.color, e.count) for e in legend
    }


def test_method_without_a_map_of_kept_tokens_has_nothing_to_preview(
    host: Host, scan: Volume
) -> None:
    host.open(scan, OURS + "svit")

    assert host.call("preview", setting=0.3) == {"map": None}
    assert host.files() == []


def test_dice_to_the_dense_twin_takes_one_run_of_it(
    host: Host, scan: Volume, segmenter: Segmenter
) -> None:
    def dense_runs() -> int:
        told = [m["params"].get("text", "") for m in host.log if m.get("method") == "progress"]
        return sum(text == "Dense twin: done" for text in told)

    before = dense_runs()
    host.open(scan)
    with segmenter.open(scan) as session:
        dense = session.run(1.0).labels.data
        for setting in (0.1, 0.3):
            answer = host.call("run", setting=setting, compare_dense=True)
            labels, _ = host.take_all(answer)
            expected = dice_per_class(labels, dense, 3)
            assert [s["dice_to_dense"] for s in answer["structures"]] == expected
            assert 0 < expected[0] < 1
    assert dense_runs() == before + 1


@pytest.mark.parametrize(
    ("model", "sparsifier", "setting", "same"),
    [
        ("stp", "", 1.0, True),
        ("dense", "", None, True),
        ("stp", "truncated", None, False),
    ],
)
def test_dense_twin_is_the_model_with_its_own_rule_and_nothing_pruned(
    host: Host, scan: Volume, model: str, sparsifier: str, setting: float | None, same: bool
) -> None:
    host.open(scan, OURS + model, sparsifier=sparsifier)

    answer = host.call("run", setting=setting, compare_dense=True)

    labels, _ = host.take_all(answer)
    dense = Segmenter(OURS + model, **CPU).segment(scan, 1.0).labels.data
    dice = [s["dice_to_dense"] for s in answer["structures"]]
    assert dice == dice_per_class(labels, dense, 3)
    assert (dice == [1.0, 1.0]) == same


def test_comparison_belongs_to_the_open_scan(host: Host, scan: Volume) -> None:
    other = Volume(scan.data[::-1].copy(), scan.affine, "other")
    host.open(scan)
    host.take_all(host.call("run", setting=0.3, compare_dense=True))

    host.open(other)
    answer = host.call("run", setting=1.0, compare_dense=True)

    assert [s["dice_to_dense"] for s in answer["structures"]] == [1.0, 1.0]
    host.take_all(answer)


def test_model_is_loaded_once_while_the_choices_stay(host: Host, scan: Volume) -> None:
    def loaded() -> int:
        return sum(
            m.get("method") == "log" and "is loaded" in m["params"]["text"] for m in host.log
        )

    host.open(scan, OURS + "dtop")
    before = loaded()
    host.open(scan, OURS + "dtop")
    assert loaded() == before
    host.open(scan, OURS + "dtop", sparsifier="random")
    host.open(scan)
    assert loaded() == before + 2


def test_arrays_may_lie_in_any_order_and_byte_order(
    host: Host, scan: Volume, segmenter: Segmenter
) -> None:
    from_kji = np.ascontiguousarray(scan.data.transpose(2, 1, 0)).transpose(2, 1, 0)
    assert from_kji.flags.f_contiguous
    swapped = scan.data.astype(">f4")
    expected = segmenter.segment(scan, 0.3).labels.data

    for data in (from_kji, swapped):
        host.open(Volume(data, scan.affine))
        labels, _ = host.take_all(host.call("run", setting=0.3))
        np.testing.assert_array_equal(labels, expected)


def test_shades_are_the_colours_that_napari_draws() -> None:
    from napari.utils.colormaps import ensure_colormap

    from napari_sparseseg import colors

    told = np.array([[*bytes.fromhex(color[1:])] for color in colors.shades()])
    drawn = 255 * ensure_colormap(colors.SHADES).map(np.linspace(0, 1, 256))

    assert np.abs(told[:, :3] - drawn[:, :3]).max() <= 1
    assert set(told[:, 3]) == {128}
