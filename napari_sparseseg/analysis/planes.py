"""Three planes of a scan through a point, as a picture that a radiologist can read.

Radiological convention: the patient's right is on the left of the picture. The planes are those
of the scan's own axes nearest to right, anterior and superior, so an oblique scan is not resampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg import colors as palette
from napari_sparseseg.analysis.patches import TokenIndex
from napari_sparseseg.fates import fate_map
from napari_sparseseg.volume import Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patheffects import AbstractPathEffect

    from napari_sparseseg.tokens import TokenTrace

WIDTH, HEIGHT = 1200, 520
"""Pixels that the three planes fit in, side by side and at one scale."""
CROSS = palette.CHOSEN[:7]
"""Colour of the cross-hair."""

_DPI = 100
_GAP = 10  # pixels between planes
_DARKEST, _BRIGHTEST = 0.5, 99.5  # percentiles of the grey window
_SAMPLES = 1_000_000  # voxels that the percentiles are taken from, about
_DIFFERENCE_ALPHA = 0.8
_BARS = (100, 50, 20, 10, 5, 2, 1)  # mm
_MARGIN = 6  # pixels from the edge to what is written there
_ROOM = 70  # pixels that a plane must have along an axis for its two letters


_EDGES = ((0, 0.5), (1, 0.5), (0.5, 1), (0.5, 0))  # left, right, top, bottom


@dataclass(frozen=True)
class _View:
    """A plane: the directions (0 right, 1 anterior, 2 superior) in it and through it."""

    name: str
    across: int
    down: int
    through: int
    letters: str  # at the edges


_VIEWS = (
    _View("axial", 0, 1, 2, "RLAP"),
    _View("coronal", 0, 2, 1, "RLSI"),
    _View("sagittal", 1, 2, 0, "APSI"),
)


@dataclass(frozen=True, eq=False)
class _Upright:
    """A scan and what lies on its grid, with its axes turned to right, anterior, superior."""

    scan: Volume
    labels: NDArray[np.uint8]
    difference: NDArray[np.uint8] | None
    box: tuple[slice, slice, slice]  # what is shown
    centre: tuple[int, int, int]  # voxel of the cross-hair

    def slab(self, view: _View) -> tuple[slice, ...]:
        """Return the shown voxels of a plane; one voxel thick."""
        here = self.centre[view.through]
        return tuple(
            slice(here, here + 1) if axis == view.through else part
            for axis, part in enumerate(self.box)
        )

    def size(self, view: _View) -> tuple[float, float]:
        """Return how wide and how high a plane is, in mm."""
        length = [
            (part.stop - part.start) * step
            for part, step in zip(self.box, self.scan.spacing, strict=True)
        ]
        return length[view.across], length[view.down]


def draw_planes(
    scan: Volume,
    labels: Volume,
    colors: Sequence[str],
    trace: TokenTrace | None,
    point: tuple[float, float, float],
    difference: NDArray[np.uint8] | None = None,
    *,
    field: float | None = None,
) -> bytes:
    """Draw the axial, coronal and sagittal plane through a point.

    Parameters
    ----------
    scan : Volume
        The scan, ``(I, J, K)``.
    labels : Volume
        Class indices on its grid, drawn as contours.
    colors : sequence of str
        "#rrggbb" of each class.
    trace : TokenTrace or None
        The tokens that left are shaded as in the layers: the earlier, the darker.
    point : tuple of float
        RAS mm; the nearest voxel of the scan is shown.
    difference : ndarray, optional
        ``(I, J, K)`` difference map of :mod:`compare`: added, lost and changed voxels are filled.
    field : float, optional
        Edge (mm) of the part around the point that is shown; all of the scan if left out.

    Returns
    -------
    bytes
        A PNG, up to :data:`WIDTH` x :data:`HEIGHT` pixels; all planes are at one scale.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    upright = _turned(scan, labels, difference, point, field)
    window = _grey_window(scan.data)
    sizes = [upright.size(view) for view in _VIEWS]
    places, (wide, high) = _layout(sizes)
    bar = next((length for length in _BARS if length <= min(sizes)[0] / 4), None)
    figure = Figure(figsize=(wide / _DPI, high / _DPI), dpi=_DPI, facecolor="black")
    for view, size, place in zip(_VIEWS, sizes, places, strict=True):
        axes = _plane(figure, place, upright, view, window)
        if trace is not None:
            _shade(axes, upright, view, trace)
        _fill_differences(axes, upright, view)
        _contours(axes, upright, view, colors)
        _cross(axes, upright, view)
        _annotate(axes, view, (place[2] * wide, place[3] * high))
        if bar is not None:
            _scale(axes, size, bar, place[2] * wide / size[0])
    picture = BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    return picture.getvalue()


def _turned(
    scan: Volume,
    labels: Volume,
    difference: NDArray[np.uint8] | None,
    point: tuple[float, float, float],
    field: float | None,
) -> _Upright:
    """Turn the axes; nothing is copied."""
    from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

    turn = io_orientation(scan.affine)
    affine = scan.affine @ inv_ornt_aff(turn, scan.shape)
    upright = Volume(apply_orientation(scan.data, turn), affine)
    voxel = np.rint(np.linalg.solve(affine, [*point, 1.0])[:3])
    i, j, k = np.clip(voxel, 0, np.subtract(upright.shape, 1)).astype(int).tolist()
    x, y, z = (
        _around(at, size, size if field is None else max(1, round(field / step)))
        for at, size, step in zip((i, j, k), upright.shape, upright.spacing, strict=True)
    )
    return _Upright(
        upright,
        apply_orientation(labels.data, turn),
        None if difference is None else apply_orientation(difference, turn),
        (x, y, z),
        (i, j, k),
    )


def _around(at: int, size: int, length: int) -> slice:
    """Return up to ``length`` voxels of an axis around one of them, none beyond its end."""
    length = min(length, size)
    start = min(max(0, at - length // 2), size - length)
    return slice(start, start + length)


def _grey_window(data: NDArray) -> tuple[float, float]:
    """Return the values that are black and white; a few outliers do not count."""
    step = max(1, round((data.size / _SAMPLES) ** (1 / 3)))
    sample = data[::step, ::step, ::step]
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 1.0
    low, high = np.percentile(sample, (_DARKEST, _BRIGHTEST)).tolist()
    if low == high:  # all but a few voxels hold one value
        low, high = float(sample.min()), float(sample.max())
    return low, max(high, low + 1e-6)


def _layout(
    sizes: list[tuple[float, float]],
) -> tuple[list[tuple[float, float, float, float]], tuple[int, int]]:
    """Put planes side by side at one scale.

    Parameters
    ----------
    sizes : list of tuple
        Width and height of each, mm.

    Returns
    -------
    tuple
        Left, bottom, width and height of each as fractions of the picture, and its pixels.
    """
    gaps = _GAP * (len(sizes) - 1)
    across, tallest = sum(wide for wide, _ in sizes), max(high for _, high in sizes)
    scale = min((WIDTH - gaps) / across, HEIGHT / tallest)  # pixels per mm
    picture = (round(across * scale) + gaps, max(1, round(tallest * scale)))
    places, left = [], 0.0
    for wide, high in sizes:
        bottom = (picture[1] - high * scale) / 2
        box = (left, bottom, wide * scale, high * scale)
        places.append((box[0] / picture[0], box[1] / picture[1],
                       box[2] / picture[0], box[3] / picture[1]))  # fmt: skip
        left += wide * scale + _GAP
    return places, picture


def _shown(values: NDArray, view: _View) -> NDArray:
    """Turn a slab into the rows and columns of the picture."""
    return values.squeeze(view.through)[::-1, ::-1].T


def _plane(
    figure: Figure,
    place: tuple[float, float, float, float],
    upright: _Upright,
    view: _View,
    window: tuple[float, float],
) -> Axes:
    """Draw the grey values; x and y are mm from the upper left corner."""
    axes = figure.add_axes(place)
    axes.axis("off")
    _image(axes, _shown(upright.scan.data[upright.slab(view)], view), upright.size(view),
           cmap="gray", vmin=window[0], vmax=window[1], interpolation="bilinear")  # fmt: skip
    return axes


def _image(axes: Axes, values: NDArray, size: tuple[float, float], **kwargs: object) -> None:
    kwargs = {"interpolation": "nearest", **kwargs}
    axes.imshow(values, extent=(0, size[0], size[1], 0), aspect="auto", **kwargs)  # type: ignore[arg-type]


def _shade(axes: Axes, upright: _Upright, view: _View, trace: TokenTrace) -> None:
    slab = upright.slab(view)
    start = np.eye(4)
    start[:3, 3] = [part.start for part in slab]
    plane = Volume(upright.scan.data[slab], upright.scan.affine @ start)
    fates = TokenIndex.of(trace.grid, plane).lift(fate_map(trace))
    shades = [palette.CLEAR, *palette.left(len(trace.stages)), palette.CLEAR, palette.SOME_BLOCKS]
    _image(axes, _colored(_shown(fates, view), shades), upright.size(view))


def _fill_differences(axes: Axes, upright: _Upright, view: _View) -> None:
    if upright.difference is not None:
        fills = [palette.CLEAR, *palette.DIFFERENCES]
        image = _colored(_shown(upright.difference[upright.slab(view)], view), fills)
        image[..., 3] *= _DIFFERENCE_ALPHA
        _image(axes, image, upright.size(view))


def _colored(values: NDArray[np.uint8], table: Sequence[str]) -> NDArray[np.float64]:
    """Look up the colour of each value; ``(rows, columns, 4)``."""
    from matplotlib.colors import to_rgba_array

    return to_rgba_array(table)[values]


def _contours(axes: Axes, upright: _Upright, view: _View, colors: Sequence[str]) -> None:
    labels = np.pad(_shown(upright.labels[upright.slab(view)], view), 1)  # closed at the edge
    steps = upright.scan.spacing[view.across], upright.scan.spacing[view.down]
    x, y = ((np.arange(n) - 0.5) * step for n, step in zip(labels.shape[::-1], steps, strict=True))
    for label in np.unique(labels[labels > 0]).tolist():
        axes.contour(x, y, labels == label, levels=[0.5], colors=[colors[label]], linewidths=1.1)


def _cross(axes: Axes, upright: _Upright, view: _View) -> None:
    """Draw a cross-hair that leaves the point itself free."""
    x, y = (
        (upright.box[axis].stop - upright.centre[axis] - 0.5) * upright.scan.spacing[axis]
        for axis in (view.across, view.down)
    )
    wide, high = upright.size(view)
    gap = 0.04 * max(wide, high)
    for xs, ys in (
        ((0, x - gap), (y, y)),
        ((x + gap, wide), (y, y)),
        ((x, x), (0, y - gap)),
        ((x, x), (y + gap, high)),
    ):
        if xs[0] <= xs[1] and ys[0] <= ys[1]:
            axes.plot(xs, ys, color=CROSS, linewidth=0.72, solid_capstyle="butt")
    axes.set(xlim=(0, wide), ylim=(high, 0))


def _annotate(axes: Axes, view: _View, pixels: tuple[float, float]) -> None:
    """Write the letters of the patient's directions and the name, where there is room."""
    for letter, place in zip(view.letters, _EDGES, strict=True):
        if pixels[place[0] == 0.5] >= _ROOM:  # the top and bottom need height
            _write(axes, letter, place, size=10, weight="bold")
    if pixels[1] >= _ROOM:
        _write(axes, view.name, (0, 0), size=8)


def _write(axes: Axes, text: str, place: tuple[float, float], **style: Any) -> None:
    """Write in white at an edge or corner: ``place`` is in fractions of the plane."""
    x, y = (_MARGIN * (1 - 2 * at) for at in place)
    axes.annotate(
        text,
        place,
        (x, y),
        "axes fraction",
        "offset pixels",
        ha=("left", "center", "right")[round(2 * place[0])],
        va=("bottom", "center", "top")[round(2 * place[1])],
        color="white",
        path_effects=_outline(),
        **style,
    )


def _scale(axes: Axes, size: tuple[float, float], length: int, pixels: float) -> None:
    """Draw a bar of ``length`` mm, each of ``pixels``, in the lower right corner."""
    end, y = size[0] - 8 / pixels, size[1] - 9 / pixels
    axes.plot([end - length, end], [y, y], color="white", linewidth=2, solid_capstyle="butt",
              path_effects=_outline())  # fmt: skip
    axes.text(end - length / 2, y - 4 / pixels, f"{length} mm", ha="center", va="bottom",
              size=7, color="white", path_effects=_outline())  # fmt: skip


def _outline() -> list[AbstractPathEffect]:
    """Return what makes white readable on white tissue."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2, foreground="black")]
