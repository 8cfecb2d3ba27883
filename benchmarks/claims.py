"""What others published on speed, and what exactly was measured by whom."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """A published figure.

    Attributes
    ----------
    who : str
        Method and reference.
    claim : str
        The figure as published.
    measured : str
        What was timed or counted, on what, against what.
    """

    who: str
    claim: str
    measured: str


CLAIMS = (
    Claim(
        "STP + MTA (Zhou et al., IPMI 2023)",
        "up to +60.6 % inference throughput (1.6x)",
        "by its authors: network alone on random windows, A100, float32, PyTorch 1.7 without "
        "fused attention, against the unpruned UNETR at patch 8 (abstract, released code). "
        "Operations, our count from the released code: 1.86x fewer on BTCV, 1.92x on BraTS",
    ),
    Claim(
        "SViT (Liu et al., WACV 2024)",
        "15.75 against 11.70 images/s, +34.6 % (1.35x)",
        "by its authors: ViT-Adapter-S with Mask R-CNN on one COCO image, batch 1, 2-D "
        "(repository). Box AP 48.2 against 48.5",
    ),
    Claim(
        "DToP (Tang et al., ICCV 2023)",
        "20 to 35 % of the operations saved (1.25 to 1.5x)",
        "by its authors: GFLOPs of SegViT on ADE20K, Pascal Context and COCO-Stuff, 2-D (abstract, "
        "repository); we found no wall-clock figure",
    ),
    Claim(
        "NMSW (Jeon et al., arXiv:2501.10814)",
        "9.1x on a GPU (99.0 to 8.3 s as stated), 11.1x on a CPU (2110 to 189 s)",
        "by its authors: whole volumes with fewer windows against the full sliding window, H100 "
        "and Xeon (abstract)",
    ),
)
"""The methods that this project builds on, and the strongest neighbour."""
