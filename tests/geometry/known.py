"""Scans whose labels are known at every place in the patient, and a network that must find them.

The intensity falls off from three planes (HU, a function of RAS mm alone), so that its levels are
three-sided corners which no mirror image, turn or shift brings onto themselves; between planes it
is linear, which resampling to any grid leaves as it is. The weights of the network are set by hand:
a voxel's class is the band in which its intensity lies. What is expected is computed from what
SimpleITK says of the files, by nothing of the package.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from napari_sparseseg.files import read_volume, write_volume
from napari_sparseseg.network import DecoderConfig, SparseUNETR
from napari_sparseseg.network.decoder import SubvoxelHead
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.weights import ModelInfo, save_model
from tests.network.conftest import small_config

SPACING = 1.0
"""Of the model (mm)."""
PATCH = 8 * SPACING
LEVELS = (-50.0, 250.0)
"""HU between the classes 0, 1 and 2."""
AIR = -170.0
"""HU up to which a voxel holds no tissue."""
NORMALS = np.array([[0.9, 0.3, -0.3], [-0.4, 0.85, 0.35], [0.1, -0.5, 0.86]])
"""Of the three planes, in RAS: unlike each other in every component."""

_SHARP = 200.0  # of the scores: probabilities are next to 0 or 1
_ZERO = np.zeros((1, 3))
_TO_RAS = np.diag([-1.0, -1.0, 1.0])
_ROUNDING = 2.0  # HU: files hold whole numbers

Vectors = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """One scan, as it is stored.

    Parameters
    ----------
    shape : tuple of int
        Voxels.
    spacing : tuple of float
        mm along each axis of the array.
    way : int
        Which of the 48 orders and senses of the axes.
    angles : tuple of float
        Rotation away from the axes of the body (degrees).
    origin : tuple of float
        Of the first voxel, in LPS mm.
    corner : tuple of float
        Where the three planes meet, as a share of the scan along each axis of the array.
    suffix : str
        Ending of the file.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    way: int
    angles: tuple[float, float, float] = (0.0, 0.0, 0.0)
    origin: tuple[float, float, float] = (31.0, -17.5, 8.25)
    corner: tuple[float, float, float] = (0.55, 0.6, 0.45)
    suffix: str = ".nii.gz"

    def image(self) -> sitk.Image:
        """Return the empty grid."""
        order, senses = list(
            itertools.product(
                itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)
            )
        )[self.way]
        turn = Rotation.from_euler("xyz", self.angles, degrees=True).as_matrix()
        image = sitk.Image(list(self.shape), sitk.sitkInt16)
        image.SetSpacing(self.spacing)
        image.SetDirection((turn @ (np.eye(3)[list(order)] * senses)).ravel().tolist())
        image.SetOrigin(self.origin)
        return image


@dataclass(frozen=True, eq=False)
class Field:
    """Intensity in HU as a function of the place: the least of three linear ones.

    Parameters
    ----------
    corner : ndarray
        RAS mm where the planes meet.
    slope : float
        HU per mm.
    top : float
        HU at the corner.
    """

    corner: Vectors
    slope: float
    top: float = LEVELS[1] + 150.0

    @classmethod
    def of(cls, case: Case, image: sitk.Image) -> Field:
        """Lay the corner into a scan; its intensities reach from air to bone."""
        middle = [share * (n - 1) for share, n in zip(case.corner, case.shape, strict=True)]
        corner = places(image, np.array([middle]))[0]
        reach = np.linalg.norm([n * s for n, s in zip(case.shape, case.spacing, strict=True)])
        field = cls(corner, 2800.0 / max(float(reach), 20.0))
        lowest = float(field.parts(places(image, indices(image))).min())
        return replace(field, top=field.top - max(0.0, lowest + 300.0))  # air in every scan

    def parts(self, points: Vectors) -> Vectors:
        """Return the three linear functions at ``(n, 3)`` RAS mm, ``(n, 3)`` HU."""
        return self.top + self.slope * (points - self.corner) @ NORMALS.T

    def reach(self, steps: Vectors) -> Vectors:
        """Return how far each function can be from its value within a box: ``(3,)`` HU.

        Parameters
        ----------
        steps : ndarray
            ``(3, 3)``; the columns are the half edges of the box, RAS mm.
        """
        return self.slope * np.abs(NORMALS @ steps).sum(axis=1)


def places(image: sitk.Image, index: Vectors) -> Vectors:
    """Return the RAS mm of ``(n, 3)`` indices, from the facts that SimpleITK gives of a file."""
    matrix = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    lps: Vectors = index @ matrix.T + image.GetOrigin()
    return lps @ _TO_RAS


def indices(image: sitk.Image) -> Vectors:
    """Return the index of every voxel, ``(n, 3)``, the first axis slowest."""
    return np.indices(image.GetSize()).reshape(3, -1).T.astype(float)


def axes(image: sitk.Image) -> Vectors:
    """Return the directions of the axes of the array as columns, in RAS."""
    return _TO_RAS @ np.reshape(image.GetDirection(), (3, 3))


def make_segmenter(folder: Path) -> Segmenter:
    """Write and load a model of which each voxel's class is the band of its intensity."""
    config = small_config(
        classes=3,
        decoder=DecoderConfig(4, 2, "channel"),
        air_level=(AIR + 200) / 500,
        air_fraction=0.0,
    )
    network = SparseUNETR(config)
    head = network.decoder.head
    assert isinstance(head, SubvoxelHead)
    features = head.hidden.in_channels - 8
    low, high = ((level + 200) / 500 for level in LEVELS)
    with torch.no_grad():
        for tensor in (head.hidden.weight, head.hidden.bias, head.scores.weight, head.scores.bias):
            tensor.zero_()
        scores, bias = head.scores.weight.view(3, 8, -1), head.scores.bias.view(3, 8)
        for part in range(8):
            head.hidden.weight[part, features + part] = 1.0
            scores[1, part, part], scores[2, part, part] = _SHARP, 2 * _SHARP
        bias[1], bias[2] = -_SHARP * low, -_SHARP * (low + high)
    info = ModelInfo(
        name="bands-stp",
        title="Bands of intensity",
        method="stp",
        modality="made-up CT",
        spacing=SPACING,
        classes=("background", "soft", "hard"),
        colors=("#000000", "#f2f2f2", "#cd6d4f"),
        default_setting=0.5,
        network=config.to_dict(),
        license="Apache-2.0",
        path=folder / "bands-stp.safetensors",
        intensity="ct",
    )
    save_model(network.state_dict(), info)
    return Segmenter(info.path, device="cpu", precision="float32")


def check(segmenter: Segmenter, case: Case, folder: Path) -> tuple[float, float]:
    """Segment a scan from file to file, and look its labels and token maps up where it lies.

    Returns
    -------
    tuple of float
        Share of the voxels whose class is certain, and of the tokens of which it is certain
        whether they hold tissue; all of those were right.

    Raises
    ------
    AssertionError
        If something lies elsewhere.
    """
    empty = case.image()
    field = Field.of(case, empty)
    values = field.parts(places(empty, indices(empty))).min(axis=1)
    scan, labels = folder / f"scan{case.suffix}", folder / f"labels{case.suffix}"
    image = sitk.GetImageFromArray(values.reshape(case.shape).T.round().astype(np.int16))
    image.CopyInformation(empty)
    sitk.WriteImage(image, str(scan))
    result = segmenter.segment(read_volume(scan))
    write_volume(result.labels, labels, overwrite=True)
    result.trace.save(folder / "trace", overwrite=True)
    _check_grid(sitk.ReadImage(str(labels)), image)
    depth = sitk.ReadImage(str(folder / "trace" / "depth.nii.gz"))
    return _check_labels(sitk.ReadImage(str(labels)), field), _check_tokens(depth, field, image)


def _check_grid(labels: sitk.Image, scan: sitk.Image) -> None:
    """Expect the labels to have the voxels of the scan."""
    assert labels.GetSize() == scan.GetSize()
    last = [n - 1 for n in scan.GetSize()]
    for index in itertools.product(*((0, n) for n in last)):
        there, here = (grid.TransformIndexToPhysicalPoint(index) for grid in (labels, scan))
        np.testing.assert_allclose(there, here, atol=1e-2)


def _check_labels(labels: sitk.Image, field: Field) -> float:
    """Expect the class of each voxel to be the band of the intensity at its place.

    Where one function alone counts as far as the scan's own voxels and the model's reach,
    resampling is exact, and the border of a class lies within a model voxel and a half.
    """
    found = sitk.GetArrayFromImage(labels).T.reshape(-1)
    parts = field.parts(places(labels, indices(labels)))
    directions = axes(labels)
    wide = field.reach(directions * (np.array(labels.GetSpacing()) + 1.5 * SPACING)) + _ROUNDING
    narrow = field.reach(directions * (1.5 * SPACING)) + _ROUNDING
    which = parts.argmin(axis=1)
    alone = ((parts - wide) > (parts + wide).min(axis=1)[:, None]).sum(axis=1) == 2
    low = np.where(alone, parts.min(axis=1) - narrow[which], (parts - wide).min(axis=1))
    high = np.where(alone, parts.min(axis=1) + narrow[which], (parts + wide).min(axis=1))
    expected, certain = _bands(low), _bands(low) == _bands(high)
    wrong = certain & (found != expected)
    assert not wrong.any(), f"{wrong.sum()} of {certain.sum()} voxels have another class"
    return float(certain.mean())


def _bands(values: Vectors) -> NDArray[np.intp]:
    return np.digitize(values, LEVELS)


def _check_tokens(depth: sitk.Image, field: Field, scan: sitk.Image) -> float:
    """Expect the tokens that ran to be those in whose patch SimpleITK finds tissue.

    Returns
    -------
    float
        Share of the tokens of which that is certain.
    """
    np.testing.assert_allclose(depth.GetSpacing(), [PATCH] * 3, rtol=1e-5)
    ran = sitk.GetArrayFromImage(depth).T > 0
    voxels = _divided(depth)
    resampled = sitk.Resample(
        scan, voxels, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32, True
    )
    values = sitk.GetArrayFromImage(resampled).T.astype(float)
    steps = axes(scan) * np.array(scan.GetSpacing())
    index = np.linalg.solve(steps, (places(voxels, indices(voxels)) - places(scan, _ZERO)).T).T
    beyond = np.maximum(-0.5 - index, index - (np.array(scan.GetSize()) - 0.5))
    beyond = (beyond * np.array(scan.GetSpacing())).max(axis=1).reshape(values.shape)  # mm
    rounding = field.reach(np.eye(3) * SPACING / 2).max() + _ROUNDING
    surely = _of_patches(np.where(beyond < -SPACING / 2, values, -np.inf)) > AIR + rounding
    perhaps = _of_patches(np.where(beyond < SPACING / 2, values, -np.inf)) > AIR - rounding
    assert ran[surely].all(), f"{(surely & ~ran).sum()} tokens with tissue were taken for air"
    assert not ran[~perhaps].any(), f"{(ran & ~perhaps).sum()} tokens of air did run"
    return float((surely == perhaps).mean())


def _divided(tokens: sitk.Image) -> sitk.Image:
    """Return the grid of the model voxels under a token grid."""
    fine = sitk.Image([8 * n for n in tokens.GetSize()], sitk.sitkFloat32)
    fine.SetSpacing([SPACING] * 3)
    fine.SetDirection(tokens.GetDirection())
    fine.SetOrigin(tokens.TransformContinuousIndexToPhysicalPoint([-3.5 / 8] * 3))
    return fine


def _of_patches(voxels: Vectors) -> Vectors:
    """Return the largest value of each patch."""
    x, y, z = (n // 8 for n in voxels.shape)
    largest: Vectors = voxels.reshape(x, 8, y, 8, z, 8).max(axis=(1, 3, 5))
    return largest


def draw(random: np.random.Generator) -> Case:
    """Draw a scan: any orientation, oblique or not, up to 1:20, down to one slice, odd sizes."""
    ratio = 20.0 ** random.uniform(0, 1)
    spacing = random.permutation([0.5, 0.5 * ratio ** random.uniform(0, 1), 0.5 * ratio])
    extent = random.uniform(4, 70, 3)
    shape = [int(max(1, e // s)) for e, s in zip(extent, spacing, strict=True)]
    if random.random() < 0.15:
        shape[int(random.integers(3))] = 1
    oblique = random.random() < 0.6
    a, b, c = (random.uniform(-40, 40, 3) if oblique else np.zeros(3)).tolist()
    return replace(
        Case((1, 1, 1), (1.0, 1.0, 1.0), int(random.integers(48))),
        shape=tuple(min(n, 64) for n in shape),
        spacing=tuple(spacing.tolist()),
        angles=(a, b, c),
        origin=tuple(random.uniform(-200, 200, 3).tolist()),
        corner=tuple(random.uniform(0.35, 0.65, 3).tolist()),
        suffix=str(random.choice([".nii.gz", ".nrrd", ".mha"])),
    )
