"""From patch scores to the labels of a volume, against scipy and against cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, map_coordinates

from napari_sparseseg.canonical import ModelSpace
from napari_sparseseg.scores import PatchScores
from napari_sparseseg.volume import Volume
from tests.test_canonical import positions, volumes


def draw_scores(
    draw: st.DrawFn, shape: tuple[int, ...], background: int
) -> tuple[PatchScores, np.ndarray]:
    """Scores over a model grid, some patches closed, and the same densely: (C, *shape)."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    patch = draw(st.integers(1, 5))
    lead = tuple(draw(st.integers(0, patch - 1)) for _ in range(3))
    spare = draw(st.integers(0, 1))  # whole patches beyond the end of the image
    tokens = [-(-(b + n) // patch) + spare for b, n in zip(lead, shape, strict=True)]
    is_open = rng.random(tokens) < draw(st.sampled_from([0.0, 0.2, 0.7, 1.0]))

    classes, sharp = draw(st.integers(background + 1, 6)), draw(st.sampled_from([1.0, 30.0]))
    noise = rng.normal(size=(classes, *(n * patch for n in tokens)))
    smooth = gaussian_filter(noise, (0, *[draw(st.sampled_from([0.0, 2.0]))] * 3))
    dense = torch.from_numpy(smooth / (smooth.std() + 1e-9) * sharp).softmax(0).float().numpy()
    dense = np.ascontiguousarray(dense)

    rows, values = np.full(tokens, -1), []
    for x, y, z in np.ndindex(*tokens):
        corner = [slice(t * patch, (t + 1) * patch) for t in (x, y, z)]
        block = dense[(slice(None), *corner)]
        if is_open[x, y, z]:
            rows[x, y, z] = len(values)
            values.append(block.reshape(classes, -1).T.copy())
        else:
            block[...] = np.eye(classes)[background].reshape(-1, 1, 1, 1)
    stacked = np.array(values, np.float32).reshape(len(values), patch**3, classes)
    image = [slice(b, b + n) for b, n in zip(lead, shape, strict=True)]
    scores = PatchScores(torch.from_numpy(rows), torch.from_numpy(stacked), patch, lead)  # type: ignore[arg-type]
    return scores, dense[(slice(None), *image)]


@settings(max_examples=150, deadline=None)
@given(st.data(), volumes(), st.floats(0.5, 6.0), st.integers(0, 1))
def test_each_voxel_has_the_class_of_highest_interpolated_probability(
    data: st.DataObject, volume: Volume, spacing: float, background: int
) -> None:
    space = ModelSpace.of(volume, spacing)
    scores, dense = draw_scores(data.draw, space.shape, background)
    labels = space.labels_to_volume(scores, background)
    assert labels.shape == volume.shape and labels.dtype == np.uint8
    where = positions(volume.shape, np.linalg.inv(space.affine) @ volume.affine)
    fields = np.stack([map_coordinates(c, where, order=1, mode="nearest") for c in dense])
    missed = fields.max(axis=0) - np.take_along_axis(fields, labels[None].astype(int), 0)[0]
    assert missed.max() < 1e-5


def line(n: int, spacing: float, probabilities: list[list[float]], **options: int) -> list[int]:
    """Labels of n voxels in a row, 1 mm apart, under one list of probabilities a model voxel."""
    space = ModelSpace.of(Volume(np.zeros((n, 1, 1)), np.eye(4)), (spacing, 1.0, 1.0))
    assert space.shape == (len(probabilities), 1, 1)
    dense = torch.tensor(probabilities).T[:, :, None, None]
    labels = space.labels_to_volume(PatchScores.whole(dense, patch=2), **options)
    assert isinstance(labels, np.ndarray)
    return labels[:, 0, 0].tolist()


# Eight voxels lie at -3/8, -1/8, 1/8, 3/8, ... between two model voxels, four to a step.
@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0, 0, 0, 0, 1, 1, 1, 1]),
        ([0.1, 0.9, 0.0], [0.9, 0.1, 0.0], [1, 1, 1, 1, 0, 0, 0, 0]),
        # 1 - 0.6 t against 0.6 t is even at t = 5 / 6
        ([1.0, 0.0, 0.0], [0.4, 0.6, 0.0], [0, 0, 0, 0, 0, 1, 1, 1]),
        # a class that is best at no corner leads from t = 1 / 3 to t = 2 / 3
        ([0.6, 0.0, 0.4], [0.0, 0.6, 0.4], [0, 0, 0, 2, 2, 1, 1, 1]),
        # the same for the lowest class
        ([0.4, 0.6, 0.0], [0.4, 0.0, 0.6], [1, 1, 1, 0, 0, 2, 2, 2]),
        # 0.26 never leads: one of the two has at least 0.37
        ([0.74, 0.0, 0.26], [0.0, 0.74, 0.26], [0, 0, 0, 0, 1, 1, 1, 1]),
    ],
)
def test_labels_between_two_model_voxels(
    first: list[float], second: list[float], expected: list[int]
) -> None:
    assert line(8, 4.0, [first, second]) == expected


def test_ties_go_to_the_lowest_class() -> None:
    """The third of five voxels lies in the middle of two model voxels."""
    assert line(5, 2.5, [[1.0, 0.0], [0.0, 1.0]]) == [0, 0, 0, 1, 1]
    assert line(5, 2.5, [[0.0, 1.0], [1.0, 0.0]]) == [1, 1, 0, 0, 0]
    four_even = [[0.25, 0.25, 0.5, 0.0], [0.25, 0.25, 0.0, 0.5]]
    assert line(5, 2.5, four_even) == [2, 2, 0, 3, 3]
    assert line(5, 2.5, [[0.5, 0.5]] * 2) == [0] * 5
    assert line(5, 2.5, [[0.5, 0.5]] * 2, background=1) == [0] * 5


def test_three_regions_that_meet_in_one_cell() -> None:
    """Four columns of model voxels: class 1, class 2 and twice class 0."""
    volume = Volume(np.zeros((8, 8, 1)), np.eye(4))
    space = ModelSpace.of(volume, (4.0, 4.0, 1.0))
    best = torch.tensor([[1, 2], [0, 0]])[:, :, None]
    dense = torch.nn.functional.one_hot(best, 3).permute(3, 0, 1, 2).float()
    labels = space.labels_to_volume(PatchScores.whole(dense))[:, :, 0]
    # At (x, y) in the cell: class 0 has x, class 1 (1 - x)(1 - y), class 2 (1 - x) y. At x = 3/8
    # class 0 beats class 1 where 1 - y < 3/5: for y = 5/8, but there class 2 has 25/64 > 24/64.
    upper = [1, 1, 1, 1, 2, 2, 2, 2]
    np.testing.assert_array_equal(labels[:4], [upper] * 4)
    np.testing.assert_array_equal(labels[4:], np.zeros((4, 8)))


def test_a_volume_with_no_open_patch_is_background() -> None:
    space = ModelSpace.of(Volume(np.zeros((6, 5, 4)), np.eye(4)), 2.0)
    rows = torch.full((2, 2, 2), -1)
    scores = PatchScores(rows, torch.zeros(0, 8, 3), 2, (0, 0, 0))
    for background in (0, 2):
        assert np.all(space.labels_to_volume(scores, background) == background)


def test_open_patches_beside_the_image_do_not_count() -> None:
    space = ModelSpace.of(Volume(np.zeros((6, 6, 6)), np.eye(4)), 2.0)
    rows = torch.full((3, 2, 2), -1)
    rows[2] = torch.arange(4).reshape(2, 2)  # begins at image voxel 3, behind the last
    values = torch.zeros(4, 8, 2)
    values[..., 1] = 1.0
    assert not space.labels_to_volume(PatchScores(rows, values, 2, (1, 0, 0))).any()


def test_dense_probabilities_are_filled_with_background() -> None:
    dense = torch.rand(3, 5, 4, 2).softmax(0)
    scores = PatchScores.whole(dense, patch=4)
    assert scores.rows.shape == (2, 1, 1) and scores.lead == (0, 0, 0)
    first = scores.values[0].reshape(4, 4, 4, 3)
    assert torch.equal(first[:, :, :2], dense[:, :4].permute(1, 2, 3, 0))
    assert torch.equal(first[:, :, 2:], torch.tensor([1.0, 0, 0]).expand(4, 4, 2, 3))
    second = scores.values[1].reshape(4, 4, 4, 3)
    assert torch.equal(second[:1, :, :2], dense[:, 4:].permute(1, 2, 3, 0))


@pytest.mark.parametrize(
    ("values", "lead"),
    [
        (torch.zeros(1, 9, 2), (0, 0, 0)),
        (torch.zeros(1, 2, 8).mT, (0, 0, 0)),
        (torch.zeros(8, 2), (0, 0, 0)),
        (torch.zeros(1, 8, 2), (0, 2, 0)),
        (torch.zeros(1, 8, 2), (0, 0, -1)),
    ],
)
def test_scores_that_do_not_fit_are_refused(
    values: torch.Tensor, lead: tuple[int, int, int]
) -> None:
    with pytest.raises(ValueError, match="expected"):
        PatchScores(torch.zeros(1, 1, 1, dtype=torch.int64), values, 2, lead)
