"""A curve of the window: its points and their results, and the proposal in words."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_sparseseg.analysis.swept import Sweep, SweepPoint
from napari_sparseseg.plugin.preferences import POINTS

if TYPE_CHECKING:
    from napari_sparseseg.plugin.runner import Request
    from napari_sparseseg.session import Segmentation

_RANDOM = "random"
_FASTEST = 1  # level of zlib: higher ones take several times as long for little


@dataclass(frozen=True, eq=False)
class Packed:
    """A result whose label map is compressed: a curve keeps one for each of its settings.

    Attributes
    ----------
    result : Segmentation
        The result, without voxels.
    shape : tuple of int
        Shape of its labels as they lie in memory, the axis with the largest steps first.
    order : tuple of int
        For each of these axes the axis of the volume.
    voxels : bytes
        The labels, compressed in that order.
    """

    result: Segmentation
    shape: tuple[int, ...]
    order: tuple[int, ...]
    voxels: bytes

    @classmethod
    def of(cls, result: Segmentation) -> Packed:
        """Compress a result: a second for a large scan, so not in the thread of the window."""
        labels = result.labels
        order = tuple(sorted(range(3), key=lambda axis: -abs(labels.data.strides[axis])))
        voxels = np.ascontiguousarray(labels.data.transpose(order))
        empty = replace(labels, data=np.empty((0, 0, 0), labels.data.dtype))
        return cls(
            replace(result, labels=empty), voxels.shape, order, zlib.compress(voxels.data, _FASTEST)
        )

    def unpacked(self) -> Segmentation:
        """Return the result as it was."""
        labels = self.result.labels
        voxels = np.frombuffer(bytearray(zlib.decompress(self.voxels)), labels.data.dtype)
        data = voxels.reshape(self.shape).transpose(np.argsort(self.order))
        return replace(self.result, labels=replace(labels, data=data))


@dataclass(eq=False)
class Curve:
    """A sweep as it grows: of what, and the result at each setting of the own rule.

    Attributes
    ----------
    request : Request
        The result that was shown when it was asked for.
    sweep : Sweep or None
        The points so far.
    results : dict of Packed
        The results of the own rule, by setting.
    """

    request: Request
    sweep: Sweep | None = None
    results: dict[float, Packed] = field(default_factory=dict)

    def holds_for(self, request: Request) -> bool:
        """Tell whether the points are of the scan, model and processor of another request."""
        own = replace(request, choice=replace(request.choice, sparsifier=""))
        return self.request.shares_session(own)

    def add(self, point: SweepPoint, packed: Packed) -> None:
        """Take a point as it comes."""
        before = self.sweep
        if before is None:
            result = packed.result
            report = result.report
            self.sweep = Sweep(
                model=report["model"],
                method=report["method"],
                control=report["setting"]["name"],
                classes=result.classes[1:],
                dense_gmacs=report["gmacs"]["dense"],
                points=(point,),
                random=(),
                has_reference=point.dice_to_reference is not None,
                facts={},
            )
        elif point.sparsifier == _RANDOM:
            drawn = before.random or (replace(before.points[0], sparsifier=_RANDOM),)
            self.sweep = replace(before, random=(*drawn, point))
        else:
            self.sweep = replace(before, points=(*before.points, point))
        if point.sparsifier != _RANDOM:
            self.results[point.setting] = packed


def in_words(sweep: Sweep, tolerance: float) -> str:
    """Put the proposed setting into words.

    Parameters
    ----------
    sweep : Sweep
        The curve.
    tolerance : float
        Mean Dice that it may lose.
    """
    point, dense = sweep.propose(tolerance), sweep.points[0]
    name, points = sweep.control, f"{POINTS * tolerance:g} points of dense"
    reached, least = sweep.quality(point), sweep.quality(dense)
    if reached is None or least is None:
        return "No structure was found, so that no setting can be told from another."
    if point is dense:
        return f"No {name} below 1 is within {points}."
    fewer = 1 - point.gmacs / dense.gmacs
    return (
        f"{name.capitalize()} {point.setting:g} is the smallest within {points}: {reached:.3f} "
        f"against {least:.3f}, {fewer:.0%} fewer GMACs.".replace("%", " %")
    )
