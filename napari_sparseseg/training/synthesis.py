"""Synthetic T1-like scans from label maps, after SynthSeg (Billot et al., MedIA 2023).

Every sample draws an anatomy, a spatial deformation, an intensity for each tissue, a bias
field, a resolution and noise. Intensities follow the order of a T1-weighted scan with jitter;
``contrast`` widens the jitter.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sparseseg.intensity import normalise
from napari_sparseseg.training.anatomy import (
    FARTHEST_RIM,
    STRUCTURES,
    Anatomy,
    Head,
    load_anatomy,
)
from napari_sparseseg.training.source import Sample
from napari_sparseseg.weights import Intensity

# where a structure's T1 intensity lies between grey (0) and white matter (1), and its spread
_MIXTURE: dict[str, tuple[float, float]] = {
    "cerebral white matter": (1.0, 0.03),
    "cerebral cortex": (0.0, 0.05),
    "cerebellum white matter": (0.95, 0.10),
    "cerebellum cortex": (0.05, 0.15),
    "thalamus": (0.50, 0.15),
    "caudate": (0.12, 0.12),
    "putamen": (0.30, 0.15),
    "pallidum": (0.70, 0.15),
    "brain-stem": (0.75, 0.15),
    "hippocampus": (0.02, 0.10),
    "amygdala": (-0.05, 0.10),
    "accumbens": (0.12, 0.12),
    "ventral DC": (0.65, 0.15),
}
_FLUID = ("lateral ventricle", "3rd ventricle", "4th ventricle", "CSF")


@dataclass(frozen=True)
class TissueMeans:
    """Mean intensities that say what contrast a scan has.

    Attributes
    ----------
    grey, white, fluid : float
        Of cerebral cortex, cerebral white matter and fluid, between 0 (air) and 1 (brightest).
    """

    grey: float
    white: float
    fluid: float


@dataclass(frozen=True)
class SynthesisConfig:
    """How wide the generator draws.

    Attributes
    ----------
    window : tuple of int
        Voxels of a sample, axes R, A, S.
    spacing : float
        Working spacing in mm; label maps are 1 mm.
    stripped : float
        Probability of a skull-stripped head.
    off_centre : float
        Probability that the window lies anywhere in the head, not around the brain.
    contrast : float
        Factor on the spread of the tissue intensities.
    validation : tuple of str
        Substrings of the names of label maps that are kept for validation.
    means : TissueMeans, optional
        Fixed means in place of drawn ones, for another contrast than T1; all else is drawn as
        without, so that the same seed gives the same head under both.
    """

    window: tuple[int, int, int] = (80, 96, 80)
    spacing: float = 2.0
    stripped: float = 0.6
    off_centre: float = 0.2
    contrast: float = 1.0
    validation: tuple[str, ...] = ()
    means: TissueMeans | None = None

    @property
    def intensity(self) -> Intensity:
        """What is synthesised is MR."""
        return "mr"

    def open(self, data: Path, device: str = "cpu") -> Synthesiser:
        """Load the label maps of a folder that are not held out."""
        held = set(self.held_out(data))
        files = [file for file in sorted(data.glob("*.nii.gz")) if file not in held]
        return Synthesiser(load_anatomy(files), self, device)

    def held_out(self, data: Path) -> list[Path]:
        """List the label maps of a folder that are kept for validation."""
        return [
            file
            for file in sorted(data.glob("*.nii.gz"))
            if any(name in file.name for name in self.validation)
        ]


class Synthesiser:
    """Draws samples on a device.

    Parameters
    ----------
    anatomy : Anatomy
        Label maps.
    config : SynthesisConfig
        Widths of the draws.
    device : str
        Where the maps live and samples are made.
    """

    def __init__(self, anatomy: Anatomy, config: SynthesisConfig, device: str = "cpu") -> None:
        self.anatomy, self.config, self.device = anatomy, config, device
        self.generator = torch.Generator(device)
        self.seed(0)
        self.classes = torch.from_numpy(anatomy.classes).to(device)
        self.maps = [torch.from_numpy(h.tissue).to(device) for h in anatomy.heads]
        self.rims = [torch.from_numpy(h.rim).to(device) for h in anatomy.heads]
        axes = (torch.arange(n, device=device) - (n - 1) / 2 for n in config.window)
        self.base = torch.stack(torch.meshgrid(*axes, indexing="ij")) * config.spacing

    def seed(self, seed: int) -> None:
        """Begin a new series of draws."""
        self.rng = np.random.default_rng(seed)
        self.generator.manual_seed(seed)

    def draw(self, head: int | None = None) -> Sample:
        """Draw one sample, from a given head or a random one."""
        index = int(self.rng.integers(len(self.maps))) if head is None else head
        cells, inside = self._places(self.anatomy.heads[index])
        tissue = self._tissues(index, cells, inside)
        image = self._paint(tissue)
        image = self._acquire(image, empty=(tissue == 0).all(dim=0))
        return Sample(image[None, None], self.classes[tissue.long()])

    def _places(self, head: Head) -> tuple[Tensor, Tensor]:
        """Draw a deformation; return flat indices into the map and where they are inside."""
        rng, shape = self.rng, head.tissue.shape
        matrix = _random_affine(rng)
        centre = head.centre + rng.normal(0, 6, 3)
        if rng.random() < self.config.off_centre:
            centre = rng.uniform(0.2, 0.8, 3) * shape
        move = torch.as_tensor(centre, dtype=torch.float32, device=self.device)
        linear = torch.as_tensor(matrix, dtype=torch.float32, device=self.device)
        points = torch.einsum("ij,jxyz->ixyz", linear, self.base) + move.view(3, 1, 1, 1)
        points += self._smooth_field(3, 6, float(rng.uniform(0, 4)))
        # the 2x2x2 map voxels from here on are the sub-voxels of one voxel
        corner = (points - 0.5 * (self.config.spacing - 1)).floor().long()
        inside = torch.ones(self.config.window, dtype=torch.bool, device=self.device)
        for axis, n in enumerate(shape):
            inside &= (corner[axis] >= 0) & (corner[axis] < n - 1)
            corner[axis].clamp_(0, n - 2)
        flat = (corner[0] * shape[1] + corner[1]) * shape[2] + corner[2]
        return flat, inside

    def _tissues(self, index: int, cells: Tensor, inside: Tensor) -> Tensor:
        """Look up the eight tissues of each voxel, with or without the skull."""
        source, rim = self.maps[index], self.rims[index]
        _, ny, nz = source.shape
        steps = [(i * ny + j) * nz + k for i in (0, 1) for j in (0, 1) for k in (0, 1)]
        tissue = torch.stack([source.view(-1)[cells + s] for s in steps])
        outside = ~inside.expand_as(tissue)
        if self.rng.random() < self.config.stripped:
            cranial = torch.from_numpy(self.anatomy.cranial).to(self.device)
            widest = float(self.rng.choice([0, 1, 2, 4, FARTHEST_RIM]))
            far = torch.stack([rim.view(-1)[cells + s] for s in steps]) > widest
            outside = outside | cranial[tissue.long()] | far
        return tissue.masked_fill_(outside, 0)

    def _paint(self, tissue: Tensor) -> Tensor:
        """Give each tissue an intensity and average the sub-voxels."""
        mean, spread = self._intensities()
        texture = torch.randn(tissue.shape[1:], generator=self.generator, device=self.device)
        image = mean[tissue.long()].mean(dim=0)
        image += spread[tissue[0].long()] * texture
        if self.rng.random() < 0.5:  # slow change inside a tissue
            image *= 1 + self._smooth_field(1, 12, 0.03)[0]
        return image

    def _intensities(self) -> tuple[Tensor, Tensor]:
        rng, wide = self.rng, self.config.contrast
        white = rng.uniform(0.8, 0.95)
        grey = white * np.clip(rng.normal(0.68, 0.06 * wide), 0.4, 0.92)
        fluid = rng.uniform(0.10, 0.35) * white
        if self.config.means:
            fixed = self.config.means
            white, grey, fluid = fixed.white, fixed.grey, fixed.fluid
        names = list(STRUCTURES)
        mean = np.zeros(len(self.anatomy.tissues))
        for i, (label, cls) in enumerate(
            zip(self.anatomy.tissues, self.anatomy.classes, strict=True)
        ):
            name = names[cls]
            if label == 0:
                continue
            if name in _MIXTURE:
                place, spread = _MIXTURE[name]
                mean[i] = grey + (white - grey) * (place + spread * wide * rng.normal())
            elif name in _FLUID:
                mean[i] = fluid + 0.02 * wide * rng.normal()
            else:
                mean[i] = rng.uniform(0.05, 1.1)
        sigma = rng.uniform(0.01, 0.06, len(mean)) * (np.arange(len(mean)) > 0)
        pair = torch.as_tensor(np.stack([mean, sigma]), dtype=torch.float32, device=self.device)
        return pair[0], pair[1]

    def _acquire(self, image: Tensor, empty: Tensor) -> Tensor:
        """Bias field, resolution, noise, gamma, and the normalisation of inference."""
        rng = self.rng
        image = image * self._smooth_field(1, 4, float(rng.uniform(0, 0.25)))[0].exp()
        image = _blur(image, rng)
        sigma = float(rng.uniform(0, 0.04))
        noise = torch.randn(image.shape, generator=self.generator, device=self.device)
        image = (image + sigma * noise).abs()
        if rng.random() < 0.8:  # most scans have a masked or thresholded background
            image = image.masked_fill(empty, 0.0)
        gamma, gain = float(np.exp(rng.normal(0, 0.1))), float(rng.uniform(0.9, 1.1))
        return normalise(image) ** gamma * gain

    def _smooth_field(self, channels: int, knots: int, sigma: float) -> Tensor:
        coarse = torch.randn(
            1, channels, knots, knots, knots, generator=self.generator, device=self.device
        )
        return F.interpolate(
            sigma * coarse, size=self.config.window, mode="trilinear", align_corners=True
        )[0]


def _random_affine(rng: np.random.Generator) -> np.ndarray:
    """Draw a rotation, scaling, shear and left-right mirroring as a 3x3 matrix."""
    matrix = np.diag(rng.uniform(0.88, 1.14, 3)) @ (np.eye(3) + rng.normal(0, 0.03, (3, 3)))
    for axis, angle in enumerate(np.deg2rad(rng.normal(0, 7, 3))):
        i, j = [a for a in range(3) if a != axis]
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    if rng.random() < 0.5:
        matrix[:, 0] *= -1
    return matrix


def _blur(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Simulate a lower resolution: a slight blur, or thick slices along one axis."""
    chance = rng.random()
    if chance < 0.4:
        w = float(rng.uniform(0.05, 0.3))
        kernel = torch.tensor([w, 1 - 2 * w, w], device=image.device)
        for axis in range(3):
            shape, padding = [1, 1, 1, 1, 1], [0, 0, 0]
            shape[axis + 2], padding[axis] = 3, 1
            image = F.conv3d(image[None, None], kernel.view(shape), padding=padding)[0, 0]
    elif chance < 0.5:
        axis, thick = int(rng.integers(3)), int(rng.integers(2, 4))
        window = [1, 1, 1]
        window[axis] = thick
        slices = F.avg_pool3d(image[None, None], window)
        image = F.interpolate(slices, size=image.shape, mode="trilinear")[0, 0]
    return image
