"""The tab "Compare" in a real window: its numbers, the layer of the differences, and refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from napari_sparseseg.analysis.compare import ADDED, CHANGED, LOST, compare
from napari_sparseseg.plugin.geometry import placed
from napari_sparseseg.plugin.inspector.targets import BEFORE_KEY, DENSE_KEY, SETTING_KEY
from napari_sparseseg.plugin.runner import Answer
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.volume import Volume

from .conftest import CLASSES, WAIT
from .window import add, move_slider, segment

LAYER = "ball difference"


def add_labels(viewer: Any, volume: Volume) -> Any:
    """Add labels as one who read them from a file of their own."""
    data, transform, affine = placed(volume)
    metadata = {"affine": affine, "source_affine": volume.affine}
    return viewer.add_labels(data, name=volume.name, metadata=metadata, **transform)


def opened(qtbot: Any, dock_of: Any, scan: Volume) -> tuple[Any, Any, Any]:
    """Segment a scan and open the inspector."""
    viewer, dock = dock_of(show=True)
    add(viewer, scan)
    segment(qtbot, dock)
    inspector = dock.open_inspector()
    inspector.pages.setCurrentWidget(inspector.compare)
    qtbot.waitUntil(inspector.compare.isVisible, timeout=WAIT)
    return viewer, dock, inspector


def choose(tab: Any, key: Any) -> None:
    keys = [tab.target.itemData(place).key for place in range(tab.target.count())]
    tab.target.setCurrentIndex(keys.index(key))


def press(qtbot: Any, inspector: Any) -> Any:
    """Press Compare and wait for what it finds."""
    with qtbot.waitSignal(inspector.inspected, timeout=WAIT) as blocker:
        inspector.compare.button.click()
    return blocker.args[0]


def refused(qtbot: Any, inspector: Any) -> str:
    """Press Compare and wait for the sentence that says why not."""
    with qtbot.waitSignal(inspector.dock.refused, timeout=WAIT) as blocker:
        inspector.compare.button.click()
    return blocker.args[0]


def test_with_the_dense_twin(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock, inspector = opened(qtbot, dock_of, scan)
    tab = inspector.compare
    assert tab.target.currentData().key == DENSE_KEY
    assert not tab.follow.isEnabled()

    inspection = press(qtbot, inspector)
    result = dock.shown.result
    with Segmenter("brain-mr-stp").open(scan) as session:
        dense = session.run(1.0)

    # the numbers are those of the same arrays
    np.testing.assert_array_equal(dock.shown.dense.result.labels.data, dense.labels.data)
    expected = compare(result.labels, dense.labels, CLASSES)
    assert expected.difference.any()
    np.testing.assert_array_equal(inspection.comparison.difference, expected.difference)
    rows = {row[0]: row[1:] for row in tab.findings.structures.texts()}
    for entry in expected.classes:
        assert rows[entry.name] == [
            "–" if entry.dice is None else f"{entry.dice:.3f}",
            "–" if entry.hd95 is None else f"{entry.hd95:.2f}",
            f"{entry.millilitres:,.2f}",
            f"{entry.reference_millilitres:,.2f}",
            f"{entry.millilitres - entry.reference_millilitres:+,.2f}",
        ]
    assert f"Mean Dice {expected.mean_dice:.3f} (dense twin)" in tab.findings.summary.text()
    assert tab.findings.verdict.text() == inspection.attribution.verdict
    tokens = [int(row[1].replace(",", "")) for row in tab.findings.fates.texts()]
    assert sum(tokens) == result.trace.grid.size
    errors = [share.errors for share in inspection.attribution.shares]
    assert sum(errors) == np.count_nonzero(result.labels.data != dense.labels.data)

    # the layer lies on the image, with each kind of difference at its voxel
    layer, image = viewer.layers[LAYER], viewer.layers["ball"]
    assert layer.data_to_world((3, 4, 5)) == pytest.approx(image.data_to_world((3, 4, 5)))
    to_scan = np.linalg.inv(scan.affine) @ image.metadata["affine"]
    mine, theirs = result.labels.data, dense.labels.data
    found = np.argwhere(layer.data)
    assert len(found) == np.count_nonzero(mine != theirs)
    for index in found:
        voxel = tuple(np.rint(to_scan @ [*index, 1]).astype(int)[:3])
        kind = ADDED if not theirs[voxel] else LOST if not mine[voxel] else CHANGED
        assert layer.data[tuple(index)] == kind
    names = [x.name for x in viewer.layers]
    assert names.index("ball segmentation") == names.index(LAYER) + 1
    offered = [tab.target.itemText(place) for place in range(tab.target.count())]
    assert not [text for text in offered if LAYER in text]
    assert dock.controls.image.count() == 1
    tab.findings.visible.click()
    assert not layer.visible
    layer.visible = True
    assert tab.findings.visible.isChecked()

    # a double click goes to where most of a structure differs
    table = tab.findings.structures
    changed = max(expected.classes, key=lambda entry: abs(entry.change))
    row = [texts[0] for texts in table.texts()].index(changed.name)
    with qtbot.waitSignal(inspector.token_chosen, timeout=WAIT):
        table.opened_row.emit(table.key(row))
    # napari rounds to a step of its sliders
    shown = np.rint(layer.world_to_data(viewer.dims.point)).astype(int)
    assert layer.data[tuple(slice(i - 1, i + 2) for i in shown)].any()


def test_it_follows_the_slider_until_the_inspector_is_closed(
    qtbot: Any, dock_of: Any, scan: Volume
):
    viewer, dock, inspector = opened(qtbot, dock_of, scan)
    first = press(qtbot, inspector)
    dense = dock.shown.dense
    inspector.compare.follow.click()

    with qtbot.waitSignal(inspector.inspected, timeout=WAIT) as blocker:
        move_slider(dock, 0.2)
    second = blocker.args[0]
    assert second.result is dock.shown.result is not first.result
    assert dock.shown.dense is dense  # it did not run again
    layer = viewer.layers[LAYER]
    assert np.count_nonzero(layer.data) == sum(second.comparison.counts.values())
    assert sum(second.comparison.counts.values()) != sum(first.comparison.counts.values())

    # what was shown before can be compared with, without a run
    inspector.compare.follow.setChecked(False)
    choose(inspector.compare, BEFORE_KEY)
    third = press(qtbot, inspector)
    assert third.other.data is first.result.labels.data
    assert third.other_title == "result before: STP + MTA, keep ratio 0.5"

    inspector.compare.follow.setChecked(True)
    viewer.window.remove_dock_widget(inspector)
    assert LAYER not in viewer.layers
    with qtbot.waitSignal(dock.segmented, timeout=WAIT):
        move_slider(dock, 0.8)
    assert not dock.runner.busy
    assert LAYER not in viewer.layers


def test_with_another_method_a_control_and_another_setting(qtbot: Any, dock_of: Any, scan: Volume):
    _, dock, inspector = opened(qtbot, dock_of, scan)
    tab = inspector.compare
    runs = {
        ("method", "svit"): ("SViT, keep ratio 0.5", "brain-mr-svit", "", 0.5),
        ("control", "random"): ("control random, keep ratio 0.5", "brain-mr-stp", "random", 0.5),
        SETTING_KEY: ("STP + MTA, keep ratio 0.25", "brain-mr-stp", "", 0.25),
    }
    for key, (title, model, sparsifier, setting) in runs.items():
        choose(tab, key)
        if key == SETTING_KEY:
            assert tab.setting.isVisible()
            tab.setting.slider.setValue(setting)
        inspection = press(qtbot, inspector)
        expected = Segmenter(model, sparsifier=sparsifier).segment(scan, setting)
        assert inspection.other_title == title
        np.testing.assert_array_equal(inspection.other.data, expected.labels.data)
        assert inspection.attribution.shares[0].new_errors is not None
    assert dock.shown.result.report["setting"]["value"] == 0.5
    assert dock.runner.follows


def test_with_a_reference(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock, inspector = opened(qtbot, dock_of, scan)
    tab, labels = inspector.compare, dock.shown.result.labels
    truth = labels.data.astype(np.int32)
    truth[28:31, 25:29, 20:25] = (truth[28:31, 25:29, 20:25] % 3) + 1  # 60 voxels, none as before
    layers = {
        "same": add_labels(viewer, Volume(truth, scan.affine, "same")),
        "odd": add_labels(viewer, Volume(np.where(truth == 1, 77, truth), scan.affine, "odd")),
        "drawn": viewer.add_labels(
            np.zeros_like(viewer.layers["ball"].data, dtype=int),
            name="drawn",
            scale=viewer.layers["ball"].scale,
            translate=viewer.layers["ball"].translate,
        ),
    }
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = len(truth) - 1
    flipped = Volume(truth[::-1], scan.affine @ flip, "flipped")
    layers["flipped"] = add_labels(viewer, flipped)

    choose(tab, ("reference", layers["same"].unique_id))
    inspection = press(qtbot, inspector)
    assert inspection.other_title == "reference: same"
    assert sum(inspection.comparison.counts.values()) == 60
    assert np.count_nonzero(viewer.layers[LAYER].data) == 60

    # labels painted on the image in napari lie on the grid of the scan: all structures are new
    choose(tab, ("reference", layers["drawn"].unique_id))
    counts = press(qtbot, inspector).comparison.counts
    assert counts == {"added": np.count_nonzero(labels.data), "lost": 0, "changed": 0}

    tab.follow.setChecked(False)
    for name, words in {
        "flipped": ("60 x 54 x 50 voxels of 2 x 2.5 x 3 mm, LAS", "mm, RAS", "allow resampling"),
        "odd": ("labels that no class has (77)", "0 to 3"),
    }.items():
        choose(tab, ("reference", layers[name].unique_id))
        sentence = refused(qtbot, inspector)
        assert dock.message.text() == sentence
        for part in (f"{name} ", *words):
            assert part in sentence
    assert tab.resample.text().lower() == "allow resampling"

    choose(tab, ("reference", layers["flipped"].unique_id))
    assert tab.resample.isVisible()
    tab.resample.setChecked(True)
    assert sum(press(qtbot, inspector).comparison.counts.values()) == 60


def test_cancelling_leaves_nothing(qtbot: Any, dock_of: Any, scan: Volume, hold: Any):
    viewer, dock, inspector = opened(qtbot, dock_of, scan)
    before = [x.name for x in viewer.layers]
    for step in ("Dense twin: encoding and decoding", "Comparing"):
        gate = hold(dock.runner, step)
        inspector.compare.button.click()
        qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)
        with qtbot.waitSignal(dock.runner.cancelled, timeout=WAIT):
            dock.controls.cancel_button.click()
            gate.open()

        assert dock.message.text() == "Cancelled; nothing was changed."
        assert [x.name for x in viewer.layers] == before
        assert inspector.inspection is None
        assert dock.shown.dense is None
        assert not inspector.compare.findings.isVisible()


def test_what_changes_while_it_runs(qtbot: Any, dock_of: Any, scan: Volume, hold: Any):
    viewer, dock, inspector = opened(qtbot, dock_of, scan)
    tab, shown = inspector.compare, dock.shown
    reference = add_labels(viewer, Volume(shown.result.labels.data, scan.affine, "drawn"))
    choose(tab, ("reference", reference.unique_id))

    # the reference goes
    gate = hold(dock.runner, "Comparing")
    tab.button.click()
    qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)
    reference.name = "renamed"
    viewer.layers.remove(reference)
    with qtbot.waitSignal(dock.refused, timeout=WAIT) as blocker:
        gate.open()
    assert blocker.args[0].startswith("renamed was removed before the comparison was done; ")
    assert tab.target.currentData().key == DENSE_KEY
    assert inspector.inspection is None
    assert LAYER not in viewer.layers

    # another result is shown
    gate = hold(dock.runner, "Comparing")
    tab.button.click()
    qtbot.waitUntil(gate.reached.is_set, timeout=WAIT)
    other = Answer(replace(shown.request, setting=1.0), shown.dense.result)
    dock.show_answer(other)
    gate.open()
    qtbot.waitUntil(lambda: not dock.runner.busy, timeout=WAIT)
    assert dock.shown.answer is other
    assert inspector.inspection is None
    assert LAYER not in viewer.layers


def test_show_brings_back_a_layer_that_was_deleted(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock, inspector = opened(qtbot, dock_of, scan)
    press(qtbot, inspector)
    visible, layer = inspector.compare.findings.visible, viewer.layers[LAYER]

    viewer.layers.remove(layer)
    assert not visible.isChecked()
    visible.click()

    names = [x.name for x in viewer.layers]
    assert names.index("ball segmentation") == names.index(LAYER) + 1
    assert viewer.layers[LAYER].visible
    assert np.count_nonzero(viewer.layers[LAYER].data)


def test_what_was_changed_since_is_not_compared(qtbot: Any, dock_of: Any, scan: Volume):
    viewer, dock, inspector = opened(qtbot, dock_of, scan)
    viewer.layers["ball"].data = viewer.layers["ball"].data[4:]

    sentence = refused(qtbot, inspector)

    assert sentence.startswith("ball was changed since it was segmented; press Segment")
    assert LAYER not in viewer.layers
    assert not dock.runner.busy
