"""The panel runs: what a user clicks, what is seen then, and what goes wrong."""

from __future__ import annotations

import pytest

from tests.slicer.panel.nodes import nodes_of, overlaid, results


def test_volume_of_the_scene_is_chosen_and_apply_is_offered(bench):
    assert not bench.ui.applyButton.enabled
    volume = bench.volume()
    bench.process_events()

    assert bench.parameters.inputVolume is volume
    assert bench.ui.applyButton.enabled
    assert bench.ui.applyButton.text == "Apply"


def test_apply_shows_structures_map_and_figures(bench):
    volume = bench.volume()
    bench.apply()

    (segmentation,) = nodes_of("vtkMRMLSegmentationNode")
    assert segmentation.GetSegmentation().GetNthSegment(0).GetName() == "bright"
    assert overlaid() == bench.runs.shown[volume.GetID()].nodes.maps["kept", None]
    assert "pruned at stage 1" in bench.ui.legend.text
    assert "bright" in bench.ui.structures.text
    assert "7 (88% of non-air)" in bench.ui.figures.text
    assert "Pruned" in bench.ui.figures.text
    assert bench.ui.progress.format == "0.5 s, 88% of tokens kept"
    assert bench.ui.notice.text == "<i>Research use only, not for diagnosis.</i>"
    assert not bench.ui.message.text


def test_sections_of_a_result_are_hidden_until_there_is_one(bench):
    bench.widget.parent.show()
    bench.volume()
    assert not bench.ui.mapButton.visible and not bench.ui.resultsButton.visible
    bench.apply()

    assert bench.ui.mapButton.visible and bench.ui.resultsButton.visible


def test_second_run_fills_the_nodes_of_the_first(bench):
    bench.volume()
    bench.apply()
    first = results()
    bench.ui.setting.setValue(0.3)
    bench.wait(lambda: bench.runs.busy)
    bench.wait(lambda: not bench.runs.busy)

    assert results() == first
    assert "0.3" in bench.ui.figures.text


def test_slider_that_rests_runs_the_last_value_only(bench):
    volume = bench.volume()
    bench.apply()
    orders = []
    start = bench.runs.start
    bench.runs.start = lambda order, heard: (orders.append(order.setting), start(order, heard))
    for value in (0.45, 0.4, 0.35):
        bench.ui.setting.setValue(value)
        bench.process_events()
    bench.wait(lambda: bool(orders))
    bench.wait(lambda: not bench.runs.busy)

    assert orders == [0.35]
    assert bench.runs.shown[volume.GetID()].order.setting == 0.35
    assert bench.parameters.setting == 0.35


def test_slider_shows_what_the_first_stage_lets_go_on_before_the_run(bench):
    volume = bench.volume()
    bench.apply()
    bench.ui.followSlider.setChecked(False)
    bench.ui.setting.setValue(0.3)
    shown = bench.runs.shown[volume.GetID()]
    bench.wait(lambda: bool(shown.previewed))

    assert not bench.runs.busy
    assert bench.ui.mapAbout.text == "What goes on."
    assert bench.ui.message.text == "Press Apply to segment with this keep ratio."
    assert shown.order.setting == 0.5


def test_slider_moves_in_the_steps_of_the_setting(bench):
    bench.volume()
    bench.ui.setting.setValue(0.33)

    assert bench.ui.setting.value == pytest.approx(0.35)
    assert bench.parameters.setting == pytest.approx(0.35)


def test_apply_becomes_cancel_and_cancel_leaves_the_scene_as_it_was(make_bench):
    bench = make_bench("run:slow")
    bench.volume()
    before = results()
    bench.ui.applyButton.click()
    assert bench.ui.applyButton.text == "Cancel"
    bench.wait(lambda: "Encoding" in bench.ui.progress.format)
    bench.ui.applyButton.click()
    assert bench.ui.applyButton.text == "Cancelling..."
    assert not bench.ui.applyButton.enabled
    bench.wait(lambda: not bench.runs.busy)

    assert bench.ui.message.text == "Cancelled; nothing was changed."
    assert bench.ui.applyButton.text == "Apply" and bench.ui.applyButton.enabled
    assert results() == before
    assert bench.ui.progress.format == ""


def test_slider_that_rests_while_a_run_is_cancelled_runs_after_it(make_bench):
    bench = make_bench()
    volume = bench.volume()
    bench.apply()
    bench.runs.engine.stop()
    bench.faults.append("run:late")
    bench.ui.applyButton.click()
    bench.wait(lambda: bench.runs.engine._open is not None)
    bench.ui.applyButton.click()
    bench.ui.setting.setValue(0.3)
    bench.panel._run()
    assert bench.runs.busy
    bench.wait(lambda: not bench.runs.engine.cancelling)
    bench.process_events()
    assert bench.runs.busy and "Cancelled" not in bench.ui.message.text

    bench.ui.applyButton.click()
    bench.wait(lambda: not bench.runs.busy)
    assert "Cancelled" in bench.ui.message.text
    assert bench.runs.shown[volume.GetID()].order.setting == 0.5


def test_hundred_rounds_of_apply_and_cancel_leave_no_node(make_bench):
    import slicer

    bench = make_bench("run:slow")
    bench.volume()
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    for _ in range(100):
        bench.ui.applyButton.click()
        bench.process_events()
        bench.ui.applyButton.click()
        bench.wait(lambda: not bench.runs.busy)

    assert slicer.mrmlScene.GetNumberOfNodes() == nodes


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("run:crash", "The engine stopped unexpectedly (exit code 3); press Apply to start it"),
        ("run:garbage", "The engine sent something that nobody understands; press Apply"),
        ("run:memory", "The card is full."),
        ("open:killed", "if memory ran out"),
    ],
)
def test_what_goes_wrong_is_shown_and_the_next_apply_works(make_bench, fault, sentence):
    bench = make_bench(fault)
    bench.volume()
    bench.apply()

    assert sentence in bench.ui.message.text
    assert sentence in bench.ui.log.plainText
    assert results() == []
    bench.faults.append("")
    bench.runs.engine.stop()
    bench.apply()
    assert len(nodes_of("vtkMRMLSegmentationNode")) == 1
    assert bench.ui.message.text == ""


def test_volume_deleted_during_the_run_stops_it_with_a_sentence(make_bench):
    import slicer

    bench = make_bench("run:slow")
    volume = bench.volume("head")
    bench.ui.applyButton.click()
    bench.wait(lambda: "Encoding" in bench.ui.progress.format)
    slicer.mrmlScene.RemoveNode(volume)
    bench.process_events()

    assert not bench.runs.busy
    assert bench.ui.message.text.startswith("head was removed from the scene")
    assert results() == []
    assert not bench.ui.applyButton.enabled


def test_scene_closed_during_the_run_stops_it_and_the_next_scene_works(make_bench):
    import slicer

    bench = make_bench("run:slow")
    bench.volume()
    bench.ui.applyButton.click()
    bench.wait(lambda: "Encoding" in bench.ui.progress.format)
    slicer.mrmlScene.Clear()
    bench.process_events()
    assert not bench.runs.busy
    assert results() == []

    bench.faults.append("")
    bench.runs.engine.stop()
    bench.volume("another")
    bench.wait(lambda: bench.ui.applyButton.enabled)
    bench.apply()
    assert len(nodes_of("vtkMRMLSegmentationNode")) == 1


def test_module_left_during_a_run_lets_it_finish(make_bench):
    bench = make_bench()
    bench.volume()
    bench.ui.applyButton.click()
    bench.widget.exit()
    bench.wait(lambda: not bench.runs.busy)

    assert len(nodes_of("vtkMRMLSegmentationNode")) == 1


def test_cleanup_during_a_run_ends_the_engine(make_bench):
    bench = make_bench("run:slow")
    bench.volume()
    bench.ui.applyButton.click()
    bench.wait(lambda: "Encoding" in bench.ui.progress.format)
    runs = bench.runs
    bench.widget.cleanup()

    assert not runs.engine.worker.alive
    assert not runs.busy
