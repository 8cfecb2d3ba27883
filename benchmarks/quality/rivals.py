"""The networks from outside that ours has to face: MONAI's UNETR and DynUNet.

Both are built with the sizes of their own publications and get what our networks get: the same
scans in the same model space, the same augmentation, losses, optimiser, precision and average.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from monai.networks.nets import UNETR, DynUNet
from torch import nn

from napari_sparseseg.training.recipe import OptimiserConfig

Window = tuple[int, int, int]

WINDOW: Window = (96, 96, 96)
"""Window in voxels in which both are usually trained and run."""
SMALL_WINDOW: Window = (64, 64, 64)
"""Window for scans that are smaller than the usual one: it holds every hippocampus whole."""
OVERLAP = 0.5
"""Overlap of neighbouring windows at inference, as published for UNETR."""


@dataclass(frozen=True)
class Rival:
    """A network from outside.

    Attributes
    ----------
    title : str
        Name for people.
    build : callable
        Makes the network for a number of classes and a window.
    rate : float
        Peak learning rate.
    steps : dict
        Training steps for each task: what fits into the processor time of the task's dense twin;
        for brain-mr, whose dense twin has hours behind it, a share of that.
    """

    title: str
    build: Callable[[int, Window], nn.Module]
    rate: float
    steps: dict[str, int]

    def optimiser(self, task: str) -> OptimiserConfig:
        """Return the schedule: a short warm-up, then a cosine to zero."""
        steps = self.steps[task]
        return OptimiserConfig(
            rate=self.rate, warmup=40, steps=steps, decay=steps - 40, average=0.99
        )


def window_of(task: str) -> Window:
    """Return the window in which rivals are trained on a task and run."""
    return SMALL_WINDOW if task == "hippocampus-mr" else WINDOW


def _unetr(classes: int, window: Window) -> nn.Module:
    """UNETR as its users get it: ViT-B, patch 16, 16 features."""
    return UNETR(1, classes, window, feature_size=16, hidden_size=768, mlp_dim=3072, num_heads=12)


def _dynunet(classes: int, window: Window) -> nn.Module:
    """DynUNet as nnU-Net plans it: up to six levels from 32 features on.

    The lowest has 3 voxels or more along each edge; with fewer its normalisation breaks down.
    """
    levels = min(6, 1 + int(math.log2(min(window) / 3)))
    return DynUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=classes,
        kernel_size=[3] * levels,
        strides=[1, *[2] * (levels - 1)],
        upsample_kernel_size=[2] * (levels - 1),
        filters=[32, 64, 128, 256, 320, 320][:levels],
        res_block=False,
    )


RIVALS = {
    "monai-unetr": Rival(
        "MONAI UNETR (patch 16)",
        _unetr,
        5e-4,
        {"headneck-ct": 475, "brain-mr": 700, "hippocampus-mr": 700},
    ),
    "monai-dynunet": Rival(
        "MONAI DynUNet",
        _dynunet,
        1e-3,
        {"headneck-ct": 275, "brain-mr": 350, "hippocampus-mr": 380},
    ),
}
"""Every rival by its name."""
