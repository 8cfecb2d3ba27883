"""The scans that are timed: one real brain, and planning-CT-like fields around a held-out head.

A held-out head is painted from its label map with a fixed Gaussian for each tissue in the order
of a T1-weighted scan, so that its true labels are known; the field, voxel size, integer type and
value of air are those of a radiotherapy planning CT.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage

from napari_sparseseg.files import read_volume
from napari_sparseseg.plugin.sample import template_path
from napari_sparseseg.training.anatomy import STRUCTURES, class_of_label, load_anatomy
from napari_sparseseg.training.recipe import load_recipe
from napari_sparseseg.training.synthesis import SynthesisConfig
from napari_sparseseg.volume import Volume

Shape = tuple[int, int, int]

AIR = -1000
"""Value of air in a CT; what is painted lies above it."""

FINE = 0.75
"""Millimetres of a planning-CT-like voxel."""

_RECIPE = Path(__file__).parents[1] / "napari_sparseseg/training/recipes/brain-mr-stp.toml"
_HU_PER_INTENSITY = 1100
_NOISE = 0.03
_PATCH_MM = 16.0  # a patch of 8 voxels at the working spacing of the brain models

_T1 = {
    "cerebral white matter": 0.90,
    "cerebral cortex": 0.62,
    "lateral ventricle": 0.20,
    "cerebellum white matter": 0.88,
    "cerebellum cortex": 0.63,
    "thalamus": 0.76,
    "caudate": 0.65,
    "putamen": 0.70,
    "pallidum": 0.82,
    "3rd ventricle": 0.20,
    "4th ventricle": 0.20,
    "brain-stem": 0.83,
    "hippocampus": 0.62,
    "amygdala": 0.60,
    "accumbens": 0.65,
    "ventral DC": 0.80,
    "CSF": 0.20,
}
"""Mean intensity of each structure where white matter is about 0.9."""


@dataclass(frozen=True, eq=False)
class Case:
    """A scan to time, with its true classes.

    Attributes
    ----------
    name, title : str
        Identifier, and a line for people.
    volume : Volume
        The scan.
    truth : ndarray of uint8
        Class of each voxel, on the scan's grid.
    """

    name: str
    title: str
    volume: Volume
    truth: NDArray[np.uint8]


def brain_t1(data: Path) -> Case:
    """Return the real T1 scan with its FreeSurfer labels."""
    labels = np.rint(read_volume(data / "brain-t1" / "labels.nii.gz").data).astype(np.int64)
    scan = read_volume(data / "brain-t1" / "t1.nii.gz")
    return Case("brain-t1", "brain-t1, a real T1 scan", scan, class_of_label(labels))


def template_256() -> Case:
    """Return the ICBM152 template in the middle of 256^3 voxels of 1 mm; it has no labels."""
    sample = read_volume(template_path())
    lead = [(256 - n) // 2 for n in sample.shape]
    padding = [(b, 256 - n - b) for b, n in zip(lead, sample.shape, strict=True)]
    shift = np.eye(4)
    shift[:3, 3] = -np.array(lead)
    data = np.pad(sample.data, padding)
    volume = Volume(data, sample.affine @ shift, "ICBM152 in 256^3")
    return Case("template-256", "ICBM152 template", volume, np.zeros(data.shape, np.uint8))


def head_scan(
    file: Path, spacing: float, shape: Shape | None = None, name: str = "head", seed: int = 0
) -> Case:
    """Return a head in the middle of a CT-like field of air.

    Parameters
    ----------
    file : Path
        Label map in FreeSurfer numbering at 1 mm.
    spacing : float
        Edge of a voxel in mm.
    shape : tuple of int, optional
        Voxels along left, posterior, superior, as a CT has them; what of the head does not fit
        is cut off. By default the head with 8 voxels around it.
    name : str
        Name of the case.
    seed : int
        Seed of the noise and of the intensities outside the brain.
    """
    image, classes = _paint(file, seed)
    size = [max(1, round(n / spacing)) for n in image.shape]
    fine = F.interpolate(torch.from_numpy(image)[None, None], size=size, mode="trilinear")
    # the labels are those of the 1 mm voxel that holds the centre of the finer one
    nearest = [
        ((np.arange(m) + 0.5) * n / m).astype(np.int64)
        for m, n in zip(size, image.shape, strict=True)
    ]
    painted = AIR + np.rint(fine[0, 0].numpy() * _HU_PER_INTENSITY).astype(np.int16)
    field = shape or (size[0] + 16, size[1] + 16, size[2] + 16)
    data = _centred(painted.astype(np.int16), field, AIR)
    truth = _centred(classes[np.ix_(*nearest)], field, 0)
    affine = np.diag([-spacing, -spacing, spacing, 1.0])
    title = f"{'x'.join(map(str, field))} int16 at {spacing:g} mm, CT-like, a held-out head"
    # from axes R, A, S to L, P, S
    flipped = (np.ascontiguousarray(a[::-1, ::-1]) for a in (data, truth))
    return Case(name, title, Volume(next(flipped), affine, name), next(flipped))


def tile(case: Case, copies: Shape, filled: int) -> Case:
    """Lay copies of a scan side by side, and empty all places but the first.

    Parameters
    ----------
    case : Case
        What to copy.
    copies : tuple of int
        Number of places along each axis.
    filled : int
        Number of places, in raster order, that hold the scan; the others hold its darkest value.
    """
    size = case.volume.shape
    grid = tuple(n * c for n, c in zip(size, copies, strict=True))
    data = np.full(grid, case.volume.data.min(), dtype=case.volume.data.dtype)
    truth = np.zeros(grid, dtype=case.truth.dtype)
    for place in list(np.ndindex(*copies))[:filled]:
        box = tuple(slice(p * n, (p + 1) * n) for p, n in zip(place, size, strict=True))
        data[box], truth[box] = case.volume.data, case.truth
    name = f"{'x'.join(map(str, copies))} places, {filled} filled"
    return Case(name, name, Volume(data, case.volume.affine, name), truth)


def tissue_share(case: Case) -> float:
    """Return the share of the patches of about 16 mm that hold anything brighter than air."""
    highest = case.volume.data
    for spacing in case.volume.spacing:  # each round reduces the first axis and makes it the last
        edge = max(1, round(_PATCH_MM / spacing))
        slabs = [highest[n : n + edge].max(axis=0) for n in range(0, len(highest), edge)]
        highest = np.stack(slabs, axis=-1)
    return float((highest > case.volume.data.min()).mean())


def validation_heads(data: Path) -> list[Path]:
    """List the label maps that no model was trained on."""
    config = load_recipe(_RECIPE).data
    assert isinstance(config, SynthesisConfig)
    return config.held_out(data / "brain-labels")


class Cases:
    """The scans of the benchmark, made when they are asked for and kept.

    Parameters
    ----------
    data : Path
        Folder with ``brain-t1`` and ``brain-labels``.
    """

    def __init__(self, data: Path) -> None:
        self.data = data
        self.get = cache(self._make)

    def _make(self, name: str) -> Case:
        """Return a case by its name."""
        if name == "brain-t1":
            return brain_t1(self.data)
        if name == "template-256":
            return template_256()
        head = validation_heads(self.data)[0]
        if name == "planning-ct":
            return head_scan(head, FINE, (512, 512, 400), name)
        if name == "planning-ct-600":
            return head_scan(head, FINE, (512, 512, 600), name)
        if name == "head-256":
            return head_scan(head, 1.0, (256, 256, 256), name)
        raise KeyError(name)

    def validation(self) -> list[Case]:
        """Return every held-out head at 0.75 mm; each needs several windows."""
        files = validation_heads(self.data)
        return [head_scan(file, FINE, None, file.name.split(".")[0]) for file in files]


def _paint(file: Path, seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the intensities and classes of a head at 1 mm, axes R, A, S; air is exactly 0."""
    anatomy = load_anatomy([file])
    tissue = anatomy.heads[0].tissue
    rng = np.random.default_rng(seed)
    names = list(STRUCTURES)
    # bone, fat, muscle ...: anything between dark and bright
    means = rng.uniform(0.15, 0.85, len(anatomy.tissues))
    for index, class_ in enumerate(anatomy.classes):
        means[index] = _T1.get(names[class_], means[index])
    image = means[tissue] + rng.normal(0, _NOISE, tissue.shape)
    image = ndimage.gaussian_filter(image.astype(np.float32), 0.5).clip(0.07)
    return np.where(tissue > 0, image, 0).astype(np.float32), anatomy.classes[tissue]


def _centred(part: NDArray, shape: Shape, fill: int) -> NDArray:
    """Put an array in the middle of a larger field, cutting off what does not fit."""
    field = np.full(shape, fill, dtype=part.dtype)
    source, target = [], []
    for have, want in zip(part.shape, shape, strict=True):
        common = min(have, want)
        source.append(slice((have - common) // 2, (have - common) // 2 + common))
        target.append(slice((want - common) // 2, (want - common) // 2 + common))
    field[tuple(target)] = part[tuple(source)]
    return field
