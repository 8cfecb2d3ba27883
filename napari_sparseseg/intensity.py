"""Intensity normalisation, the same while training and at inference."""

from __future__ import annotations

import torch
from torch import Tensor

_MOST_SAMPLES = 200_000


def normalise(image: Tensor) -> Tensor:
    """Scale intensities so that background is 0 and the brightest tissue about 1.

    The scale is the 99.5th percentile of the voxels above 5 % of the overall 99.9th. Values
    below zero move the origin to the darkest 0.1 %; magnitude images keep their zero. The
    result is clipped to [0, 1.5].

    Parameters
    ----------
    image : Tensor
        Any shape, float32.

    Returns
    -------
    Tensor
        Same shape; all zeros if the image has no bright voxel.
    """
    sample = image.flatten()[:: max(1, image.numel() // _MOST_SAMPLES)].sort().values
    lowest = _quantile(sample, 0.001).clamp(max=0.0)
    sample = sample - lowest
    bright = sample[sample > 0.05 * _quantile(sample, 0.999)]
    if not len(bright):
        return torch.zeros_like(image)
    top = _quantile(bright, 0.995).clamp(min=1e-12)
    return ((image - lowest) / top).clamp_(0.0, 1.5)


def _quantile(ascending: Tensor, share: float) -> Tensor:
    """Return a quantile of sorted values, interpolated linearly."""
    place = share * (len(ascending) - 1)
    below = int(place)
    above = min(below + 1, len(ascending) - 1)
    return torch.lerp(ascending[below], ascending[above], place - below)
