"""Where a line of sight first meets a structure, so that a token can be pointed at in 3-D."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari.layers import Labels

_STEP = 0.5  # voxels: no voxel of some depth is stepped over


def first_met(
    layer: Labels,
    position: Sequence[float],
    direction: NDArray[np.floating],
    displayed: Sequence[int],
) -> tuple[float, ...] | None:
    """Return the place where a line of sight first meets a structure.

    Parameters
    ----------
    layer : Labels
        The structures; 0 is background.
    position, direction : sequence of float
        A point on the line and its direction away from the eye, in napari's world.
    displayed : sequence of int
        The three axes that are displayed.

    Returns
    -------
    tuple of float or None
        In napari's world; None where the line meets nothing.
    """
    leading = len(position) - layer.ndim  # axes of layers with more dimensions
    axes = [axis - leading for axis in displayed if axis >= leading]
    if len(axes) < 3:
        return None
    near, far = layer.get_ray_intersections(position[leading:], direction[leading:], axes)
    if near is None or far is None:
        return None
    steps = max(1, int(np.ceil(np.abs(far - near).max() / _STEP)))
    points = np.linspace(near, far, steps + 1)
    voxels = np.clip(np.rint(points).astype(int), 0, np.array(layer.data.shape) - 1)
    met = np.flatnonzero(layer.data[tuple(voxels.T)])
    return tuple(layer.data_to_world(voxels[met[0]])) if len(met) else None
