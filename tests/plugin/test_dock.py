"""The dock as a person uses it: a real window, the real engine, a tiny model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Layer

from napari_sparseseg import maps
from napari_sparseseg.plugin.panels import ScrollingColumn
from napari_sparseseg.plugin.sample import icbm152_t1
from napari_sparseseg.volume import Volume

from .conftest import WAIT, ball
from .window import STP_LAYERS, add, click_method, layer, move_slider, segment, visible_maps


def test_opening_the_dock_imports_no_torch(weights: Path):
    code = (
        "import sys, napari\n"
        "from napari_sparseseg.plugin.dock import open_dock\n"
        "viewer = napari.Viewer(show=False)\n"
        "dock = open_dock(viewer)\n"
        "heavy = {'torch', 'monai', 'SimpleITK'} & set(sys.modules)\n"
        "print(dock.controls.task.count(), sorted(heavy))\n"
        "viewer.close()\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert result.stdout.strip().splitlines()[-1:] == ["2 []"], result.stderr


def test_segmenting_the_sample_shows_everything(qtbot: Any, dock_of: Any):
    viewer, dock = dock_of()
    viewer.add_layer(Layer.create(*icbm152_t1()[0]))

    result = segment(qtbot, dock)

    assert [x.name for x in viewer.layers] == [
        "ICBM152 T1",
        *(f"ICBM152 T1 {r}" for r in STP_LAYERS),
    ]
    assert visible_maps(viewer, "ICBM152 T1") == ["kept"]
    assert layer(viewer, "segmentation", "ICBM152 T1").data.shape == (189, 233, 197)
    assert np.array_equal(np.unique(result.labels.data), [0, 1, 2, 3])
    assert [row[1] for row in dock.view.structures.legend.rows] == ["shell", "core", "rim"]
    assert all(row[2].endswith(" ml") for row in dock.view.structures.legend.rows)
    counts = result.trace.counts()
    assert dock.view.results.figures["Tokens"] == f"{counts['total']:,} ({counts['air']:,} air)"
    assert dock.view.results.figures["Kept"].startswith(f"{counts['kept']:,} (")
    assert dock.view.results.figures["Compute"].count("GMACs") == 1
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
    stp = column.widget().minimumSizeHint().width()
    assert dock.controls.minimumSizeHint().width() <= dock.view.results.minimumSizeHint().width()
    for name in ("apformer", "none"):  # the longest name of a setting, and the largest shares
        click_method(qtbot, dock, name)
        qtbot.waitUntil(fits, timeout=5000)
        assert column.widget().minimumSizeHint().width() < 1.05 * stp


def test_one_map_at_a_time(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock = dock_of()
    add(viewer, scan)
    result = segment(qtbot, dock)

    for name, expected in (("depth", ["depth"]), (maps.NONE, []),
                           ("importance", ["importance"])):  # fmt: skip
        dock.view.maps.buttons[name].click()
        assert visible_maps(viewer) == expected

    importance = layer(viewer, "importance")
    assert importance.colorbar.visible
    for stage in (1, 3):
        dock.view.maps.stage.setCurrentIndex(stage - 1)
        shown = np.sort(importance.data[np.isfinite(importance.data)])
        ranks = result.trace.percentile()[stage - 1]
        assert np.array_equal(shown, np.sort(ranks[np.isfinite(ranks)]))
    assert visible_maps(viewer) == ["importance"]
    assert np.isfinite(importance.data).sum() < np.isfinite(result.trace.importance[0]).sum()


def test_map_stays_chosen_when_the_result_changes(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock = dock_of()
    add(viewer, scan)
    segment(qtbot, dock)
    dock.view.maps.buttons["depth"].click()

    with qtbot.waitSignal(dock.segmented, timeout=WAIT):
        move_slider(dock, 0.2)

    assert visible_maps(viewer) == ["depth"]
    assert [entry[1] for entry in dock.view.maps.legend.rows] == [
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
    assert ": kept, 4 of 4 blocks" in dock.view.pointer.text()
    assert f"importance at stage 1: {rank:.2f}" in dock.view.pointer.text()
    name = result.classes[labels.data[at]]
    assert f"Structure: {name}" in dock.view.pointer.text()
    assert f"structure: {name}" in labels.get_status(world, world=True)["value"]


def test_each_image_gets_its_own_layers(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock = dock_of()
    add(viewer, scan)
    add(viewer, Volume(ball(seed=3), scan.affine, "other"))
    segment(qtbot, dock)
    first = np.array(layer(viewer, "segmentation").data)
    assert dock.runner.follows

    dock.controls.image.setCurrentIndex(1)
    assert not dock.runner.follows
    assert dock.view.isHidden()
    segment(qtbot, dock)

    assert len(viewer.layers) == 2 * (1 + len(STP_LAYERS))
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
    assert dock.view.isHidden()
    assert "patient kept" in [x.name for x in viewer.layers]


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
    viewer.layers.remove(f"ball {'depth'}")

    with qtbot.waitSignal(dock.segmented, timeout=WAIT):
        move_slider(dock, 0.3)

    assert sorted(x.name for x in viewer.layers) == sorted(
        ["ball", *(f"ball {r}" for r in STP_LAYERS)]
    )
    assert visible_maps(viewer) == ["kept"]


def test_image_of_unknown_orientation_says_so(qtbot: Any, dock_of: Any):
    viewer, dock = dock_of()
    viewer.add_image(ball((24, 20, 22)), scale=(2, 2, 2), name="smaller than a window")

    result = segment(qtbot, dock)

    assert "taken as right, anterior and superior" in dock.about.text()
    assert not any("smaller than a window" in note for note in result.report["notes"])
    assert result.labels.spacing == (2.0, 2.0, 2.0)
    assert not result.trace.air.all()
