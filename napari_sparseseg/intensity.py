"""Intensity normalisation, the same while training and at inference."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from napari_sparseseg.errors import InputError
from napari_sparseseg.weights import Intensity

BRIGHTEST = 1.5
"""Normalised intensities are clipped here."""

_MOST_SAMPLES = 200_000
_CT_AIR, _CT_ONE = -200.0, 300.0


def normalise(image: Tensor, intensity: Intensity = "mr") -> Tensor:
    """Scale intensities so that background is 0 and the brightest tissue about 1.

    Hounsfield units are absolute, so CT gets one fixed scale: -200 HU (air, lung) and below is 0,
    300 HU 1; soft tissue is about 0.5 and bone saturates at 550 HU.

    For MR, the scale is the 99.5th percentile of the voxels above 5 % of the overall 99.9th. Values
    below zero move the origin to the darkest 0.1 %; magnitude images keep their zero. The
    result is clipped to [0, 1.5] either way.

    Parameters
    ----------
    image : Tensor
        Any shape, float32.
    intensity : {"mr", "ct"}
        What the numbers mean.

    Returns
    -------
    Tensor
        Same shape; all zeros if the image has no bright voxel.

    Raises
    ------
    ValueError
        If the kind of intensity is unknown.
    """
    if intensity not in get_args(Intensity):
        raise ValueError(f"intensity must be one of {get_args(Intensity)}, not '{intensity}'")
    if intensity == "ct":
        return ((image - _CT_AIR) / (_CT_ONE - _CT_AIR)).clamp_(0.0, BRIGHTEST)
    sample = image.flatten()[:: max(1, image.numel() // _MOST_SAMPLES)].sort().values
    lowest = _quantile(sample, 0.001).clamp(max=0.0)
    sample = sample - lowest
    bright = sample[sample > 0.05 * _quantile(sample, 0.999)]
    if not len(bright):
        return torch.zeros_like(image)
    top = _quantile(bright, 0.995).clamp(min=1e-12)
    return ((image - lowest) / top).clamp_(0.0, BRIGHTEST)


def check_intensity(image: Tensor, intensity: Intensity) -> None:
    """Refuse a scan whose numbers cannot mean what a model takes them for.

    Fat has about -100 HU and air -1000, so a CT with nothing below zero is not in Hounsfield
    units: an MR, or stored values without their offset.

    Raises
    ------
    InputError
        If the model is for CT and the scan has no value below zero.
    """
    if intensity == "ct" and float(image.min()) >= 0:
        raise InputError(
            "The model is for CT in Hounsfield units (air is -1000), but the scan has no value "
            "below zero; choose a model for MR, or rescale the scan."
        )


def _quantile(ascending: Tensor, share: float) -> Tensor:
    """Return a quantile of sorted values, interpolated linearly."""
    place = share * (len(ascending) - 1)
    below = int(place)
    above = min(below + 1, len(ascending) - 1)
    return torch.lerp(ascending[below], ascending[above], place - below)
