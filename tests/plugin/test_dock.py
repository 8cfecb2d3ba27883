"""The dock as a person uses it: a real window, the real engine, a tiny model."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Image, Labels, Layer

from napari_sparseseg.plugin import maps
from napari_sparseseg.plugin.layers import ROLES
from napari_sparseseg.plugin.panels import ScrollingColumn
from napari_sparseseg.plugin.readers import image_layer
from napari_sparseseg.plugin.runner import THREAD_NAME
from napari_sparseseg.plugin.sample import icbm152_t1
from napari_sparseseg.volume import Volume

from .conftest import WAIT, ball

MAP_ROLES = (maps.IMPORTANCE, maps.KEPT, maps.DEPTH)


def add(viewer: Any, volume: Volume) -> Any:
    return viewer.add_layer(Layer.create(*image_layer(volume, "memory")))


def segment(qtbot: Any, dock: Any) -> Any:
    with qtbot.waitSignal(dock.segmented, timeout=WAIT) as blocker:
        dock.controls.segment_button.click()
    return blocker.args[0]


def layer(viewer: Any, role: str, image: str = "ball") -> Any:
    return viewer.layers[f"{image} {role}"]


def visible_maps(viewer: Any, image: str = "ball") -> list[str]:
    return [role for role in MAP_ROLES if layer(viewer, role, image).visible]


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


def test_opening_the_dock_imports_no_torch(weights: Path):
    code = (
        "import sys, napari\n"
        "from napari_sparseseg.plugin.dock import open_dock\n"
        "viewer = napari.Viewer(show=False)\n"
        "dock = open_dock(viewer)\n"
        "heavy = {'torch', 'monai', 'SimpleITK'} & set(sys.modules)\n"
        "print(dock.controls.model.count(), sorted(heavy))\n"
        "viewer.close()\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert result.stdout.strip().splitlines()[-1:] == ["2 []"], result.stderr


def test_segmenting_the_sample_shows_everything(qtbot: Any, dock_of: Any):
    viewer, dock = dock_of()
    viewer.add_layer(Layer.create(*icbm152_t1()[0]))

    result = segment(qtbot, dock)

    assert [x.name for x in viewer.layers] == ["ICBM152 T1", *(f"ICBM152 T1 {r}" for r in ROLES)]
    assert visible_maps(viewer, "ICBM152 T1") == [maps.KEPT]
    assert layer(viewer, "segmentation", "ICBM152 T1").data.shape == (189, 233, 197)
    assert np.array_equal(np.unique(result.labels.data), [0, 1, 2, 3])
    assert [row[1] for row in dock.structures.legend.rows] == ["shell", "core", "rim"]
    assert all(row[2].endswith(" ml") for row in dock.structures.legend.rows)
    counts = result.trace.counts()
    assert dock.results.figures["Tokens"] == f"{counts['total']:,} ({counts['air']:,} air)"
    assert dock.results.figures["Kept"].startswith(f"{counts['kept']:,} (")
    assert dock.results.figures["Compute"].count("GMACs") == 1
    assert result.report["volume"] == {
        "shape": [197, 233, 189], "spacing": [1.0, 1.0, 1.0], "orientation": "RAS",
    }  # fmt: skip
    assert dock.controls.segment_button.isEnabled()
    assert not dock.controls.cancel_button.isEnabled()
    assert dock.message.isHidden()


def test_nothing_is_cut_off_at_the_side(qtbot: Any, dock_of: Any):
    viewer, dock = dock_of()
    viewer.add_layer(Layer.create(*icbm152_t1()[0]))
    column = dock.findChild(ScrollingColumn)

    segment(qtbot, dock)

    def fits() -> None:
        least = column.widget().minimumSizeHint().width()
        assert column.viewport().width() >= least
        assert column.minimumWidth() > least  # however narrow the user drags the dock

    qtbot.waitUntil(fits, timeout=5000)


def test_moving_the_slider_previews_at_once_and_then_segments(
    qtbot: Any, dock_of: Any, scan: Volume
):
    viewer, dock = dock_of()
    add(viewer, scan)
    segment(qtbot, dock)
    before = list(viewer.layers)
    labels = np.array(layer(viewer, "segmentation").data)
    viewer.dims.set_point(0, 60.0)
    point, zoom = viewer.dims.point, viewer.scene.camera.zoom

    open_tokens = {}
    with qtbot.waitSignal(dock.segmented, timeout=WAIT) as blocker:
        for ratio in (0.8, 0.4, 0.15):
            dock.controls.set_ratio(ratio)
            open_tokens[ratio] = np.array(layer(viewer, maps.KEPT).data) == 5
            assert dock.maps.note.text() == maps.PREVIEW_NOTE
    result = blocker.args[0]

    assert 0 < open_tokens[0.15].sum() < open_tokens[0.4].sum() < open_tokens[0.8].sum()
    assert not (open_tokens[0.15] & ~open_tokens[0.4]).any()
    assert not (open_tokens[0.4] & ~open_tokens[0.8]).any()
    assert result.report["keep_ratio"] == 0.15
    assert list(viewer.layers) == before
    assert not np.array_equal(layer(viewer, "segmentation").data, labels)
    assert np.count_nonzero(layer(viewer, maps.KEPT).data == 4) == result.trace.kept.sum()
    assert dock.maps.note.isHidden()
    assert (viewer.dims.point, viewer.scene.camera.zoom) == (point, zoom)


def test_latest_move_of_the_slider_wins(qtbot: Any, dock_of: Any, scan: Volume, hold: Any):
    viewer, dock = dock_of()
    add(viewer, scan)
    segment(qtbot, dock)
    shown: list[float] = []
    dock.segmented.connect(lambda result: shown.append(result.report["keep_ratio"]))

    gate = hold(dock.runner, "Encoding and decoding")
    dock.controls.set_ratio(0.2)
    qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)
    dock.controls.set_ratio(0.9)
    qtbot.wait(400)  # the slider rests: the run at 0.9 is asked for while that at 0.2 is held
    with qtbot.waitSignal(dock.segmented, timeout=WAIT):
        gate.open()
    qtbot.wait(100)

    assert shown == [0.9]
    assert not dock.runner.busy


def test_one_map_at_a_time(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock = dock_of()
    add(viewer, scan)
    result = segment(qtbot, dock)

    for name, expected in ((maps.DEPTH, [maps.DEPTH]), (maps.NONE, []),
                           (maps.IMPORTANCE, [maps.IMPORTANCE])):  # fmt: skip
        dock.maps.buttons[name].click()
        assert visible_maps(viewer) == expected

    importance = layer(viewer, maps.IMPORTANCE)
    assert importance.colorbar.visible
    for stage in (1, 3):
        dock.maps.stage.setCurrentIndex(stage - 1)
        shown = np.sort(importance.data[np.isfinite(importance.data)])
        ranks = result.trace.percentile()[stage - 1]
        assert np.array_equal(shown, np.sort(ranks[np.isfinite(ranks)]))
    assert visible_maps(viewer) == [maps.IMPORTANCE]
    assert np.isfinite(importance.data).sum() < np.isfinite(result.trace.importance[0]).sum()


def test_map_stays_chosen_when_the_result_changes(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock = dock_of()
    add(viewer, scan)
    segment(qtbot, dock)
    dock.maps.buttons[maps.DEPTH].click()

    with qtbot.waitSignal(dock.segmented, timeout=WAIT):
        dock.controls.set_ratio(0.2)

    assert visible_maps(viewer) == [maps.DEPTH]
    assert [entry[1] for entry in dock.maps.legend.rows] == [
        f"{n} of 4 blocks" for n in (1, 2, 3, 4)
    ]


def test_hovering_tells_of_token_and_structure(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock = dock_of()
    add(viewer, scan)
    result = segment(qtbot, dock)
    trace = result.trace
    tokens, labels = layer(viewer, "tokens"), layer(viewer, "segmentation")
    token = tuple(np.argwhere(trace.kept)[0])
    to_index = np.linalg.inv(labels.metadata["affine"]) @ trace.grid.affine
    at = tuple(np.rint(to_index @ [*token, 1])[:3].astype(int))
    world = labels.data_to_world(at)

    viewer.dims.set_point(0, world[0])
    viewer.cursor.position = world
    status = tokens.get_status(world, world=True)["value"]

    rank = trace.percentile()[0][token]
    assert viewer.layers.selection.active == tokens
    assert "state: kept, depth: 4 of 4 blocks" in status
    assert ": kept, 4 of 4 blocks" in dock.pointer.text()
    assert f"importance at stage 1: {rank:.2f}" in dock.pointer.text()
    name = result.classes[labels.data[at]]
    assert f"Structure: {name}" in dock.pointer.text()
    assert f"structure: {name}" in labels.get_status(world, world=True)["value"]


@pytest.mark.parametrize("step", ["Loading the model", "First encoder blocks",
                                  "Encoding and decoding"])  # fmt: skip
def test_cancelling_leaves_nothing(qtbot: Any, dock_of: Any, scan: Volume, hold: Any, step: str):
    viewer, dock = dock_of()
    add(viewer, scan)
    gate = hold(dock.runner, step)
    dock.controls.segment_button.click()
    qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)
    assert not dock.controls.segment_button.isEnabled()
    assert dock.controls.cancel_button.isEnabled()

    with qtbot.waitSignal(dock.runner.cancelled, timeout=WAIT):
        dock.controls.cancel_button.click()
        gate.open()

    assert [x.name for x in viewer.layers] == ["ball"]
    assert dock.message.text() == "Cancelled; nothing was changed."
    assert dock.controls.segment_button.isEnabled()
    assert not dock.controls.cancel_button.isEnabled()
    assert not dock.runner.follows
    assert running() == []
    segment(qtbot, dock)
    assert len(viewer.layers) == 1 + len(ROLES)


def test_cancelling_a_rerun_restores_what_was_shown(
    qtbot: Any, dock_of: Any, scan: Volume, hold: Any
):
    viewer, dock = dock_of()
    add(viewer, scan)
    segment(qtbot, dock)
    before = {role: np.array(layer(viewer, role).data) for role in ROLES}
    gate = hold(dock.runner, "Encoding and decoding")
    dock.controls.set_ratio(0.1)
    qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)
    assert not np.array_equal(layer(viewer, maps.KEPT).data, before[maps.KEPT])

    with qtbot.waitSignal(dock.runner.cancelled, timeout=WAIT):
        dock.controls.cancel_button.click()
        gate.open()

    for role in ROLES:
        assert np.array_equal(layer(viewer, role).data, before[role], equal_nan=True), role
    assert dock.controls.keep_ratio() == 0.5
    assert dock.runner.follows


@pytest.mark.parametrize("show", [True, False])
def test_closing_the_window_in_a_run_ends_it(
    qtbot: Any, dock_of: Any, scan: Volume, hold: Any, show: bool
):
    viewer, dock = dock_of(show=show)
    add(viewer, scan)
    gate = hold(dock.runner, "Encoding and decoding")
    dock.controls.segment_button.click()
    qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)

    threading.Timer(0.3, gate.open).start()  # the closing waits for the thread
    viewer.close()
    qtbot.waitUntil(lambda: running() == [], timeout=WAIT)

    assert not dock.runner.follows


def test_closing_the_dock_in_a_run_ends_it(qtbot: Any, dock_of: Any, scan: Volume, hold: Any):
    viewer, dock = dock_of(show=True)
    add(viewer, scan)
    gate = hold(dock.runner, "First encoder blocks")
    dock.controls.segment_button.click()
    qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)

    threading.Timer(0.3, gate.open).start()
    viewer.window.remove_dock_widget(dock)

    assert running() == []
    assert [x.name for x in viewer.layers] == ["ball"]


def affine_layer(affine: Any) -> Callable[[], Image]:
    return lambda: Image(ball((20, 20, 20)), name="bad", metadata={"affine": affine})


BAD_LAYERS: dict[str, tuple[Callable[[], Layer] | None, str]] = {
    "none": (None, "There is no image to segment"),
    "only labels": (lambda: Labels(np.ones((9, 9, 9), int)), "There is no image to segment"),
    "2-D": (lambda: Image(ball()[:, :, 20], name="bad"), "2 dimensions"),
    "colour": (lambda: Image(np.zeros((9, 9, 9, 3), np.uint8), rgb=True, name="bad"), "colour"),
    "4-D": (lambda: Image(np.random.rand(3, 9, 9, 9), name="bad"), "4 dimensions"),
    "empty": (lambda: Image(np.zeros((0, 9, 9)), contrast_limits=(0, 1), name="bad"), "empty"),
    "constant": (lambda: Image(np.full((30, 30, 30), 7.0), name="bad"), "the same value"),
    "NaN": (lambda: Image(np.full((30, 30, 30), np.nan), contrast_limits=(0, 1), name="bad"),
            "no finite value"),
    "zero spacing": (affine_layer(np.diag([1.0, 0, 1, 1])), "spacing"),
    "absurd spacing": (affine_layer(np.diag([1000.0, 1, 1, 1])), "spacing"),
    "micrometres": (lambda: Image(ball((20, 20, 20)), units="um", name="bad"), "spacing"),
    "sheared": (affine_layer(np.array([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0],
                                       [0, 0, 0, 1]])), "right angles"),
    "no matrix": (affine_layer("left"), "affine"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_LAYERS)
def test_bad_image_gets_one_sentence_and_changes_nothing(qtbot: Any, dock_of: Any, kind: str):
    make, expected = BAD_LAYERS[kind]
    viewer, dock = dock_of()
    if make is not None:
        viewer.add_layer(make())
    before = [x.name for x in viewer.layers]

    with qtbot.waitSignal(dock.refused, timeout=WAIT) as blocker:
        dock.controls.segment_button.click()

    (sentence,) = blocker.args
    assert expected in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert dock.message.text() == sentence
    assert not dock.message.isHidden()
    assert [x.name for x in viewer.layers] == before
    assert dock.controls.segment_button.isEnabled()


def test_sentence_goes_with_the_next_action(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock = dock_of()
    with qtbot.waitSignal(dock.refused, timeout=WAIT):
        dock.controls.segment_button.click()
    add(viewer, scan)

    segment(qtbot, dock)

    assert dock.message.isHidden()


def spoil_checksum(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4] + b"spam")


def spoil_nothing_left(path: Path) -> None:
    path.unlink()


def spoil_architecture(path: Path) -> None:
    from safetensors.torch import load_file

    from napari_sparseseg.weights import read_model_file, register_model, save_model

    info, tensors = read_model_file(path), load_file(path)
    tensors.pop("air_token")
    save_model(tensors, info)
    register_model(info)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (spoil_checksum, "checksum"),
        (spoil_nothing_left, "missing"),
        (spoil_architecture, "another architecture"),
    ],
)
def test_bad_weights_get_one_sentence(
    qtbot: Any, dock_of: Any, scan: Volume, tmp_path: Path, weights: Path,
    monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None], expected: str,
):  # fmt: skip
    for file in weights.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    spoil(tmp_path / "brain-mr-stp.safetensors")
    monkeypatch.setenv("SPARSESEG_WEIGHTS", str(tmp_path))
    viewer, dock = dock_of()
    add(viewer, scan)

    with qtbot.waitSignal(dock.refused, timeout=WAIT) as blocker:
        dock.controls.segment_button.click()

    assert expected in blocker.args[0]
    assert len(viewer.layers) == 1


def test_unknown_device_gets_one_sentence(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock = dock_of()
    add(viewer, scan)
    dock.controls.set_devices([("cuda:7", "a card that was taken out")])
    dock.controls.device.setCurrentIndex(1)

    with qtbot.waitSignal(dock.refused, timeout=WAIT) as blocker:
        dock.controls.segment_button.click()

    assert "cuda:7" in blocker.args[0]
    assert len(viewer.layers) == 1


def test_missing_registry_is_told_at_once(
    qtbot: Any, dock_of: Any, scan: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SPARSESEG_WEIGHTS", str(tmp_path))
    viewer, dock = dock_of()
    add(viewer, scan)
    with qtbot.waitSignal(dock.refused, timeout=WAIT) as blocker:
        dock.controls.segment_button.click()

    assert str(tmp_path) in blocker.args[0]
    assert dock.message.text() == blocker.args[0]


class Vanishing:
    """A lazily read image whose file has gone."""

    dtype, ndim, shape, size = np.dtype(np.float32), 3, (20, 20, 20), 8000

    def __getitem__(self, key: Any) -> np.ndarray:
        return np.zeros(self.shape, np.float32)[key]

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise RuntimeError("the share is offline")


def test_unexpected_error_gets_a_sentence_and_a_notification(qtbot: Any, dock_of: Any):
    from napari.utils.notifications import notification_manager

    viewer, dock = dock_of()
    viewer.add_layer(Image(Vanishing(), contrast_limits=(0, 1), name="remote"))
    with notification_manager, qtbot.waitSignal(dock.refused, timeout=WAIT) as blocker:
        notification_manager.records.clear()
        dock.controls.segment_button.click()
    qtbot.wait(50)

    assert "RuntimeError" in blocker.args[0]
    assert "the share is offline" in notification_manager.records[-1].message
    assert len(viewer.layers) == 1


def test_each_image_gets_its_own_layers(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock = dock_of()
    add(viewer, scan)
    add(viewer, Volume(ball(seed=3), scan.affine, "other"))
    segment(qtbot, dock)
    first = np.array(layer(viewer, "segmentation").data)
    assert dock.runner.follows

    dock.controls.image.setCurrentIndex(1)
    assert not dock.runner.follows
    assert dock.results.isHidden()
    segment(qtbot, dock)

    assert len(viewer.layers) == 2 * (1 + len(ROLES))
    assert np.array_equal(layer(viewer, "segmentation").data, first)
    assert layer(viewer, "segmentation", "other").data.any()
    assert [dock.controls.image.itemText(i) for i in range(dock.controls.image.count())] == [
        "ball", "other",
    ]  # fmt: skip


def test_images_to_choose_from_follow_the_viewer(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock = dock_of()
    image = add(viewer, scan)
    combo = dock.controls.image
    image.name = "patient"
    assert combo.currentText() == "patient"
    segment(qtbot, dock)
    assert combo.count() == 1

    viewer.layers.remove("patient")

    assert combo.count() == 0
    assert not dock.runner.follows
    assert dock.results.isHidden()
    assert f"patient {maps.KEPT}" in [x.name for x in viewer.layers]


def test_changing_the_model_frees_the_session(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock = dock_of()
    add(viewer, scan)
    segment(qtbot, dock)
    labels = np.array(layer(viewer, "segmentation").data)
    controls = dock.controls
    assert controls.model.currentText() == "Tiny, pruned"

    controls.model.setCurrentIndex(controls.model.findText("Tiny, dense"))
    assert not dock.runner.follows
    assert not controls.ratio.isEnabled()
    assert np.array_equal(layer(viewer, "segmentation").data, labels)
    result = segment(qtbot, dock)

    assert result.report["model"] == "brain-mr-dense"
    assert len(viewer.layers) == 1 + len(ROLES)
    assert dock.results.figures["Blocks saved"].startswith("0%")


def test_devices_are_listed_after_the_first_run(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock = dock_of()
    add(viewer, scan)
    combo = dock.controls.device
    assert [combo.itemData(i) for i in range(combo.count())] == ["auto"]

    segment(qtbot, dock)

    known = [combo.itemData(i) for i in range(combo.count())]
    assert known[0] == "auto"
    assert known[-1] == "cpu"
    assert combo.currentData() == "auto"


def test_removed_result_layer_comes_back(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock = dock_of()
    add(viewer, scan)
    segment(qtbot, dock)
    viewer.layers.remove(f"ball {maps.DEPTH}")

    with qtbot.waitSignal(dock.segmented, timeout=WAIT):
        dock.controls.set_ratio(0.3)

    assert sorted(x.name for x in viewer.layers) == sorted(["ball", *(f"ball {r}" for r in ROLES)])
    assert visible_maps(viewer) == [maps.KEPT]


def test_image_of_unknown_orientation_says_so(qtbot: Any, dock_of: Any):
    viewer, dock = dock_of()
    viewer.add_image(ball((24, 20, 22)), scale=(2, 2, 2), name="smaller than a window")

    result = segment(qtbot, dock)

    assert "taken as right, anterior and superior" in dock.message.text()
    assert result.labels.spacing == (2.0, 2.0, 2.0)
    assert not result.trace.air.all()


def test_slider_without_a_session_runs_nothing(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock = dock_of()
    add(viewer, scan)

    dock.controls.set_ratio(0.33)
    qtbot.wait(400)

    assert dock.controls.keep_ratio() == 0.35
    assert not dock.runner.busy
    assert len(viewer.layers) == 1
