"""The three planes: what is where in the picture, seen as a radiologist expects it."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from napari_sparseseg import colors as palette
from napari_sparseseg.analysis.planes import HEIGHT, WIDTH, draw_planes
from napari_sparseseg.tokens import TokenGrid, TokenTrace
from napari_sparseseg.volume import Volume

ORIENTATIONS = [
    "".join(ends[flip] for ends, flip in zip(order, flips, strict=True))
    for order in permutations(("RL", "AP", "SI"))
    for flips in product((0, 1), repeat=3)
]
GAP = 10  # pixels between planes
COLORS = ("#000000", "#ff00ff")
SHAPE, SPACING = (12, 16, 10), (3.0, 2.0, 4.0)  # along R, A, S


class Picture:
    """A picture of planes, addressed by voxels whose axes grow to R, A, S.

    The planes lie side by side, at one scale, centred: axial (R across, A down), coronal (R, S)
    and sagittal (A, S); each of those directions ends at the left or at the top.
    """

    def __init__(
        self, png: bytes, shape: tuple[int, ...] = SHAPE, spacing: tuple[float, ...] = SPACING
    ) -> None:
        self.pixels: NDArray[np.float64] = imread(BytesIO(png))[..., :3]
        self.shape, self.spacing = shape, spacing
        self.mm = [n * step for n, step in zip(shape, spacing, strict=True)]
        across = self.mm[0] + self.mm[0] + self.mm[1]
        self.scale = (self.pixels.shape[1] - 2 * GAP) / across

    def place(self, view: str, r: float, a: float, s: float) -> tuple[float, float]:
        """Return column and row of a voxel, in pixels from the upper left corner."""
        end = [self.mm[i] - (x + 0.5) * self.spacing[i] for i, x in enumerate((r, a, s))]
        left = {"axial": 0, "coronal": 1, "sagittal": 2}[view]
        x, y, high = {
            "axial": (end[0], end[1], self.mm[1]),
            "coronal": (end[0], end[2], self.mm[2]),
            "sagittal": (end[1], end[2], self.mm[2]),
        }[view]
        top = (self.pixels.shape[0] - high * self.scale) / 2
        return left * (self.mm[0] * self.scale + GAP) + x * self.scale, top + y * self.scale

    def at(self, view: str, r: float, a: float, s: float) -> NDArray[np.float64]:
        """Return the colour, 0 to 255, of the pixel in the middle of a voxel."""
        column, row = self.place(view, r, a, s)
        return 255 * self.pixels[int(row), int(column)]


VIEWS = ("axial", "coronal", "sagittal")


def oriented(data: NDArray, affine: NDArray, codes: str) -> Volume:
    """Store an array whose axes grow to R, A, S with other axes, in the same place."""
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    stored = data
    for axis, sign in enumerate(turn[:, 1]):
        stored = np.flip(stored, axis) if sign < 0 else stored
    stored = stored.transpose(np.argsort(turn[:, 0]))
    return Volume(stored, affine @ inv_ornt_aff(turn, data.shape))


def ras(affine: NDArray, voxel: tuple[int, int, int]) -> tuple[float, float, float]:
    x, y, z, _ = (affine @ [*voxel, 1]).tolist()
    return x, y, z


inner = st.tuples(*(st.integers(2, n - 3) for n in SHAPE))


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(ORIENTATIONS), inner, st.floats(-20, 20), st.integers(0, 2))
def test_a_structure_is_where_a_radiologist_looks_for_it(codes, voxel, degrees, axis):
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz"[axis], degrees, degrees=True).as_matrix()
    affine[:3, :3] = turn @ np.diag(SPACING)
    affine[:3, 3] = (-30, 12, 50)
    grey, labels = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.uint8)
    grey[voxel] = 100
    labels[tuple(slice(n - 1, n + 2) for n in voxel)] = 1  # 3 x 3 x 3 voxels around it

    png = draw_planes(
        oriented(grey, affine, codes), oriented(labels, affine, codes), COLORS, None,
        ras(affine, voxel),
    )  # fmt: skip

    picture = Picture(png)
    r, a, s = voxel
    magenta = (picture.pixels > (0.6, -1, 0.6)).all(-1) & (picture.pixels[..., 1] < 0.4)
    for view in VIEWS:
        assert picture.at(view, r, a, s).min() > 240
        assert picture.at(view, r + 1, a + 1, s + 1).max() < 15  # off the cross-hair
        x0, y0 = picture.place(view, r + 1.5, a + 1.5, s + 1.5)
        x1, y1 = picture.place(view, r - 1.5, a - 1.5, s - 1.5)
        left = picture.place(view, SHAPE[0] - 0.5, SHAPE[1] - 0.5, 0)[0]
        right = picture.place(view, -0.5, -0.5, 0)[0]
        rows, columns = np.nonzero(magenta[:, round(left) : round(right)])
        found = [columns.min() + round(left), columns.max() + round(left), rows.min(), rows.max()]
        np.testing.assert_allclose(found, [x0, x1, y0, y1], atol=2.5)


def test_cross_hair_marks_the_point_in_every_plane():
    affine = np.diag([*SPACING, 1])
    black = Volume(np.zeros(SHAPE, np.float32), affine)
    picture = Picture(draw_planes(black, Volume(np.zeros(SHAPE, np.uint8), affine), COLORS, None,
                                  ras(affine, (2, 9, 6))))  # fmt: skip
    cyan = tuple(bytes.fromhex(palette.CHOSEN[1:7]))

    for view, across, down in (
        ("axial", (7, 9, 6), (2, 4, 6)),
        ("coronal", (7, 9, 6), (2, 9, 3)),
        ("sagittal", (2, 4, 6), (2, 9, 3)),
    ):
        for voxel in (across, down):
            x, y = (int(n) for n in picture.place(view, *voxel))
            around = 255 * picture.pixels[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3)
            assert np.abs(around - cyan).max(axis=1).min() < 40


@pytest.mark.parametrize("shape, spacing", [((40, 40, 8), (1, 1, 5)), ((20, 20, 90), (2, 2, 4))])
def test_millimetres_are_as_long_across_as_down(shape, spacing):
    bright = np.ones(shape, np.float32)
    bright[0, 0, 0] = 0
    affine = np.diag([*spacing, 1.0])
    png = draw_planes(Volume(bright, affine), Volume(np.zeros(shape, np.uint8), affine), COLORS,
                      None, (0, 0, 0))  # fmt: skip

    high, wide = imread(BytesIO(png)).shape[:2]
    mm = [n * step for n, step in zip(shape, spacing, strict=True)]
    assert wide <= WIDTH and high <= HEIGHT
    assert wide == WIDTH or high == HEIGHT
    assert (wide - 2 * GAP) / high == pytest.approx((2 * mm[0] + mm[1]) / max(mm[1:]), rel=0.02)


def black_cube(codes: str = "RAS") -> tuple[Volume, Volume, NDArray]:
    """Make a scan of 24 mm that is black, without structures."""
    affine = np.eye(4)
    grey = oriented(np.zeros((24, 24, 24), np.float32), affine, codes)
    return grey, Volume(np.zeros((24, 24, 24), np.uint8), grey.affine), affine


def over_black(color: str, alpha: float | None = None) -> list[float]:
    red, green, blue, own = bytes.fromhex(color[1:].ljust(8, "f"))
    return [c * (own / 255 if alpha is None else alpha) for c in (red, green, blue)]


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SLA"])
def test_tokens_that_left_are_shaded_by_their_stage(codes):
    scan, labels, affine = black_cube(codes)
    grid = TokenGrid.over((24, 24, 24), affine)
    left = np.zeros(grid.shape, np.uint8)
    left[0, 1, 1], left[2, 1, 1], left[1, 0, 1] = 2, 3, 1
    air = np.zeros(grid.shape, bool)
    air[1, 2, 1] = True
    blocks = np.where(left > 0, 2 * left, 8) * ~air
    blocks[0, 0, 1] = 0  # muted for a while: it did not leave, nor run every block
    ran = np.stack([blocks > block for block in range(8)])
    ran[-1, 0, 0, 1] = True
    trace = TokenTrace(grid, "stp", (2, 4, 6), air, np.zeros((3, 3, 3, 3), np.float32), left, ran)

    picture = Picture(draw_planes(scan, labels, COLORS, trace, (11, 11, 11)), (24,) * 3, (1.0,) * 3)

    first, second, third = palette.left(3)
    for voxel, color in {
        (4, 12, 11): second,
        (20, 12, 11): third,
        (12, 4, 11): first,
        (12, 20, 11): palette.CLEAR,  # air
        (20, 20, 11): palette.CLEAR,  # kept
        (4, 4, 11): palette.SOME_BLOCKS,
    }.items():
        np.testing.assert_allclose(picture.at("axial", *voxel), over_black(color), atol=3)
    np.testing.assert_allclose(picture.at("coronal", 20, 11, 12), over_black(third), atol=3)


def test_differences_are_filled_in_their_colours():
    scan, labels, _ = black_cube("LAS")
    upright = np.zeros((24, 24, 24), np.uint8)
    for value, r in ((1, 4), (2, 8), (3, 16)):
        upright[r : r + 2, 14:16, 11] = value
    difference = upright[::-1]  # stored from right to left

    picture = Picture(draw_planes(scan, labels, COLORS, None, (11, 11, 11), difference),
                      (24,) * 3, (1.0,) * 3)  # fmt: skip

    for r, color in zip((4, 8, 16), palette.DIFFERENCES, strict=True):
        found = picture.at("axial", r + 0.5, 14.5, 11)
        np.testing.assert_allclose(found, over_black(color, 0.8), atol=3)
    assert picture.at("axial", 20, 14, 11).max() < 3


def test_a_field_shows_the_part_around_the_point():
    data = np.zeros((60, 60, 60), np.float32)
    data[40, 20, 30] = 1
    labels = Volume(np.zeros(data.shape, np.uint8), np.eye(4))

    png = draw_planes(Volume(data, np.eye(4)), labels, COLORS, None, (40, 20, 30), field=20)

    # 20 voxels from 30, 10 and 20 on
    picture = Picture(png, (20, 20, 20), (1.0, 1.0, 1.0))
    for view in VIEWS:
        assert picture.at(view, 10, 10, 10).min() > 240
    # at the edge there is nothing beyond the scan to show
    near_edge = draw_planes(Volume(data, np.eye(4)), labels, COLORS, None, (58, 20, 30), field=20)
    assert imread(BytesIO(near_edge)).shape == (*picture.pixels.shape[:2], 4)


def test_a_point_outside_shows_the_nearest_voxel():
    data = np.arange(1000, dtype=np.float32).reshape(10, 10, 10)
    labels = Volume(np.zeros(data.shape, np.uint8), np.eye(4))
    draw = [draw_planes(Volume(data, np.eye(4)), labels, COLORS, None, point)
            for point in ((-7, 4, 99), (0, 4, 9), (0, 4, 8))]  # fmt: skip

    assert draw[0] == draw[1] != draw[2]


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan])
def test_a_scan_without_contrast_can_be_drawn(value):
    scan = Volume(np.full((8, 9, 10), value, np.float32), np.eye(4))
    png = draw_planes(scan, Volume(np.zeros(scan.shape, np.uint8), np.eye(4)), COLORS, None,
                      (4, 4, 4))  # fmt: skip

    assert imread(BytesIO(png)).shape[1] > 100


def test_importing_the_pictures_and_the_document_is_light():
    code = (
        "import napari_sparseseg.analysis.planes, napari_sparseseg.analysis.document, sys; "
        "print({'torch', 'monai', 'matplotlib', 'SimpleITK', 'jinja2', 'napari'} & {*sys.modules})"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert result.stdout.strip() == "set()"
