"""Class probabilities on the grid of the volume, a few planes at a time.

All classes of a large scan at once would take more memory than its segmentation: a map is
interpolated when it is written, plane by plane.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sparseseg.files import atomic_path
from napari_sparseseg.restore import NativeAxis
from napari_sparseseg.scores import PatchScores

if TYPE_CHECKING:
    from napari_sparseseg.canonical import ModelSpace

_AT_ONCE = 1 << 22
"""Voxels that are interpolated together."""

_COMMENT = 6  # code of a NIfTI header extension that holds plain text


@dataclass(frozen=True, eq=False)
class ProbabilityMap:
    """Probability of one class: on the model grid, and from there at any voxel of the volume.

    Parameters
    ----------
    values : Tensor
        ``(a, b, c)`` float32 on the CPU: model voxels along the axes of the volume.
    positions : tuple of 3 ndarray
        For each axis of the volume the place of its voxels, in model voxels.
    """

    values: Tensor
    positions: tuple[NDArray[np.float64], ...]

    @classmethod
    def of(
        cls, scores: PatchScores, axes: Sequence[NativeAxis], index: int, background: int = 0
    ) -> ProbabilityMap:
        """Take one class out of the scores.

        Parameters
        ----------
        scores : PatchScores
            Probabilities on the model grid, on any device.
        axes : sequence of 3 NativeAxis
            In the order of the volume's axes.
        index : int
            The class.
        background : int
            Class that has probability 1 in closed patches.
        """
        patches, edge = scores.values[..., index].float().cpu(), scores.patch
        closed = torch.full((1, edge**3), float(index == background))
        cells = torch.cat([patches, closed])[scores.rows.cpu()]  # row -1 is the last
        grid = cells.unflatten(-1, (edge,) * 3).permute(0, 3, 1, 4, 2, 5)
        grid = grid.reshape([rows * edge for rows in scores.rows.shape])
        for axis in axes:
            grid = grid.narrow(axis.model_axis, scores.lead[axis.model_axis], axis.size)
        grid = grid.permute([axis.model_axis for axis in axes]).contiguous()
        return cls(grid, tuple(axis.positions for axis in axes))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (I, J, K) of the volume."""
        return tuple(len(positions) for positions in self.positions)

    def planes(self, start: int, stop: int) -> NDArray[np.float32]:
        """Interpolate some planes across the volume's last axis, as the labels were made.

        Returns
        -------
        ndarray of float32
            ``(I, J, stop - start)``, from 0 to 1.
        """
        values = self.values
        wanted = (*self.positions[:2], self.positions[2][start:stop])
        for axis in (2, 1, 0):  # the last first: there the planes are the fewest
            values = _interpolate(values, axis, wanted[axis])
        return values.numpy()


@dataclass(frozen=True, eq=False)
class Probabilities:
    """What the labels of a run were made from.

    Attributes
    ----------
    scores : PatchScores
        Probabilities on the model grid.
    space : ModelSpace
        The model grid.
    affine : ndarray
        ``(4, 4)``, voxel of the volume to RAS mm.
    """

    scores: PatchScores
    space: ModelSpace
    affine: NDArray[np.float64]

    def of(self, index: int) -> ProbabilityMap:
        """Return the probability of one class; 0 is background."""
        return ProbabilityMap.of(self.scores, self.space.volume_axes(), index)


def write_probabilities(
    probabilities: Probabilities,
    classes: Sequence[str],
    indices: Sequence[int],
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
) -> None:
    """Write probabilities as float32 NIfTI on the grid of the volume, whole or not at all.

    At no time are more than some planes of one class in memory. The names of the classes stand in
    the header, one a line, as a comment.

    Parameters
    ----------
    probabilities : Probabilities
        Those of a run.
    classes : sequence of str
        Names of all classes.
    indices : sequence of int
        Classes to write: the last axis of a 4-D file, or for a single one a 3-D file.
    path : path-like
        File name that ends in .nii or .nii.gz.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    OutputError
        If it exists already or cannot be written.
    """
    header = _header(probabilities, [classes[index] for index in indices])
    with atomic_path(path, overwrite=overwrite) as temporary, _opened(temporary) as stream:
        header.write_to(stream)
        for index in indices:
            for planes in _slabs(probabilities.of(index)):
                stream.write(planes.tobytes(order="F"))


def _header(probabilities: Probabilities, names: Sequence[str]) -> Any:
    from nibabel.nifti1 import Nifti1Extension, Nifti1Extensions, Nifti1Header

    shape = probabilities.space.native_shape
    header = Nifti1Header(extensions=Nifti1Extensions())
    header.set_data_dtype(np.float32)
    header.set_data_shape(shape if len(names) == 1 else (*shape, len(names)))
    header.set_xyzt_units("mm")
    header.set_sform(probabilities.affine, code="scanner")
    header.set_qform(probabilities.affine, code="scanner")
    header.extensions.append(Nifti1Extension(_COMMENT, "\n".join(names).encode()))
    return header


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO | gzip.GzipFile]:
    with open(path, "wb") as file:
        if path.suffix != ".gz":
            yield file
            return
        # neither name nor time: the same probabilities are the same bytes
        with gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as packed:
            yield packed


def _slabs(values: ProbabilityMap) -> Iterator[NDArray[np.float32]]:
    width, height, depth = values.shape
    step = max(1, _AT_ONCE // (width * height))
    for start in range(0, depth, step):
        yield values.planes(start, min(start + step, depth))


def _interpolate(values: Tensor, axis: int, positions: NDArray[np.float64]) -> Tensor:
    """Interpolate linearly along one axis; the edge is continued outwards."""
    last = values.shape[axis] - 1
    at = positions.clip(0, last)
    lower = np.floor(at).astype(np.int64)
    share = torch.from_numpy((at - lower).astype(np.float32)).view((-1,) + (1,) * (2 - axis))
    below, above = (
        values.index_select(axis, torch.from_numpy(index))
        for index in (lower, np.minimum(lower + 1, last))
    )
    return torch.lerp(below, above, share)
