"""What the dock cannot do: one sentence each, and the viewer stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Image, Labels, Layer

from napari_sparseseg.volume import Volume

from .conftest import WAIT, ball
from .window import add, segment


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
