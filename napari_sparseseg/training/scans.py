"""Real scans with labels: loading, caching, and random augmentation by MONAI."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.data import CacheDataset
from monai.transforms import (
    Compose,
    CopyItemsd,
    CropForegroundd,
    MaskIntensityd,
    RandAdjustContrastd,
    RandAffined,
    RandBiasFieldd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandomizableTransform,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandSpatialCropd,
    SpatialPadd,
    Transform,
)
from numpy.typing import NDArray
from torch import Tensor

from napari_sparseseg.canonical import ModelSpace
from napari_sparseseg.errors import InputError
from napari_sparseseg.files import read_volume
from napari_sparseseg.intensity import BRIGHTEST, normalise
from napari_sparseseg.training.source import Sample
from napari_sparseseg.weights import Intensity

_PATCH = 8


@dataclass(frozen=True)
class Case:
    """The files of one scan.

    Attributes
    ----------
    image, label : Path
        Scan, and its label map whose values are class indices.
    """

    image: Path
    label: Path

    @property
    def name(self) -> str:
        """File name without its ending."""
        return self.image.name.removesuffix(".nii.gz")


def read_split(folder: Path, part: str) -> list[Case]:
    """List the cases of one part of a data set.

    Parameters
    ----------
    folder : Path
        Holds ``images``, ``labels`` and ``split.json``, which names the cases of each part.
    part : str
        "train", "val" or "test".

    Raises
    ------
    InputError
        If the folder has no such split or lacks a file of it.
    """
    try:
        names = json.loads((folder / "split.json").read_text())[part]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{folder} has no split.json with the part '{part}'; give the folder of a data set."
        ) from error
    files = [f"{name}.nii.gz" for name in names]
    cases = [Case(folder / "images" / file, folder / "labels" / file) for file in files]
    for case in cases:
        for file in (case.image, case.label):
            if not file.exists():
                raise InputError(f"{file} is missing; fetch the data set again.")
    return cases


@dataclass(frozen=True)
class ScanConfig:
    """How real scans are cut and how widely they are augmented.

    Attributes
    ----------
    window : tuple of int
        Voxels of a sample, axes R, A, S.
    spacing : float
        Working spacing in mm.
    rotation : float
        Largest angle about each axis in degrees.
    scaling, shear : float
        Largest relative change of size, and of angle.
    contrast : float
        Factor on the changes of the intensities.
    intensity : {"mr", "ct"}
        What the numbers of a scan mean.
    cropped : bool
        Whether the air around a scan is cut off first, so that the window is laid on the middle
        of the tissue, as at inference.
    mirrored : tuple of pair of int
        Classes that change places when a scan is mirrored left to right, which then happens to
        every other sample; empty if scans must not be mirrored.
    """

    window: tuple[int, int, int] = (48, 64, 48)
    spacing: float = 1.0
    rotation: float = 12.0
    scaling: float = 0.15
    shear: float = 0.08
    contrast: float = 1.0
    intensity: Intensity = "mr"
    cropped: bool = False
    mirrored: tuple[tuple[int, int], ...] = ()

    def open(self, data: Path, device: str = "cpu") -> ScanSource:
        """Load the training cases of a data set; those of the other parts are not touched."""
        return ScanSource(read_split(data, "train"), self, device)


class ScanSource:
    """Draws augmented windows of real scans.

    Every scan is read, brought into model space and normalised once, by the very code that
    inference uses. A draw shifts it on the token grid, deforms it, and changes its intensities;
    what lies outside the scan stays 0, which is air.

    Parameters
    ----------
    cases : list of Case
        What to draw from.
    config : ScanConfig
        Widths of the draws.
    device : str
        Where samples go; they are made on the CPU.
    """

    def __init__(self, cases: list[Case], config: ScanConfig, device: str = "cpu") -> None:
        self.device = device
        self.dataset = CacheDataset(
            cases,
            Compose(
                [
                    LoadCase(config.spacing, config.intensity),
                    *_placing(config),
                    *_intensities(config),
                ]
            ),
            num_workers=None,
            progress=False,
        )
        self.seed(0)

    def seed(self, seed: int) -> None:
        """Begin a new series of draws."""
        self.rng = np.random.default_rng(seed)
        self.dataset.transform.set_random_state(seed)

    def draw(self) -> Sample:
        """Draw a scan and augment it."""
        data = self.dataset[int(self.rng.integers(len(self.dataset)))]
        image = data["image"].as_tensor().clamp(0.0, BRIGHTEST)
        label = data["label"].as_tensor().to(torch.uint8)
        return Sample(image[None].to(self.device), label.to(self.device))


class LoadCase(Transform):
    """Read a case into model space; labels take the class with the largest share of a voxel.

    Parameters
    ----------
    spacing : float
        Model spacing in mm.
    intensity : {"mr", "ct"}
        What the numbers of the scan mean.
    """

    def __init__(self, spacing: float, intensity: Intensity = "mr") -> None:
        self.spacing = spacing
        self.intensity: Intensity = intensity

    def __call__(self, case: Case) -> dict[str, Tensor]:
        """Return image and label, ``(1, x, y, z)`` float32 each."""
        scan, truth = read_volume(case.image).validated(), read_volume(case.label)
        space = ModelSpace.of(scan, self.spacing)
        image = normalise(space.to_model(scan.data), self.intensity)
        label = classes_in(space, np.rint(truth.data)).float()
        return {"image": image[None], "label": label[None]}


def classes_in(space: ModelSpace, labels: NDArray[np.generic]) -> Tensor:
    """Return the class with the largest share of each model voxel.

    Parameters
    ----------
    space : ModelSpace
        The model grid of a scan.
    labels : ndarray
        Class of each voxel of the scan, whole numbers of any type.

    Returns
    -------
    Tensor
        ``(R, A, S)`` int64; the lowest of classes with equal shares.
    """
    shares = [space.to_model(labels == index) for index in range(int(labels.max()) + 1)]
    return torch.stack(shares).argmax(dim=0)


def _placing(config: ScanConfig) -> list[Transform]:
    """Put the scan anywhere on the token grid, and deform it."""
    keys = ("image", "label")
    shear = (config.shear,) * 6
    cropping = [CropForegroundd(keys, source_key="image")] if config.cropped else []
    mirroring = [RandMirror(config.mirrored)] if config.mirrored else []
    return [
        *cropping,
        SpatialPadd(keys, [n + _PATCH for n in config.window]),
        RandSpatialCropd(keys, config.window, random_size=False),
        RandAffined(
            keys,
            prob=0.8,
            rotate_range=(np.deg2rad(config.rotation),) * 3,
            scale_range=(config.scaling,) * 3,
            shear_range=shear,
            mode=("bilinear", "nearest"),
            padding_mode="zeros",
        ),
        *mirroring,
    ]


class RandMirror(RandomizableTransform):
    """Mirror every other sample left to right, and exchange the classes of paired organs.

    Parameters
    ----------
    pairs : tuple of pair of int
        Classes that change places.
    """

    def __init__(self, pairs: tuple[tuple[int, int], ...]) -> None:
        super().__init__(prob=0.5)
        self.pairs = pairs

    def __call__(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """Mirror ``(1, x, y, z)`` image and label along R, or leave them."""
        self.randomize(None)
        if not self._do_transform:
            return data
        image, label = (data[key].flip(1) for key in ("image", "label"))
        swapped = label.clone()
        for one, other in self.pairs:
            swapped[label == one] = other
            swapped[label == other] = one
        return {**data, "image": image, "label": swapped}


def _intensities(config: ScanConfig) -> list[Transform]:
    """Change the intensities of the scan, but not of what lies outside."""
    key, wide, blur = "image", config.contrast, (0.25, 0.8)
    return [
        CopyItemsd(key, names="inside"),
        RandBiasFieldd(key, prob=0.3, degree=2, coeff_range=(0.0, 0.15 * wide)),
        RandAdjustContrastd(key, prob=0.5, gamma=(1 / (1 + 0.3 * wide), 1 + 0.3 * wide)),
        RandScaleIntensityd(key, prob=0.5, factors=0.15 * wide),
        RandShiftIntensityd(key, prob=0.5, offsets=0.05 * wide),
        RandGaussianSmoothd(key, sigma_x=blur, sigma_y=blur, sigma_z=blur, prob=0.2),
        RandGaussianNoised(key, prob=0.3, std=0.06 * wide),
        MaskIntensityd(key, mask_key="inside"),
    ]
