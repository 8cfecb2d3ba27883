"""What the training loop needs of a source of scans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """A window of a scan with its labels.

    Attributes
    ----------
    image : Tensor
        ``(1, 1, x, y, z)`` float32 normalised intensities.
    subvoxels : Tensor
        ``(n, x, y, z)`` uint8 classes of the finer voxels under each voxel, whose histogram is
        the soft label; one alone is a hard label.
    """

    image: Tensor
    subvoxels: Tensor


class Source(Protocol):
    """Draws samples: the same ones after the same seed.

    Attributes
    ----------
    device : str
        Where the samples lie.
    """

    device: str

    def seed(self, seed: int) -> None:
        """Begin a new series of draws."""
        ...

    def draw(self) -> Sample:
        """Draw one sample."""
        ...
