"""Class probabilities on the scan's own grid: what the labels are the best class of."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from napari_sparseseg import probability
from napari_sparseseg.canonical import ModelSpace
from napari_sparseseg.errors import InputError, OutputError
from napari_sparseseg.probability import Probabilities, write_probabilities
from napari_sparseseg.scores import PatchScores
from napari_sparseseg.structures import class_indices
from napari_sparseseg.volume import Volume
from tests.test_canonical import positions, volumes
from tests.test_restore import draw_scores

CLASSES = ("background", "noyau caudé", "尾状核")


@settings(max_examples=60, deadline=None)
@given(st.data(), volumes(), st.floats(0.5, 6.0))
def test_they_are_interpolated_as_the_labels_were(
    data: st.DataObject, volume: Volume, spacing: float
) -> None:
    space = ModelSpace.of(volume, spacing)
    scores, dense = draw_scores(data.draw, space.shape, 0)
    probabilities = Probabilities(scores, space, volume.affine)
    depth = volume.shape[2]
    cut = data.draw(st.integers(0, depth))

    maps = [probabilities.of(index) for index in range(len(dense))]
    found = np.stack([np.concatenate([m.planes(0, cut), m.planes(cut, depth)], -1) for m in maps])

    where = positions(volume.shape, np.linalg.inv(space.affine) @ volume.affine)
    for here, model in zip(found, dense, strict=True):
        np.testing.assert_allclose(
            here, map_coordinates(model, where, order=1, mode="nearest"), atol=1e-5
        )
    labels = space.labels_to_volume(scores)
    chosen = np.take_along_axis(found, labels[None].astype(int), 0)[0]
    # where two classes are as probable, rounding may decide
    assert (found.max(axis=0) - chosen).max() < 1e-5
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)


def made_up() -> tuple[Probabilities, np.ndarray]:
    """Probabilities of an oblique volume of LPI axes, and densely: (3, I, J, K)."""
    affine = np.array([[-1.0, 0.2, 0, 30], [-0.2, -1, 0, 8], [0, 0, -3, 5], [0, 0, 0, 1]])
    volume = Volume(np.zeros((9, 7, 6)), affine)
    space = ModelSpace.of(volume, 2.0)
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(3, *space.shape)))
    scores = PatchScores.whole((3 * noise).softmax(0).float(), patch=4)
    probabilities = Probabilities(scores, space, affine)
    return probabilities, np.stack([probabilities.of(n).planes(0, 6) for n in range(3)], -1)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("at_once", [1, 130, 1 << 22])
def test_nibabel_reads_all_classes(
    tmp_path: Path, ending: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few planes are written at once."""
    monkeypatch.setattr(probability, "_AT_ONCE", at_once)
    probabilities, expected = made_up()

    write_probabilities(probabilities, CLASSES, (0, 1, 2), path := tmp_path / f"p{ending}")

    image = nib.load(path)
    assert image.get_data_dtype() == np.float32
    assert np.array_equal(np.asarray(image.dataobj), expected)
    np.testing.assert_allclose(image.affine, probabilities.affine, atol=1e-6)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    (names,) = image.header.extensions
    assert names.get_content() in ("\n".join(CLASSES), "\n".join(CLASSES).encode())


def test_a_single_class_is_a_3d_file(tmp_path: Path) -> None:
    probabilities, expected = made_up()

    write_probabilities(probabilities, CLASSES, (2,), tmp_path / "p.nii.gz")

    assert np.array_equal(np.asarray(nib.load(tmp_path / "p.nii.gz").dataobj), expected[..., 2])


def test_an_existing_file_stays(tmp_path: Path) -> None:
    probabilities, expected = made_up()
    (tmp_path / "p.nii").write_text("older")

    with pytest.raises(OutputError, match="exists already"):
        write_probabilities(probabilities, CLASSES, (0,), tmp_path / "p.nii")
    assert (tmp_path / "p.nii").read_text() == "older"

    write_probabilities(probabilities, CLASSES, (0,), tmp_path / "p.nii", overwrite=True)
    assert np.array_equal(np.asarray(nib.load(tmp_path / "p.nii").dataobj), expected[..., 0])


def test_classes_are_chosen_by_name() -> None:
    assert class_indices(CLASSES, ()) == (0, 1, 2)
    assert class_indices(CLASSES, ("尾状核", "background")) == (2, 0)
    with pytest.raises(InputError, match="no class 'liver'; choose one of: background, noyau"):
        class_indices(CLASSES, ("liver",))
