"""One scan stored in many ways: its labels must lie in one place, which SimpleITK looks up."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from benchmarks.torture.rows import Row
from benchmarks.torture.suites import tested
from benchmarks.torture.torture import Torture
from napari_sparseseg.files import read_volume, write_volume
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.volume import Volume
from tests.faults.made import make_segmenter
from tests.geometry import known

ROUNDING = 0.002
"""Share of the voxels that may differ: files keep an affine in single precision."""

Orientation = tuple[tuple[int, ...], tuple[int, ...]]
ORIENTATIONS: tuple[Orientation, ...] = tuple(
    itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3))
)
"""The order of the axes and the sense of each: 48 ways to store the same voxels."""

_SUFFIXES = (".nii.gz", ".nrrd", ".mha")


@dataclass(frozen=True)
class Kind:
    """Scans of one kind.

    Parameters
    ----------
    largest : int
        Longest side in voxels; each is drawn from 1 up to it, the shortest is `shortest`.
    ratio : float
        Largest ratio of two spacings.
    degrees : float
        Largest rotation away from the axes of the body.
    shortest : int
        Shortest side in voxels.
    """

    largest: int
    ratio: float = 1.0
    degrees: float = 0.0
    shortest: int = 9


KINDS = {
    "along the axes, 1 mm": Kind(41),
    "oblique": Kind(41, degrees=40),
    "anisotropic up to 1:20": Kind(41, ratio=20),
    "oblique and anisotropic": Kind(41, ratio=20, degrees=40),
    "smaller than a patch": Kind(9, shortest=2, degrees=20),
    "one slice": Kind(60, shortest=1, ratio=4, degrees=20),
    "larger than a window": Kind(110, shortest=33, degrees=20),
}


def measure(torture: Torture) -> Iterator[Row]:
    """Segment scans stored in many ways, then run what the tests know of geometry."""
    segmenter = make_segmenter(torture.folder)
    random = np.random.default_rng(0)
    yield _all_orientations(segmenter, torture.folder, random)
    for name, kind in KINDS.items():
        row = Row(f"{name}: random scans, each stored in another of the 48 ways")
        for _ in range(torture.share(60, least=4)):
            which = ORIENTATIONS[random.integers(len(ORIENTATIONS))]
            scan, suffix = _scan(kind, random), _SUFFIXES[random.integers(len(_SUFFIXES))]
            row.attempt(lambda: _compare(segmenter, scan, which, torture.folder, suffix))  # noqa: B023
        yield row
    yield _known_answers(torture, random)
    yield from tested(
        torture, "test_canonical.py", "test_restore.py", "test_geometry*.py", "geometry/test_*.py"
    )


def _known_answers(torture: Torture, random: np.random.Generator) -> Row:
    """Try scans whose labels are known at every place, and the token maps beside them."""
    row = Row("random scans whose labels and tissue are known in RAS mm")
    segmenter = known.make_segmenter(torture.folder)
    for _ in range(torture.share(200, least=8)):
        case = known.draw(random)
        row.attempt(lambda: known.check(segmenter, case, torture.folder))  # noqa: B023
    return row


def _all_orientations(segmenter: Segmenter, folder: Path, random: np.random.Generator) -> Row:
    row = Row("one oblique, anisotropic scan of odd size in all 48 ways")
    scan = _scan(Kind(35, ratio=3, degrees=30, shortest=17), random)
    for which in ORIENTATIONS:
        row.attempt(lambda: _compare(segmenter, scan, which, folder, ".nii.gz"))  # noqa: B023
    return row


def _compare(
    segmenter: Segmenter, scan: Volume, way: Orientation, folder: Path, suffix: str
) -> None:
    """Segment a scan, and the same stored otherwise, through files, and compare in RAS mm."""
    expected = segmenter.segment(scan, 0.5).labels
    stored, labels = folder / f"scan{suffix}", folder / f"labels{suffix}"
    write_volume(_stored(scan, way), stored, overwrite=True)
    result = segmenter.segment(read_volume(stored), 0.5)
    write_volume(result.labels, labels, overwrite=True)
    differing = float(np.mean(_in_place(labels, expected) != expected.data))
    assert differing <= ROUNDING, f"{differing:.1%} of the voxels differ, stored as {way}"


def _in_place(labels: Path, grid: Volume) -> NDArray[np.uint8]:
    """Let SimpleITK read labels and look each voxel of a grid up in them."""
    import SimpleITK as sitk

    reference = sitk.Image([int(n) for n in grid.shape], sitk.sitkUInt8)
    lps, spacing = np.diag([-1.0, -1, 1]) @ grid.affine[:3], grid.spacing
    reference.SetSpacing(spacing)
    reference.SetOrigin(lps[:, 3].tolist())
    reference.SetDirection((lps[:, :3] / spacing).ravel().tolist())
    image = sitk.ReadImage(str(labels))
    found = sitk.Resample(image, reference, sitk.Transform(), sitk.sitkNearestNeighbor, 255)
    return sitk.GetArrayFromImage(found).T


def _stored(scan: Volume, way: Orientation) -> Volume:
    """Return a scan whose voxels are stored in another order, at the same place."""
    order, senses = way
    data, affine = scan.data.transpose(order), scan.affine[:, [*order, 3]].copy()
    for axis, sense in enumerate(senses):
        if sense < 0:
            data = np.flip(data, axis)
            affine[:, 3] += affine[:, axis] * (data.shape[axis] - 1)
            affine[:, axis] *= -1
    return Volume(np.ascontiguousarray(data), affine, scan.name)


def _scan(kind: Kind, random: np.random.Generator) -> Volume:
    """Draw a scan: an uneven ellipsoid in air, with no symmetry."""
    shape = [kind.shortest, *random.integers(kind.shortest, kind.largest + 1, 2)]
    shape = [int(n) for n in random.permutation(shape)]
    spacing = np.array([1, kind.ratio ** random.random(), 1.0])
    spacing = random.permutation(spacing) * (0.7 if kind.ratio > 1 else 1)
    turn = Rotation.from_rotvec(_direction(random) * np.radians(kind.degrees * random.random()))
    affine = np.eye(4)
    affine[:3, :3] = turn.as_matrix() * spacing
    affine[:3, 3] = random.uniform(-200, 200, 3)
    reach = [1.05 if n > 8 else (n - 1) / 16 for n in shape]
    axes = [np.linspace(-r, r, n) for r, n in zip(reach, shape, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    tissue = 300 + 90 * np.sin(5 * x + 1) + 70 * np.cos(4 * z + 2 * y) + 60 * np.sin(3 * y - x)
    data = np.where(x**2 + y**2 + z**2 < 1, tissue + random.normal(scale=20, size=shape), 0)
    return Volume(data.astype(np.float32), affine, "scan")


def _direction(random: np.random.Generator) -> NDArray[np.float64]:
    direction = random.normal(size=3)
    return direction / np.linalg.norm(direction)
